"""
Programs of many shapes, written once for DSPy and dspex alike, and what an optimizer would have put into them.

The library is an argument, because the two are installed in environments of their own: this module imports neither.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel

__all__ = ["SHAPES", "Shape"]

Lib = Any  # the module dspy, or the module dspex
Demos = list[dict[str, Any]]


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Address(BaseModel):
    street: str
    number: int


class Person(BaseModel):
    name: str
    addresses: list[Address]


@dataclass(frozen=True)
class Change:
    """The demonstrations of one predictor."""

    instructions: str | None = None
    demos: Demos = field(default_factory=list)
    descs: dict[str, str] = field(default_factory=dict)
    prefixes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Shape:
    """A program, and what was learnt by predictor path."""

    make: Callable[[Lib], Any]
    changes: dict[str, Change]


def _module(lib: Lib, **parts: Any) -> Any:
    """Make a module with these attributes."""

    class Program(lib.Module):  # type: ignore[misc]  # the library is an argument
        def __init__(self) -> None:
            super().__init__()
            for name, part in parts.items():
                setattr(self, name, part)

        async def forward(self, **inputs: Any) -> None: ...

    return Program()


def _signature(lib: Lib, doc: str, inputs: dict[str, Any], outputs: dict[str, Any], **descs: str) -> Any:
    """Make a class signature."""
    body: dict[str, Any] = {"__doc__": doc, "__annotations__": {**inputs, **outputs}, "__module__": __name__}
    body |= {name: lib.InputField(**({"desc": descs[name]} if name in descs else {})) for name in inputs}
    body |= {name: lib.OutputField(**({"desc": descs[name]} if name in descs else {})) for name in outputs}
    return type(lib.Signature)("Made", (lib.Signature,), body)


QA = "question -> answer"
LABELLED = {"question": "Who wrote it?", "answer": "Ada"}
AUGMENTED = {"augmented": True, "question": "Who?", "reasoning": "It is said.", "answer": "Ada"}
QUOTES = "Say \"yes\" or 'no'.\n\nUse {braces}, ${dollars}, \\backslashes\\ and [[ ## markers ## ]]."
UNICODE = "Antworte auf Deutsch: Größe, 日本語, 🦋, and a line\u2028separator."


def _shapes() -> dict[str, Shape]:
    def predict(text: str) -> Callable[[Lib], Any]:
        return lambda lib: lib.Predict(text)

    def inside(**texts: str) -> Callable[[Lib], Any]:
        return lambda lib: _module(lib, **{name: lib.Predict(text) for name, text in texts.items()})

    def react(lib: Lib) -> Any:
        def search(query: str) -> str:
            """Search the web."""
            return query

        return lib.ReAct(QA, tools=[search])

    def shared(lib: Lib) -> Any:
        one = lib.Predict(QA)
        return _module(lib, first=one, second=one, third=lib.Predict(QA))

    def deep(lib: Lib) -> Any:
        inner = _module(lib, cot=lib.ChainOfThought(QA))
        return _module(lib, outer=_module(lib, middle=inner), last=lib.Predict("answer -> good: bool"))

    return {
        "bare": Shape(predict(QA), {"self": Change("Be brief.", [LABELLED])}),
        "untouched": Shape(predict("a, b -> c"), {}),
        "chain": Shape(lambda lib: lib.ChainOfThought(QA), {"predict": Change("Think.", [AUGMENTED, LABELLED])}),
        "one_inside": Shape(inside(answer=QA), {"answer": Change("Answer.", [LABELLED] * 3)}),
        "two_inside": Shape(
            inside(query="question -> query", answer="query -> answer"),
            {"query": Change("Make a query."), "answer": Change(demos=[{"query": "q", "answer": "a"}])},
        ),
        "chain_inside": Shape(
            lambda lib: _module(lib, answer=lib.ChainOfThought(QA)), {"answer.predict": Change(demos=[AUGMENTED])}
        ),
        "nested": Shape(deep, {"outer.middle.cot.predict": Change("Deep.", [AUGMENTED]), "last": Change("Judge.")}),
        "list": Shape(
            lambda lib: _module(lib, steps=[lib.Predict(QA) for _ in range(3)]),
            {"steps[0]": Change("First."), "steps[2]": Change("Third.", [LABELLED])},
        ),
        "list_of_modules": Shape(
            lambda lib: _module(lib, steps=[_module(lib, ask=lib.Predict(QA)), lib.ChainOfThought(QA)]),
            {"steps[0].ask": Change("First."), "steps[1].predict": Change("Second.", [AUGMENTED])},
        ),
        "dict": Shape(
            lambda lib: _module(lib, by={"first": lib.Predict(QA), "a key": lib.ChainOfThought(QA)}),
            {"by['first']": Change("One."), "by['a key'].predict": Change("Other.", [AUGMENTED])},
        ),
        "shared": Shape(shared, {"first": Change("Shared.", [LABELLED]), "third": Change("Own.")}),
        "quotes": Shape(
            predict(QA), {"self": Change(QUOTES, [{"question": QUOTES, "answer": '"'}], {"answer": QUOTES})}
        ),
        "unicode": Shape(
            predict(QA), {"self": Change(UNICODE, [{"question": UNICODE, "answer": "é"}], {"question": UNICODE})}
        ),
        "long": Shape(predict(QA), {"self": Change("Word. " * 2_000, [LABELLED] * 40)}),
        "empty_texts": Shape(predict(QA), {"self": Change("", [{"question": "", "answer": ""}])}),
        "several_outputs": Shape(
            predict("text -> topics: list[str], score: float, is_good: bool, count: int"),
            {"self": Change(demos=[{"text": "t", "topics": ["a", "b"], "score": 0.5, "is_good": True, "count": 3}])},
        ),
        "literal": Shape(
            predict("text -> mood: Literal['happy', 'sad']"), {"self": Change(demos=[{"text": "t", "mood": "sad"}])}
        ),
        "optional": Shape(
            predict("text -> year: Optional[int]"),
            {"self": Change(demos=[{"text": "t", "year": None}, {"text": "u", "year": 1843}])},
        ),
        "incomplete_demos": Shape(
            lambda lib: lib.ChainOfThought(QA),
            {
                "predict": Change(
                    demos=[{"question": "q"}, {"answer": "a"}, {"question": "q", "answer": "a", "note": 1}]
                )
            },
        ),
        "descriptions": Shape(
            lambda lib: lib.Predict(
                _signature(lib, "Do it.", {"source": str}, {"result": str}, source="what to read", result="in words")
            ),
            {"self": Change(descs={"result": "in three words"})},
        ),
        "models": Shape(
            lambda lib: lib.Predict(_signature(lib, "Find them.", {"text": str}, {"people": list[Person]})),
            {
                "self": Change(
                    demos=[{"text": "t", "people": [Person(name="Ada", addresses=[Address(street="S", number=1)])]}]
                )
            },
        ),
        "enums": Shape(
            lambda lib: lib.Predict(
                _signature(lib, "Name it.", {"text": str}, {"color": Color, "size": Literal["s", "l"]})
            ),
            {"self": Change("Name the color.", [{"text": "t", "color": Color.BLUE, "size": "s"}])},
        ),
        "dict_outputs": Shape(
            predict("text -> counts: dict[str, int], nested: list[dict[str, list[int]]]"),
            {"self": Change(demos=[{"text": "t", "counts": {"ä": 1}, "nested": [{"a": [1, 2]}]}])},
        ),
        "image": Shape(
            lambda lib: lib.Predict(_signature(lib, "Look.", {"picture": lib.Image}, {"caption": str})),
            {"self": Change("Look closely.")},
        ),
        "history": Shape(
            lambda lib: lib.Predict(
                _signature(lib, "Go on.", {"history": lib.History, "question": str}, {"answer": str})
            ),
            {"self": Change("Go on politely.")},
        ),
        "react": Shape(
            react,
            {
                "react": Change(
                    "Use the tools.",
                    [
                        {
                            "augmented": True,
                            "question": "Who?",
                            "trajectory": "[[ ## thought_0 ## ]]\nLook.",
                            "next_thought": "Look it up.",
                            "next_tool_name": "search",
                            "next_tool_args": {"query": "Ada"},
                        }
                    ],
                ),
                "extract.predict": Change(demos=[{**AUGMENTED, "trajectory": "…"}]),
            },
        ),
        "prefixes": Shape(
            predict("text2number, HTMLParser -> someAnswer, final_answer"),
            {"self": Change(prefixes={"final_answer": "The Final One:"})},
        ),
    }


SHAPES = _shapes()
