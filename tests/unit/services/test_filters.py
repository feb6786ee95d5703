"""Filters and metadata: the short form, the meaning of each condition, and what is refused where it is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dspex.errors import FilterInvalid, PassageInvalid
from dspex.protocols.filters import And, Equals, Exists, Filter, FilterLike, Not, OneOf, Or, Range, as_filter, fits
from dspex.protocols.metadata import Metadata
from dspex.protocols.retrieval import Passage, checked_passages

ANYTHING: Callable[[object], Any] = lambda value: value  # noqa: E731 - what a type checker would refuse
OLD: Metadata = {"year": 1999, "lang": "de", "tags": ["birds", "water"], "draft": False}


@pytest.mark.parametrize(
    ("given", "whole"),
    [
        (None, None),
        ({}, None),
        (And(), None),
        ({"year": 2020}, Equals("year", 2020)),
        ({"lang": ["de", "en"]}, OneOf("lang", ("de", "en"))),
        ({"year": 2020, "lang": "de"}, And(Equals("year", 2020), Equals("lang", "de"))),
        (And({"year": 2020}, Not({"lang": "de"})), And(Equals("year", 2020), Not(Equals("lang", "de")))),
    ],
)
def test_the_short_form_stands_for_records(given: FilterLike | None, whole: Filter | None) -> None:
    assert as_filter(given) == whole


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        (Equals("year", 1999), True),
        (Equals("year", 1999.0), True),
        (Equals("year", "1999"), False),
        (Equals("draft", False), True),
        (Equals("draft", 0), False),
        (Equals("tags", "water"), True),
        (Equals("none", None), False),
        (OneOf("lang", ["en", "de"]), True),
        (OneOf("lang", []), False),
        (Range("year", at_least=1999, below=2000), True),
        (Range("year", above=1999), False),
        (Range("year", at_most=1998), False),
        (Range("lang", at_least="da", at_most="dz"), True),
        (Range("lang", at_least=0), False),
        (Range("year", at_least=""), False),
        (Range("tags", above="w"), True),
        (Range("draft", at_least=0), False),
        (Exists("draft"), True),
        (Not(Exists("author")), True),
        (And(), True),
        (Or(), False),
        (Or(Equals("lang", "en"), Equals("year", 1999)), True),
        (Not(And(Equals("lang", "de"), Equals("year", 1999))), False),
    ],
)
def test_each_condition_means_what_it_says(filter: Filter, expected: bool) -> None:
    assert fits(filter, OLD) is expected


def test_a_list_without_items_is_no_value() -> None:
    assert not fits(Exists("tags"), {"tags": []})
    assert fits(Equals("tags", None), {"tags": None})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Range("year"), "needs a bound"),
        (lambda: Range("year", at_least=1, below="2"), "all numbers or all texts"),
        (lambda: Range("year", at_least=True), "all numbers or all texts"),
        (lambda: Range("year", at_least=float("nan")), "is nan"),
        (lambda: OneOf("year", "2020"), "needs a list of values, not str"),
        (lambda: OneOf("year", [1] * 1001), "1001 values"),
        (lambda: Equals("year", ANYTHING({})), "of type dict"),
        (lambda: Equals("year", 2**63), "more than 64 bits"),
        (lambda: Equals("\ud800", 1), "name must be a text"),
        (lambda: Equals(ANYTHING(1), 1), "name must be a text"),
        (lambda: as_filter(ANYTHING("year = 2020")), "filter of type str"),
        (lambda: as_filter({"year": ANYTHING({"at_least": 3})}), "of type dict"),
        (lambda: as_filter(Or(*({"a": [1] * 600} for _ in range(2)))), "more than 1000 conditions"),
        (lambda: as_filter(nested(9)), "nested more than 8 deep"),
    ],
)
def test_what_cannot_be_asked_is_refused_where_it_is_written(make: Callable[[], object], message: str) -> None:
    with pytest.raises(FilterInvalid, match=message) as caught:
        make()
    assert isinstance(caught.value, ValueError)


def nested(depth: int) -> Filter:
    made: Filter = Equals("a", 1)
    for _ in range(depth - 1):
        made = Not(made)
    return made


def test_the_deepest_filter_is_asked() -> None:
    assert as_filter(nested(8)) == nested(8)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ([("year", 1)], "metadata of type list"),
        ({1: 1}, "name of type int"),
        ({"a": {}}, r"metadata\['a'\] is of type dict"),
        ({"a": [[1]]}, r"metadata\['a'\] is of type list"),
        ({"a": float("inf")}, "is inf"),
        ({"a": "\ud800"}, "without a UTF-8 form"),
        ({"\ud800": 1}, "name without a UTF-8 form"),
        ({"a": 2**63}, "64 bits"),
        ({"a": "x" * 20_000}, "takes 20008 bytes"),
        ({str(n): n for n in range(65)}, "has 65 names"),
    ],
)
def test_metadata_is_small_and_flat(metadata: Metadata, message: str) -> None:
    with pytest.raises(PassageInvalid, match=message):
        Passage("text", metadata=metadata)


def test_a_passage_is_hashable_and_holds_a_copy() -> None:
    """Its metadata is no part of the hash, but of the equality."""
    about = {"tags": ["a"]}
    passage = Passage("text", metadata=about)
    about["tags"].append("b")

    assert passage.metadata == {"tags": ["a"]}
    assert hash(passage) == hash(Passage("text"))
    assert passage != Passage("text")


def test_passages_without_an_id_get_that_of_their_content() -> None:
    """The same content is there once; other metadata is other content."""
    first, again, other = Passage("a", "t"), Passage("a", "t", 3.0), Passage("a", "t", metadata={"year": 1})
    kept = checked_passages([first, again, other, Passage("old", id="x"), Passage("new", id="x")])

    assert [(each.text, each.score) for each in kept] == [("a", 0.0), ("a", 0.0), ("new", 0.0)]
    assert len({each.id for each in kept}) == 3
    assert kept[0].id == checked_passages([first])[0].id


@pytest.mark.parametrize(
    ("passage", "message"),
    [
        ("text", "passage 7 is of type str"),
        (Passage(None), "passage 7 has a title, text or id that is not a str"),  # type: ignore[arg-type]
        (Passage("text", id="\udc00"), "passage 7 .* holds text without a UTF-8 form"),
    ],
)
def test_a_passage_that_cannot_be_kept_is_named(passage: Passage, message: str) -> None:
    with pytest.raises(PassageInvalid, match=message):
        checked_passages([passage], first=7)
