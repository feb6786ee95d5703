"""Examples: frozen rows, read by attribute or bracket."""

from __future__ import annotations

import copy
import pickle

import pytest

from dspex.programs import Example

ROW = Example(question="q", answer=3)


def test_fields_are_read_both_ways() -> None:
    assert ROW.question == ROW["question"] == "q"
    assert dict(ROW) == ROW.to_dict() == {"question": "q", "answer": 3}
    assert (len(ROW), list(ROW), "answer" in ROW, "x" in ROW) == (2, ["question", "answer"], True, False)


def test_a_mapping_can_be_the_start() -> None:
    assert Example({"question": "p", "answer": 3}, question="q") == ROW


def test_a_field_may_have_any_name() -> None:
    assert Example(items=1, self=2)["items"] == 1
    assert Example({"given": 1, "self": 2})["self"] == 2


def test_what_is_missing_is_named() -> None:
    with pytest.raises(AttributeError, match="no field 'x'; it has question, answer"):
        _ = ROW.x
    with pytest.raises(KeyError):
        _ = ROW["x"]


def test_rows_are_frozen() -> None:
    with pytest.raises(AttributeError, match="with_fields"):
        ROW.question = "p"
    with pytest.raises(AttributeError, match="without"):
        del ROW.question


def test_changed_copies() -> None:
    assert ROW.with_fields(answer=4).to_dict() == {"question": "q", "answer": 4}
    assert ROW.without("answer", "x").to_dict() == {"question": "q"}
    assert ROW.answer == 3


def test_equal_rows_hash_alike() -> None:
    assert hash(Example(a=1, b=2)) == hash(Example(b=2, a=1))
    assert hash(Example(a=[1])) == hash(Example(a=[1.0]))
    assert Example(a=[1]) == Example(a=[1.0])
    assert Example(a=1) != Example(a=2)
    assert Example(a=1) != {"a": 1}
    assert len({ROW, Example(question="q", answer=3)}) == 1


def test_copies_are_equal() -> None:
    assert copy.deepcopy(ROW) == pickle.loads(pickle.dumps(ROW)) == ROW


def test_repr_can_be_pasted() -> None:
    assert eval(repr(ROW)) == ROW


@pytest.mark.parametrize("name", ["with_inputs", "inputs", "toDict", "copy"])
def test_a_method_of_dspy_says_what_to_write(name: str) -> None:
    """A field of that name is a field."""
    with pytest.raises(AttributeError, match=rf"no field '{name}'; (nothing needs to be marked|\.\w+\(.*\) returns)"):
        getattr(Example(q="?"), name)
    assert getattr(Example({name: 1}), name) == 1
