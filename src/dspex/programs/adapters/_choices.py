"""A Literal or an enum: each choice has one text of its own, and texts that mean it."""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Sequence

from dspex.programs.adapters._marks import without_marks

__all__ = ["Choices"]

_NAMED = re.compile(r"(\w+)\[(.*)\]", re.DOTALL)
_WHOLE_NUMBER = re.compile(r"([+-]?\d+)\.0+")


class Choices:
    """
    The possible values.

    Attributes:
        texts: The text of each, in order.
        in_words: All of them, as a prompt says it.
    """

    __slots__ = ("_classes", "_folded", "_json", "_texts", "_values", "in_words", "texts")

    def __init__(self, choices: Sequence[object]) -> None:
        self._texts, self._values = _choice_texts(choices)
        self._folded: dict[str, object] | None = None
        self._classes = {type(each).__name__ for each in choices if isinstance(each, enum.Enum)}
        self.texts = tuple(self._texts[_choice_key(each)] for each in choices)
        self.in_words = f"exactly one of: {', '.join(self.texts)}"
        self._json: dict[tuple[type, object], object] = {}
        """The choice that a JSON value stands for: first those that are that value, then enum members with it."""
        for each in sorted(choices, key=lambda choice: isinstance(choice, enum.Enum)):
            if (value := _json_of_choice(each)) is not None or each is None:
                self._json.setdefault(_choice_key(value), each)

    def text_of(self, value: object) -> str | None:
        """Return a choice's own text; None for what is none of them."""
        try:
            return self._texts[_choice_key(value)]
        except (KeyError, TypeError):
            return None

    def json_of(self, value: object) -> str | None:
        """Return a choice as JSON has it: itself, or an enum member's value; None where only its text will do."""
        plain = _json_of_choice(value)
        if self._json.get(_choice_key(plain), self) == value and (plain is not None or value is None):
            return json.dumps(plain, ensure_ascii=False)
        return None

    def read(self, text: str) -> tuple[object, str]:
        """
        Return the choice that a text means, and the repair it took.

        Quotes, bold, a full stop, an enum's class before its name, ``Literal[…]`` around it, and its case are forgiven.

        Raises:
            ValueError: It means none of them.
        """
        try:
            return self._values[text], ""
        except KeyError:
            pass
        bare = without_marks(text)
        for candidate in (bare, self._inner(bare)):
            if candidate and candidate in self._values:  # "Maybe." is not "nothing"
                return self._values[candidate], "literal"
        folded = self._folded
        if folded is None:
            folded = self._folded = _without_case(self._values)
        plain = self._inner(bare).rstrip(".").casefold()
        if plain and plain in folded:
            return folded[plain], "literal"
        raise ValueError(f"{_short(text)} is not {self.in_words}")

    def read_json(self, value: object) -> tuple[object, str]:
        """
        Return the choice that a JSON value means, and the repair it took.

        Raises:
            ValueError: It means none of them.
        """
        if isinstance(value, (str, int, float, type(None))):
            key = _choice_key(value)
            if key in self._json:
                return self._json[key], ""
            return self.read(value if isinstance(value, str) else json.dumps(value))
        raise ValueError(f"{_short(str(value))} is not {self.in_words}")

    def _inner(self, text: str) -> str:
        """Take off what stands around a choice as types are written: ``Literal[a]``, ``Color.RED``, ``1.0``."""
        named = _NAMED.fullmatch(text)
        if named is not None and named[1] in ("Literal", "str", "int", *self._classes):
            text = without_marks(named[2])
        before, dot, after = text.partition(".")
        if dot and before in self._classes:
            return after
        whole = _WHOLE_NUMBER.fullmatch(text)
        return whole[1] if whole is not None else text


def _choice_key(value: object) -> tuple[type, object]:
    """1, True and Color.RED == 1 are different choices."""
    return type(value), value


def _json_of_choice(choice: object) -> object:
    """Return the JSON value that is a choice; None where only its text will do."""
    value = choice.value if isinstance(choice, enum.Enum) else choice
    return value if type(value) in (str, int, bool) else None


def _choice_texts(choices: Sequence[object]) -> tuple[dict[tuple[type, object], str], dict[str, object]]:
    """Give each choice the first of its texts that is free, and read every text that means one choice."""
    texts: dict[tuple[type, object], str] = {}
    values: dict[str, object] = {}
    for choice in choices:
        names = _choice_names(choice)
        text = next((each for each in names if each and each == each.strip() and each not in values), None)
        while text is None or text in values:
            text = json.dumps(names[0] if text is None else text)
        texts[_choice_key(choice)] = text
        values[text] = choice
    for choice in choices:
        for each in _choice_names(choice):
            values.setdefault(each, choice)
    return texts, values


def _without_case(values: dict[str, object]) -> dict[str, object]:
    """Return the choices by their texts in any case; where two differ by nothing else, neither."""
    found: dict[str, list[object]] = {}
    for text, choice in values.items():
        found.setdefault(text.casefold(), []).append(choice)
    return {text: several[0] for text, several in found.items() if len(set(map(_choice_key, several))) == 1}


def _choice_names(choice: object) -> tuple[str, ...]:
    if isinstance(choice, enum.Enum):
        return str(choice.value), choice.name
    return ("null", "None", "") if choice is None else (str(choice),)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "…")
