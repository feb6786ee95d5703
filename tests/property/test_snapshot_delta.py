"""The changes between two snapshots make the one out of the other, whatever is in them."""

from __future__ import annotations

import copy
import itertools
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dspex.app.dashboard.delta import apply, delta

SCALARS = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.5, 1.0]) | st.sampled_from(["", "a", "b"])
KEYS = st.sampled_from(["a", "b", "c", "~", ""])
VALUES = st.recursive(
    SCALARS, lambda below: st.lists(below, max_size=3) | st.dictionaries(KEYS, below, max_size=4), max_leaves=20
)
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=5)


def written(value: object) -> str:
    """1, 1.0 and true are equal in Python, and different on the page."""
    return json.dumps(value, sort_keys=True)


@given(OBJECTS, OBJECTS)
def test_the_changes_lead_from_one_to_the_other(old: dict[str, Any], new: dict[str, Any]) -> None:
    before = copy.deepcopy(old)
    changes = json.loads(json.dumps(delta(old, new)))

    assert written(apply(old, changes)) == written(new)
    assert old == before


@given(OBJECTS)
def test_nothing_changes_nothing(value: dict[str, Any]) -> None:
    assert delta(value, copy.deepcopy(value)) == []


@settings(max_examples=min(settings.default.max_examples, 700) if settings.default else 60)  # up to six worlds each
@given(st.lists(OBJECTS, min_size=2, max_size=6))
def test_a_viewer_that_missed_some_still_arrives(snapshots: list[dict[str, Any]]) -> None:
    """A slow viewer is led from what it has to what is now; how many lie between changes nothing."""
    followed = snapshots[0]
    for before, after in itertools.pairwise(snapshots):
        followed = apply(followed, delta(before, after))
    skipped = apply(snapshots[0], delta(snapshots[0], snapshots[-1]))

    assert written(followed) == written(skipped) == written(snapshots[-1])
