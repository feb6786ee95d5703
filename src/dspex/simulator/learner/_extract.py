"""
Values of a shape out of a text, by types and by the text's own labels; what the fields mean is not known.

A label stands before its value (``Total: 42.50``, ``her city is Oslo``) and shares a word with the field's name. Where
there is none, numbers and names are taken in the order in which they stand. Nothing is taken twice.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from dspex.simulator.learner._text import FUNCTION_WORDS, PHRASE, number_text, numbers, sentences, stems

T = TypeVar("T")
Schema = Mapping[str, object]
_BULLET = re.compile(r"^[ \t]*(?:[-*•]|\d{1,3}[.)])[ \t]+", re.MULTILINE)
_PARTS = re.compile(r"\s*;\s*|,\s+and\s+|,\s+|\s+and\s+|(?<=[.!?])\s+")
_START, _NAME, _VALUE = r"(?:^|(?<=[;,.\n]))[ \t]*[-*•]?[ \t]*", r"(\w[\w '/-]{0,40})[ \t]*", r"[ \t]*([^;\n]+)"
_LABELLED = re.compile(f"{_START}{_NAME}[:=]{_VALUE}", re.MULTILINE)
_JOINS = r"and|or|but|with|at|in|on|by|for|from"
_CLAUSE_END = re.compile(rf"[,;\n]|[.!?](?:\s|$)|\s(?:{_JOINS})\s")
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:,\d{3})*(?:\.\d+)?")
_WORD = re.compile(r"[^\W\d_]+")
_QUOTED = re.compile(r"\"([^\"\n]{1,80})\"|'([^'\n]{1,80})'(?!\w)|«([^»\n]{1,80})»")
_DAY = r"\b\d{4}-\d{2}-\d{2}"
_FORMS = {
    "date": re.compile(rf"{_DAY}\b"),
    "date-time": re.compile(rf"{_DAY}[T ]\d{{2}}:\d{{2}}(?::\d{{2}})?(?:Z|[+-]\d{{2}}:\d{{2}})?"),
    "time": re.compile(r"\b\d{2}:\d{2}(?::\d{2})?\b"),
    "email": re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"),
    "uri": re.compile(r"\bhttps?://[^\s<>\"']+"),
    "uuid": re.compile(r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b"),
}
_DEPTH, _NESTED = 8, 3
_MOST = 50  # items of a list
_SEEN = 200  # labels, names, mentions and numbers: a prompt may hold very many


def is_structured(schema: Schema) -> bool:
    """Say whether a shape has members to be filled: an object, or a list of objects."""
    items = schema.get("items")
    return isinstance(schema.get("properties"), Mapping) or (isinstance(items, Mapping) and is_structured(items))


def fitted(value: str, schema: Schema) -> object:
    """Give a value the JSON type its schema asks for; an object gets it in every member, a list once."""
    kind, items, properties, enum = (schema.get(key) for key in ("type", "items", "properties", "enum"))
    if isinstance(enum, list) and enum:
        return next((one for one in enum if str(one) == value), enum[0])
    if kind == "array":
        return [fitted(value, items if isinstance(items, Mapping) else {})]
    if kind == "object":
        held = properties.items() if isinstance(properties, Mapping) else ()
        return {name: fitted(value, one) for name, one in held if isinstance(one, Mapping)}
    if kind in ("integer", "number"):
        return _as_number(next(iter(numbers(value)), 0.0), kind)
    return value == "True" if kind == "boolean" else value


def _as_number(number: float, kind: object) -> object:
    return int(number) if kind == "integer" or number_text(number).lstrip("-").isdigit() else number


def names_in(text: str) -> list[str]:
    """
    Return what a text quotes, else its names in order, each once.

    A lone first word of a sentence is a name only where the text has no other: it has its capital anyway.
    """
    quoted = ["".join(found) for found in _QUOTED.findall(text)]
    if quoted:
        return list(dict.fromkeys(quoted))
    starts = {text.find(each) for each in sentences(text)}
    found = [match for match in PHRASE.finditer(text) if not _is_small(match.group())]
    inside = [match for match in found if match.start() not in starts or " " in match.group()]
    return list(dict.fromkeys(_without_small(match.group()) for match in (inside or found)))


def _is_small(phrase: str) -> bool:
    return all(word.lower() in FUNCTION_WORDS for word in _WORD.findall(phrase))


def _without_small(phrase: str) -> str:
    words = phrase.split(" ")
    while len(words) > 1 and _is_small(words[0]):
        words = words[1:]
    return " ".join(words)


def extract(schema: Schema, text: str) -> object:
    """Return a value of the shape, filled from the text."""
    return _Filler(text).value("", schema, 0)


class _Filler:
    """A text, and what of it has been taken: characters by their places."""

    def __init__(self, text: str, *, is_item: bool = False) -> None:
        self.text = text
        self.is_item = is_item
        self.taken: list[tuple[int, int]] = []
        self.labels = [(stems(found.group(1)), found) for found in _few(_LABELLED.finditer(text))]
        self.names = names_in(text)[:_SEEN]
        self.dates = [found.span() for found in _few(_FORMS["date"].finditer(text))]

    def value(self, name: str, schema: Schema, depth: int) -> object:
        properties, items, enum, kind = (schema.get(key) for key in ("properties", "items", "enum", "type"))
        if depth > _DEPTH:
            return fitted("", schema)
        if isinstance(enum, list) and enum:
            return self._choice(name, enum)
        if isinstance(properties, Mapping):
            fields = {str(each): own for each, own in properties.items() if isinstance(own, Mapping)}
            # Labelled fields first: what has no label may take only what they leave.
            order = sorted(fields, key=lambda each: self._labelled(each, take=False) is None)
            filled = {each: self.value(each, fields[each], depth + 1) for each in order}
            return {each: filled[each] for each in fields}
        if kind == "array":
            return self._list(name, items if isinstance(items, Mapping) else {}, depth)
        if kind in ("integer", "number"):
            return _as_number(self._number(name), kind)
        if kind == "boolean":
            return self._flag(name)
        return self._words(name, schema) if kind in ("string", None) else fitted("", schema)

    # --- lists ------------------------------------------------------------------------------------------------

    def _list(self, name: str, items: Schema, depth: int) -> list[object]:
        if is_structured(items):
            parts = self._parts(items)
            if depth > _NESTED and parts == [self.text]:
                return []  # a shape that holds itself, and a text that does not
            return [_Filler(part, is_item=part != self.text).value(name, items, depth + 1) for part in parts]
        label = self._labelled(name)
        if "enum" in items and isinstance(items["enum"], list):
            said = (label or self.text).lower()
            return [one for one in items["enum"] if str(one).lower() in said] or items["enum"][:1]
        if items.get("type") in ("integer", "number"):
            given = numbers(label or self.text)[:_MOST]
            return [_as_number(number, items.get("type")) for number in given]
        if label is not None:
            return [part.strip(" .") for part in _PARTS.split(label) if part and part.strip(" .")][:_MOST]
        return list(self.names[:_MOST]) or [*sentences(self.text)[:1]]

    def _parts(self, items: Schema) -> list[str]:
        """Cut the text into pieces that can each fill an item: lines, else clauses; else it is one piece."""
        wanted = _numbers_in(items)
        listed = [_BULLET.sub("", line).strip() for line in self.text.splitlines() if _BULLET.match(line)]
        if listed:
            return listed[:_MOST]
        lines = [line for line in self.text.splitlines() if not _LABELLED.match(line)]
        for cut in (lines, sentences(self.text), _PARTS.split(self.text)):
            pieces = [piece.strip() for piece in cut if piece and piece.strip()]
            good = [piece for piece in pieces if _fills(piece, wanted)]
            if len(good) > 1:
                return good[:_MOST]
        return [self.text]

    # --- single values ----------------------------------------------------------------------------------------

    def _labelled(self, name: str, *, take: bool = True) -> str | None:
        """Return what stands behind a label that shares a word with the name; the one that shares most."""
        asked = stems(_spaced(name))
        shared = [(sum((asked & own).values()), found) for own, found in self.labels]
        count, found = max(shared, key=lambda each: each[0], default=(0, None))
        if not count or found is None or self._is_taken(found.span(2)):
            return None
        if take:
            self.taken.append(found.span(2))
        return found.group(2).strip().rstrip(".,")

    def _mentioned(self, name: str) -> list[tuple[int, int]]:
        asked = stems(_spaced(name))
        spans = (found.span() for found in _WORD.finditer(self.text) if stems(found.group()).keys() & asked.keys())
        return _few(spans) if asked else []

    def _number(self, name: str) -> float:
        if (label := self._labelled(name)) is not None and (found := numbers(label)):
            return found[0]
        found_all = _few(_NUMBER.finditer(self.text))
        free = [each for each in found_all if not (self._is_taken(each.span()) or _meets(self.dates, each.span()))]
        if not free:
            return 0.0
        places = self._mentioned(name)

        def distance(found: re.Match[str]) -> int:
            return min((max(start - found.end(), found.start() - end, 0) for start, end in places), default=0)

        best = min(free, key=distance)  # the first of equals
        self.taken.append(best.span())
        return next(iter(numbers(best.group())), 0.0)

    def _choice(self, name: str, enum: Sequence[object]) -> object:
        said = self._labelled(name) or self.text
        lower = said.lower()
        whole = [one for one in enum if re.search(rf"\b{re.escape(str(one).lower())}\b", lower)]
        if whole:
            return min(whole, key=lambda one: lower.index(str(one).lower()))
        known = stems(said)
        return max(enum, key=lambda one: sum((stems(_spaced(str(one))) & known).values()))

    def _flag(self, name: str) -> bool:
        label = self._labelled(name)
        if label is not None:
            return label.lower().startswith(("y", "t", "1"))
        asked = stems(_spaced(name)).keys()
        return any(asked <= stems(part).keys() for part in sentences(self.text)) and bool(asked)

    def _words(self, name: str, schema: Schema) -> str:
        label, form = self._labelled(name), _FORMS.get(str(schema.get("format")))
        if form is not None:
            found = form.search(label or "") or next(
                (each for each in form.finditer(self.text) if not self._is_taken(each.span())), None
            )
            if found is not None:
                if label is None:
                    self.taken.append(found.span())
                return found.group()
        if label is not None:
            return label
        for _, end in self._mentioned(name):
            if behind := self._behind(end):
                return behind
        untouched = not any(self._is_taken(found.span()) for found in PHRASE.finditer(self.text))
        if self.is_item and untouched and (rest := self._rest()):
            return rest
        for phrase in self.names:
            at = self.text.find(phrase)
            if not self._is_taken((at, at + len(phrase))):
                self.taken.append((at, at + len(phrase)))
                return phrase
        return self._rest()

    def _behind(self, at: int) -> str:
        """Return the words behind a mention, to the end of its clause, without small ones in front."""
        rest = self.text[at:]
        small = re.match(r"(?:[ \t:=]+(?:is|was|are|of|the|a|an)\b)*[ \t:=]+", rest)
        if small is None:
            return ""
        end = _CLAUSE_END.search(rest, small.end())
        span = (at + small.end(), at + (end.start() if end else len(rest)))
        value = self.text[span[0] : span[1]].strip(" .")
        if not value or len(value) > 60 or self._is_taken(span) or numbers(value):
            return ""
        self.taken.append(span)
        return value

    def _rest(self) -> str:
        """Return what is left of a clause without its numbers, or the first sentence of a longer text."""
        parts = sentences(self.text)
        if len(parts) != 1 or len(parts[0]) > 80:
            return parts[0] if parts else ""
        spans = sorted((*self.taken, *(found.span() for found in _NUMBER.finditer(self.text))))
        left, at = [], 0
        for start, end in spans:
            left.append(self.text[at:start])
            at = max(at, end)
        words = [_trimmed(piece) for piece in (*left, self.text[at:])]
        best = next((each for each in words if each), "") or parts[0].strip(" .")
        start = self.text.find(best)
        self.taken.append((start, start + len(best)))
        return best

    def _is_taken(self, span: tuple[int, int]) -> bool:
        return _meets(self.taken, span)


def _trimmed(piece: str) -> str:
    """Drop punctuation and small words at both ends."""
    words = [word for word in piece.strip(" \t\n.,;:!?$€£%()").split() if word]
    while words and (words[0].lower() in FUNCTION_WORDS or not _WORD.search(words[0])):
        words = words[1:]
    while words and (words[-1].lower() in FUNCTION_WORDS or not _WORD.search(words[-1])):
        words = words[:-1]
    return " ".join(words).strip(" .,;:")


def _numbers_in(items: Schema) -> int:
    properties = items.get("properties")
    held = properties.values() if isinstance(properties, Mapping) else ()
    return sum(isinstance(own, Mapping) and own.get("type") in ("integer", "number") for own in held)


def _meets(spans: Iterable[tuple[int, int]], span: tuple[int, int]) -> bool:
    return any(start < span[1] and span[0] < end for start, end in spans)


def _fills(piece: str, wanted: int) -> bool:
    return len(numbers(piece)) >= wanted if wanted else bool(names_in(piece)) or ":" in piece


def _spaced(name: str) -> str:
    """Return a field's name as words: ``unitPrice`` and ``unit_price`` alike."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).replace("_", " ")


def _few(found: Iterable[T]) -> list[T]:
    return [each for _, each in zip(range(_SEEN), found, strict=False)]
