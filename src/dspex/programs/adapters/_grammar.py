"""
Grammars of answers: choices, numbers and JSON exact, texts free but for the marks of the format.

Every answer that an adapter writes from values of the fields' types is a sentence of its grammar, but for texts that
hold the character NUL, which no model writes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from dspex.programs._compile import Plan
from dspex.programs.adapters._free_text import TEXT, text_without_headers
from dspex.programs.adapters._headers import CLOSING, escape, header
from dspex.programs.adapters._types import plain_type
from dspex.programs.adapters._values import ChoiceCodec, Codec, NumberCodec
from dspex.programs.fields import Field
from dspex.protocols.text_shapes import MOST_CHARACTERS, Grammar, fits, literal

__all__ = ["WHOLE_NUMBER", "chat_grammar"]

WHOLE_NUMBER: Final = Grammar('root ::= "-"? [0-9]+')
"""An ``int`` as Python writes it."""
_RULES: Final = {
    "truth": '"True" | "False"',
    "whole": '"-"? [0-9]+',
    "real": '"-"? [0-9]+ ("." [0-9]+)? ("e" [-+]? [0-9]+)? | "-"? "inf" | "nan"',
    "json": 'object | array | string | real | "true" | "false" | "null" | "NaN" | "-"? "Infinity"',
    "object": '"{" gap (string gap ":" gap json gap ("," gap string gap ":" gap json gap)*)? "}"',
    "array": '"[" gap (json gap ("," gap json gap)*)? "]"',
    # A mark inside of a text is written with a backslash before it, which is taken away before the JSON is read.
    "string": r'"\"" ([^"\\\x00-\x1F] | "\\" (["\\/bfnrt[] | "u" [0-9a-fA-F]{4}))* "\""',
    "gap": r"[ \n]{0,20}",
}
"""Rules that values are made of."""
_NEEDED: Final = {
    "json": ("json", "object", "array", "string", "real", "gap"),
    "truth": ("truth",),
    "whole": ("whole",),
    "real": ("real",),
}


class _Writer:
    """Collects the rules that a grammar needs."""

    def __init__(self, escaped: Callable[[str], str], text: Mapping[str, str]) -> None:
        self._escaped = escaped
        self._text = text
        self._rules: dict[str, str] = {}

    def value(self, field: Field, number: int) -> str:
        """Return the name of the rule for a field's value."""
        codec = field.codec
        if isinstance(codec, ChoiceCodec) and fits(codec.texts):
            name = f"choice{number}"
            self._rules[name] = " | ".join(literal(self._escaped(each)) for each in codec.texts)
            return name
        name = _kind(codec)
        if name == TEXT:
            self._rules |= self._text
            return name
        for each in _NEEDED[name]:
            self._rules[each] = _RULES[each]
        return name

    def grammar(self, root: str) -> Grammar | None:
        """Return the grammar; None for one that is too large to be enforced."""
        lines = [f"root ::= {root}", *(f"{name} ::= {rule}" for name, rule in self._rules.items())]
        text = "\n".join(lines)
        return Grammar(text) if len(text) <= MOST_CHARACTERS else None


def _kind(codec: Codec) -> str:
    if isinstance(codec, NumberCodec):
        return {bool: "truth", int: "whole"}.get(plain_type(codec.annotation), "real")  # type: ignore[call-overload, no-any-return]  # anything can be looked for
    if type(codec) is Codec and codec.schema().get("type") in ("object", "array"):
        return "json"
    return TEXT


def _is_exact(field: Field) -> bool:
    codec = field.codec
    return (isinstance(codec, ChoiceCodec) and fits(codec.texts)) or _kind(codec) != TEXT


def chat_grammar(plan: Plan) -> Grammar | None:
    """Return the grammar of a chat answer; None where nothing in it is exact, or it is too large."""
    outputs = plan.outputs
    if not any(map(_is_exact, outputs)):
        return None
    writer = _Writer(escape, text_without_headers())
    parts = []
    for number, each in enumerate(outputs):
        section = f'{literal(header(each.name))} {writer.value(each, number)} "\\n\\n"'
        parts.append(f"({section})?" if _may_be_left_out(each) else section)
    return writer.grammar(" ".join([*parts, literal(header(CLOSING).rstrip()), r'"\n"?']))


def _may_be_left_out(field: Field) -> bool:
    return field.has_default or field.optional
