"""Our ``dataclass`` beside the standard library's: the same class, whatever it is asked for."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from dataclasses import FrozenInstanceError, field
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex._dataclass import dataclass

NAN = float("nan")
FLAGS = ("init", "repr", "eq", "frozen", "slots", "kw_only")
SHAPES: dict[str, Any] = {
    "plain": lambda: ({"a": int, "b": str}, {}),
    "none": lambda: ({}, {}),
    "one": lambda: ({"a": int}, {}),
    "defaults": lambda: ({"a": int, "b": str, "c": float}, {"b": "x", "c": 2.0}),
    "factories": lambda: (
        {"a": int, "b": list, "c": list, "d": dict},
        {"b": field(default_factory=list), "c": field(default_factory=list, init=False), "d": field(default=None)},
    ),
    "hidden": lambda: (
        {"a": int, "b": str, "c": int},
        {"b": field(repr=False, default="s"), "c": field(compare=False, default=3)},
    ),
    "not hashed": lambda: (
        {"a": int, "b": dict, "c": int},
        {"b": field(hash=False, default_factory=dict), "c": field(hash=True, compare=False, default=3)},
    ),
    "outside": lambda: ({"a": int, "b": int}, {"b": field(init=False, default=4)}),
    "by name": lambda: ({"a": int, "b": int}, {"a": field(kw_only=True, default=1)}),
    "class variable": lambda: ({"a": int, "b": ClassVar[int]}, {"b": 9}),
    "own methods": lambda: (
        {"a": int},
        {
            "__repr__": lambda self: "mine",
            "__eq__": lambda self, other: True,
            "__init__": lambda self, a=1: object.__setattr__(self, "a", a),
        },
    ),
    "own hash": lambda: ({"a": int}, {"__hash__": lambda self: 5}),
    "afterwards": lambda: ({"a": int}, {"__post_init__": lambda self: object.__setattr__(self, "a", self.a + 1)}),
}


def class_of(decorator: Any, shape: str, flags: dict[str, bool], doc: str | None) -> type:
    annotations, members = SHAPES[shape]()
    made = type("Thing", (), {"__annotations__": annotations, "__module__": __name__, "__doc__": doc, **members})
    decorated: type = decorator(**flags)(made)
    return decorated


def outcome(do: Any) -> Any:
    try:
        return do()
    except FrozenInstanceError:
        return TypeError  # which 3.11 says of its own of an attribute that is not a field, where there are slots
    except Exception as error:
        return type(error)


def seen(cls: type, arguments: tuple[Any, ...], names: dict[str, Any]) -> list[Any]:
    """Return all that can be told of a class by using it."""
    made, again = (outcome(lambda: cls(*arguments, **names)) for _ in range(2))
    told = [
        [(each.name, each.type, each.init, each.kw_only) for each in dataclasses.fields(cls)],
        cls.__match_args__,  # type: ignore[attr-defined]
        str(inspect.signature(cls.__init__)),  # type: ignore[misc]
        getattr(cls, "__hash__", None) is None,
        repr(cls.__dataclass_params__),  # type: ignore[attr-defined]
        cls.__doc__ == "said",
    ]
    if isinstance(made, type):
        return [*told, made]
    for name in ("a", "b", "c", "d", "other"):
        told += [
            outcome(lambda name=name: getattr(made, name)),
            outcome(lambda name=name: setattr(copy.copy(made), name, 7)),
            outcome(lambda name=name: delattr(copy.copy(made), name)),
        ]
    kind: Any = type(made)
    is_plain = kind.__repr__ is object.__repr__  # which shows an address
    return [
        *told,
        is_plain or outcome(lambda: repr(made)),
        outcome(lambda: made == again),
        outcome(lambda: made != again),
        made == 3,
        kind.__hash__ is object.__hash__ or outcome(lambda: hash(made)),
        outcome(lambda: dataclasses.astuple(copy.deepcopy(made))),
        outcome(lambda: dataclasses.astuple(dataclasses.replace(made, a=12))),
        hasattr(made, "__dict__"),
    ]


@given(
    st.sampled_from(sorted(SHAPES)),
    st.dictionaries(st.sampled_from(FLAGS), st.booleans()),
    st.lists(st.integers(0, 3), max_size=3).map(tuple),
    st.dictionaries(st.sampled_from("abcd"), st.integers(0, 3), max_size=2),
    st.sampled_from([None, "said"]),
)
def test_it_is_the_standard_librarys(
    shape: str, flags: dict[str, bool], arguments: tuple[int, ...], names: dict[str, int], doc: str | None
) -> None:
    ours = outcome(lambda: class_of(dataclass, shape, flags, doc))
    theirs = outcome(lambda: class_of(dataclasses.dataclass, shape, flags, doc))
    if ours in (TypeError, ValueError) or theirs in (TypeError, ValueError):
        assert ours is theirs
    else:
        assert seen(ours, arguments, names) == seen(theirs, arguments, names)


@dataclass(frozen=True, slots=True)
class Point:
    x: float
    y: float = 0.0


@dataclass(frozen=True)
class Open:
    x: float


class Wider(Open):
    """Has an attribute of its own beside frozen fields."""


def test_a_value_is_carried_whole() -> None:
    """By every way in which Python copies an object."""
    assert pickle.loads(pickle.dumps(Point(1.0, 2.0))) == Point(1.0, 2.0)
    assert copy.copy(Point(1.0)) == copy.deepcopy(Point(1.0)) == Point(1.0)


def test_the_same_nan_is_equal() -> None:
    """The fields are compared as tuples are."""
    assert Point(NAN) == Point(NAN)
    assert Open(NAN) == Open(NAN)


def test_fields_are_frozen_and_what_a_subclass_adds_is_not() -> None:
    wider = Wider(1.0)
    wider.more = 3  # type: ignore[attr-defined]
    del wider.more  # type: ignore[attr-defined]
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'x'"):
        wider.x = 2.0  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError, match="cannot delete field 'x'"):
        del wider.x


def test_an_object_within_itself_is_shown() -> None:
    @dataclass
    class Chain:
        link: object = None

    chain = Chain()
    chain.link = chain
    assert repr(chain).endswith(".Chain(link=...)")


def test_a_class_with_more_to_decide_is_the_standard_librarys() -> None:
    """One with a base, an order, or a hash in spite of changes."""

    @dataclass(order=True)
    class Ordered:
        a: int

    @dataclass(unsafe_hash=True)
    class Hashed:
        a: int

    @dataclass(frozen=True, slots=True)
    class Sub(Point):
        z: float = 1.0

    assert Ordered(1) < Ordered(2)
    assert hash(Hashed(1)) == hash(Hashed(1))
    assert Sub(1.0) == Sub(1.0, 0.0, 1.0) != Sub(2.0)
