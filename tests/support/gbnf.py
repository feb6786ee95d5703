"""GBNF as llama.cpp reads it: a small interpreter that tells whether a text is a sentence of a grammar."""

from __future__ import annotations

import re
from collections.abc import Callable

__all__ = ["accepts"]

Places = frozenset[int]
Match = Callable[[str, Places], Places]
"""From the places where something may begin to those where it may have ended."""

_RULE = re.compile(r"^([a-zA-Z][\w-]*)\s*::=", re.MULTILINE)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t"}


def accepts(grammar: str, text: str) -> bool:
    rules: dict[str, Match] = {}
    heads = list(_RULE.finditer(grammar))
    ends = [each.start() for each in heads[1:]] + [len(grammar)]
    for head, end in zip(heads, ends, strict=True):
        assert head[1] not in rules, f"the rule {head[1]} is there twice"
        rules[head[1]] = _Reader(grammar[head.end() : end], rules).whole()
    return len(text) in rules["root"](text, frozenset({0}))


class _Reader:
    """Reads the right side of one rule."""

    def __init__(self, source: str, rules: dict[str, Match]) -> None:
        self._source = source
        self._rules = rules
        self._at = 0

    def whole(self) -> Match:
        found = self._options()
        assert self._at == len(self._source), f"left over: {self._source[self._at :]!r}"
        return found

    def _peek(self) -> str:
        while self._at < len(self._source) and self._source[self._at] in " \t\n":
            self._at += 1
        return self._source[self._at : self._at + 1]

    def _options(self) -> Match:
        options = [self._row()]
        while self._peek() == "|":
            self._at += 1
            options.append(self._row())
        return lambda text, places: frozenset().union(*(each(text, places) for each in options))

    def _row(self) -> Match:
        parts = []
        while self._peek() not in ("", "|", ")"):
            parts.append(self._repeated(self._one()))

        def match(text: str, places: Places) -> Places:
            for each in parts:
                places = each(text, places) if places else places
            return places

        return match

    def _one(self) -> Match:
        sign = self._peek()
        if sign == '"':
            return _exactly(self._quoted())
        if sign == "[":
            return self._class()
        if sign == "(":
            self._at += 1
            inner = self._options()
            assert self._peek() == ")", "a bracket is open"
            self._at += 1
            return inner
        name = re.match(r"[a-zA-Z][\w-]*", self._source[self._at :])
        assert name is not None, f"not understood: {self._source[self._at :]!r}"
        self._at += name.end()
        return lambda text, places: self._rules[name[0]](text, places)

    def _character(self) -> str:
        sign = self._source[self._at]
        self._at += 1
        if sign != "\\":
            return sign
        kind = self._source[self._at]
        self._at += 1
        if (size := {"x": 2, "u": 4, "U": 8}.get(kind)) is not None:
            digits = self._source[self._at : self._at + size]
            self._at += size
            return chr(int(digits, 16))
        assert kind in _ESCAPED or kind in '"\\[]', f"the escape \\{kind} is not known"
        return _ESCAPED.get(kind, kind)

    def _quoted(self) -> str:
        self._at += 1
        found = []
        while self._source[self._at] != '"':
            found.append(self._character())
        self._at += 1
        return "".join(found)

    def _class(self) -> Match:
        self._at += 1
        negated = self._source[self._at] == "^"
        self._at += negated
        ranges = []
        while self._source[self._at] != "]":
            low = self._character()
            high = low
            if self._source[self._at] == "-" and self._source[self._at + 1] != "]":
                self._at += 1
                high = self._character()
            ranges.append((low, high))
        self._at += 1

        def match(text: str, places: Places) -> Places:
            fitting = (
                at
                for at in places
                if at < len(text) and any(low <= text[at] <= high for low, high in ranges) != negated
            )
            return frozenset(at + 1 for at in fitting)

        return match

    def _repeated(self, one: Match) -> Match:
        sign = self._source[self._at : self._at + 1]
        counts = re.match(r"\{(\d+)(,?)(\d*)\}", self._source[self._at :])
        if counts is not None:
            self._at += counts.end()
            low = int(counts[1])
            return _times(one, low, int(counts[3]) if counts[3] else None if counts[2] else low)
        if sign not in ("*", "+", "?") or not sign:
            return one
        self._at += 1
        return _times(one, int(sign == "+"), 1 if sign == "?" else None)


def _exactly(wanted: str) -> Match:
    return lambda text, places: frozenset(at + len(wanted) for at in places if text.startswith(wanted, at))


def _times(one: Match, low: int, high: int | None) -> Match:
    def match(text: str, places: Places) -> Places:
        for _ in range(low):
            places = one(text, places)
        reached, new, count = places, places, low
        while new and (high is None or count < high):
            new = one(text, new) - reached
            reached, count = reached | new, count + 1
        return reached

    return match
