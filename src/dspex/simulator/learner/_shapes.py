"""Shapes that a prompt describes in words: a JSON schema as text, or an object written out with its members' types."""

import json
import re
from collections.abc import Iterator, Mapping

Schema = Mapping[str, object]
_DEPTH = 12
_TYPES = {"string": "string", "integer": "integer", "number": "number", "boolean": "boolean", "true": "boolean"}
_TYPES |= {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}
_TEXT, _MARK, _WORD = r'("(?:[^"\\\n]|\\.)*")', r"(\.\.\.|[{}\[\]:,()|])", r'([^\s{}\[\]:,()|"]+)'
_PIECE = re.compile(rf"\s+|//[^\n]*|{_TEXT}|{_MARK}|{_WORD}")
_LINE = re.compile(r"^\{", re.MULTILINE)
_WORDS = {"True or False": "boolean", "a whole number": "integer", "a number": "number"}
_CHOICE = "exactly one of: "
_CHOICES = re.compile(r"(?!true or false)[\w -]+(?:, [\w -]+)* or [\w -]+")
_KEYS = re.compile(r" JSON with these keys: ([^\n]*)\.\Z")


def resolved(schema: Schema) -> Schema:
    """Return a JSON schema with its references followed; of alternatives the first that is not null."""
    return _resolved(schema, schema, 0)


def _resolved(schema: Schema, root: Schema, depth: int) -> dict[str, object]:
    if depth > _DEPTH:
        return {}
    options = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
    if isinstance(options, list):
        held = [one for one in options if isinstance(one, Mapping) and one.get("type") != "null"]
        return _resolved(held[0], root, depth + 1) if held else {}
    if isinstance(reference := schema.get("$ref"), str):
        found: object = root
        for part in reference.removeprefix("#/").split("/"):
            found = found.get(part) if isinstance(found, Mapping) else None
        return _resolved(found, root, depth + 1) if isinstance(found, Mapping) else {}
    kept = {key: schema[key] for key in ("type", "enum", "format") if key in schema}
    properties, items = schema.get("properties"), schema.get("items")
    if isinstance(properties, Mapping):
        held_in = properties.items()
        kept["properties"] = {
            name: _resolved(one, root, depth + 1) for name, one in held_in if isinstance(one, Mapping)
        }
    if isinstance(items, Mapping):
        kept["items"] = _resolved(items, root, depth + 1)
    return kept


def hinted(hint: str) -> Schema:
    """Return the type that a few words say; empty where they say none."""
    kind = next((kind for words, kind in _WORDS.items() if hint.startswith(words)), None)
    if kind is not None:
        return {"type": kind}
    if not hint.startswith("one of: "):
        return {}
    choices = hint.removeprefix("one of: ")
    return {"enum": choices.split("; " if "; " in choices else ", ")}


def shape_in(text: str) -> Schema | None:
    """Return the shape of the first object that a text writes out with types instead of values; None without one."""
    for found in _LINE.finditer(text):
        shape = _written(text[found.start() :])
        if shape.get("properties"):
            return shape
    return None


def keys_in(text: str) -> Schema | None:
    """Return the shape of the object whose keys the end of a text names in words; None without such an end."""
    found = _KEYS.search(text)
    return _written(f"{{{found[1]}}}", bare=True) if found else None


def _written(text: str, *, bare: bool = False) -> dict[str, object]:
    try:
        return _ShapeReader(text, bare).value(0)
    except (StopIteration, ValueError):
        return {}


class _ShapeReader:
    """Reads a shape: members in braces, an item in brackets, words for types, texts that are allowed, remarks."""

    def __init__(self, text: str, bare: bool) -> None:
        self._text, self._bare = text, bare  # names may stand without quotation marks, and those of texts alone
        self._pieces = self._read()
        self._next = next(self._pieces)

    def _read(self) -> Iterator[tuple[str, int]]:
        at = 0
        while found := _PIECE.match(self._text, at):
            at = found.end()
            if found.lastindex:
                yield found.group(), found.start()
        yield "", at

    def _take(self) -> str:
        piece, self._next = self._next[0], next(self._pieces)
        return piece

    def value(self, depth: int) -> dict[str, object]:
        if depth > _DEPTH:
            raise ValueError
        piece = self._next[0]
        if piece == "{":
            return self._object(depth)
        if piece == "[":
            self._take()
            items = self.value(depth + 1)
            self._skip_to("]")
            return {"type": "array", "items": items}
        if piece == "(":
            return self._note()
        return self._words()

    def _object(self, depth: int) -> dict[str, object]:
        self._take()
        held: dict[str, object] = {}
        while self._next[0] != "}":
            name = self._take()
            if name in (",", "..."):
                continue
            is_bare = self._bare and name.isidentifier()
            if not (is_bare or name.startswith('"')) or (self._next[0] != ":" and not is_bare):
                raise ValueError
            if self._next[0] == ":":
                self._take()
            is_text = is_bare and self._next[0] in (",", "}")
            held[name.strip('"')] = {"type": "string"} if is_text else self.value(depth + 1)
        self._next = next(self._pieces, ("", 0))
        return {"type": "object", **({"properties": held} if held else {})}

    def _skip_to(self, end: str) -> None:
        while self._next[0] not in (end, ""):
            self._take()
        if not self._next[0]:
            raise ValueError
        self._take()

    def _words(self) -> dict[str, object]:
        """Read a type, or the texts that are allowed, to the end of the member."""
        texts: list[object] = []
        kind: dict[str, object] = {}
        while self._next[0] not in (",", "}", "]", ""):
            piece = self._take()
            if piece.startswith('"'):
                texts.append(json.loads(piece))
            elif not kind and piece in _TYPES:
                kind = {"type": _TYPES[piece]}
        return {"type": "string", "enum": texts} if texts and not kind else kind

    def _note(self) -> dict[str, object]:
        """Read a remark in round brackets: a JSON schema in it, the alternatives that it lists, or a type."""
        start, depth = self._next[1], 0
        while self._next[0]:
            piece = self._take()
            depth += (piece in "({[") - (piece in ")}]") if len(piece) == 1 else 0
            if not depth:
                break
        return remark(self._text[start + 1 : self._next[1]].rstrip().rstrip(",}").rstrip().removesuffix(")"))


def remark(text: str) -> dict[str, object]:
    """Return the shape that a remark about a field tells."""
    at = text.find("{")
    if at >= 0 and isinstance(found := _loads(text[at:]), Mapping):
        return dict(resolved(found))
    if _CHOICE in text:
        listed = text.partition(_CHOICE)[2]
        return {"type": "string", "enum": listed.split("; " if "; " in listed else ", ")}
    told = text.partition(";")[0].removesuffix(" or null")
    if told.startswith("a list"):
        return {
            "type": "array",
            "items": remark(told.removeprefix("a list").removeprefix(" of ")) or {"type": "string"},
        }
    if told[:1] in ("{", "["):
        return _written(told, bare=True)
    if told.startswith('"') or _CHOICES.fullmatch(told):
        return {"type": "string", "enum": [each.strip('"') for each in re.split(", | or ", told)]}
    kind = _TYPES.get(re.split(r"\W", text.strip(), maxsplit=1)[0])
    return {"type": kind} if kind else {}


def _loads(text: str) -> object:
    try:
        return json.JSONDecoder().raw_decode(text)[0]
    except (ValueError, RecursionError):
        return None
