"""
The chat format: every field under a header line ``[[ ## name ## ]]``, the answer closed by ``[[ ## completed ## ]]``.

A line of a value that itself looks like a header is written with a backslash before it and read without, so any
text can be a value and no input can forge a field.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from dspex.errors import ResponseUnparsable
from dspex.programs._compile import Plan
from dspex.programs.adapters._types import constraint_words
from dspex.programs.adapters._values import Codec, TextCodec, describe
from dspex.programs.fields import Field
from dspex.programs.signature import Signature, plan_of
from dspex.protocols.lm import Message

__all__ = ["ChatAdapter", "Parsed", "Repair"]

_HEADER = re.compile(r"^[^\S\n]*\[\[ ## (\w+) ## \]\]", re.MULTILINE)
_NEEDS_ESCAPE = re.compile(r"^([^\S\n]*\\*)(?=\[\[ ## \w+ ## \]\])", re.MULTILINE)
_ESCAPED = re.compile(r"^([^\S\n]*\\*)\\(?=\[\[ ## \w+ ## \]\])", re.MULTILINE)
_CLOSING = "[[ ## completed ## ]]"
_NOT_GIVEN = "(left out of this example)"
_INCOMPLETE = "An incomplete example; some of its fields are left out.\n\n"


class Repair(NamedTuple):
    """A completion's value that was not written as it should: which field, and what it took to read it."""

    field: str
    kind: str


class Parsed(NamedTuple):
    """What a completion says: outputs by name, and the repairs that reading them took."""

    outputs: dict[str, Any]
    repairs: tuple[Repair, ...]


@dataclass(frozen=True, slots=True)
class _Part:
    """One field, ready to be written under its header."""

    name: str
    header: str
    codec: Codec


@dataclass(frozen=True, slots=True)
class _Rendered:
    """The texts of a signature that no value changes."""

    system: Message
    inputs: tuple[_Part, ...]
    outputs: tuple[_Part, ...]
    tail: str
    """What follows the inputs of the turn to be answered."""


class ChatAdapter:
    """
    Puts a signature to a chat model and reads its answer; stateless, so one serves everybody.

    Values: text as it is, numbers as Python writes them, a choice as its own text, ``list[Passage]`` as numbered
    lines, everything else as JSON. Reading forgives what models do (quotes around a choice, JSON with slips,
    Python literals) and reports each repair. White space around a ``str`` is not part of it.
    """

    __slots__ = ()

    def prefix(self, signature: type[Signature], demos: Sequence[Mapping[str, Any]] = ()) -> tuple[Message, ...]:
        """
        Return the messages before the turn to be answered: the system message and the demonstrations.

        Incomplete demonstrations come first and say so; those without any input or any output are left out.

        Args:
            signature: What is asked.
            demos: Field values by name; further keys are ignored.
        """
        rendered = _rendered(plan_of(signature))
        return (rendered.system, *_demo_messages(rendered, demos)) if demos else (rendered.system,)

    def turn(self, signature: type[Signature], inputs: Mapping[str, Any]) -> Message:
        """
        Return the user's turn: the inputs, and what to write now.

        Raises:
            ValueError: An input has no text form; ``error.args[1]`` is its name.
        """
        rendered = _rendered(plan_of(signature))
        return Message("user", _sections(rendered.inputs, inputs) + rendered.tail)

    def format(
        self, signature: type[Signature], inputs: Mapping[str, Any], demos: Sequence[Mapping[str, Any]] = ()
    ) -> tuple[Message, ...]:
        """
        Return the whole prompt; ``inputs`` are values of the fields' types.

        Raises:
            ValueError: An input has no text form; ``error.args[1]`` is its name.
        """
        return (*self.prefix(signature, demos), self.turn(signature, inputs))

    def format_outputs(self, signature: type[Signature], outputs: Mapping[str, Any]) -> str:
        """Return the completion that ``parse`` reads as these outputs; outputs that are not given are left out."""
        rendered = _rendered(plan_of(signature))
        given = tuple(part for part in rendered.outputs if part.name in outputs)
        return "\n\n".join(part for part in (_sections(given, outputs), _CLOSING) if part)

    def parse(self, signature: type[Signature], completion: str) -> Parsed:
        """
        Read the outputs from a completion.

        The first section of a name counts, unknown names are ignored, and so is what precedes the first header.

        Raises:
            ResponseUnparsable: Outputs without a default are missing, or have a value of another type.
        """
        plan = plan_of(signature)
        sections = _split(completion)
        outputs: dict[str, Any] = {}
        repairs: list[Repair] = []
        missing: list[str] = []
        invalid: dict[str, str] = {}
        for field in plan.outputs:
            name = field.name
            text = sections.get(name)
            if text is None or (not text and _may_be_empty(field)):
                if field.has_default or field.optional:
                    outputs[name] = field.make_default()
                else:
                    missing.append(name)
                continue
            try:
                outputs[name], repair = field.codec.read(text)
            except (ValueError, TypeError, RecursionError) as error:
                invalid[name] = describe(error)
                continue
            if repair:
                repairs.append(Repair(name, repair))
        if missing or invalid:
            raise ResponseUnparsable(plan.name, completion, missing, invalid)
        return Parsed(outputs, tuple(repairs))

    def correction(self, signature: type[Signature], error: ResponseUnparsable) -> tuple[Message, ...]:
        """Return the turns that show a model its own completion and what was wrong with it."""
        problems = [f"- there was no `[[ ## {name} ## ]]` section" for name in error.missing_fields]
        problems += [f"- `{name}`: {problem}" for name, problem in error.invalid_fields.items()]
        text = "Your answer could not be read:\n" + "\n".join(problems) + "\n\nPlease write all of it again."
        rendered = _rendered(plan_of(signature))
        return (Message("assistant", error.raw or "(nothing)"), Message("user", _escape(text) + rendered.tail))


def _may_be_empty(field: Field) -> bool:
    """An empty section means "left out" where the field may be left out and an empty text is no value of it."""
    return (field.has_default or field.optional) and not isinstance(field.codec, TextCodec)


def _split(completion: str) -> dict[str, str]:
    """Return the text under each header, the first of each name."""
    sections: dict[str, str] = {}
    name, start = "", 0
    for match in _HEADER.finditer(completion):
        if name and name not in sections:
            sections[name] = completion[start : match.start()]
        name, start = match[1], match.end()
    if name and name not in sections:
        sections[name] = completion[start:]
    return {name: _unescape(text.strip()) for name, text in sections.items()}


def _escape(text: str) -> str:
    return _NEEDS_ESCAPE.sub(r"\1\\", text) if "[[ ## " in text else text


def _unescape(text: str) -> str:
    return _ESCAPED.sub(r"\1", text) if "\\[[ ## " in text else text


def _sections(parts: Sequence[_Part], values: Mapping[str, Any]) -> str:
    """Write each value under its header."""
    written = []
    for part in parts:
        value = values[part.name]
        try:
            text = value if type(value) is str and part.codec.exact is str else part.codec.write(value)
        except ValueError as error:
            raise ValueError(str(error), part.name) from error
        written.append(part.header + (_escape(text) if "[[ ## " in text else text))
    return "\n\n".join(written)


def _demo_messages(rendered: _Rendered, demos: Sequence[Mapping[str, Any]]) -> list[Message]:
    complete: list[Message] = []
    incomplete: list[Message] = []
    for demo in demos:
        inputs = [part for part in rendered.inputs if part.name in demo]
        outputs = [part for part in rendered.outputs if part.name in demo]
        if not inputs or not outputs:
            continue
        whole = len(inputs) == len(rendered.inputs) and len(outputs) == len(rendered.outputs)
        question = _demo_sections(rendered.inputs, demo)
        answer = _demo_sections(rendered.outputs, demo) + "\n\n" + _CLOSING
        turns = (Message("user", question if whole else _INCOMPLETE + question), Message("assistant", answer))
        (complete if whole else incomplete).extend(turns)
    return incomplete + complete


def _demo_sections(parts: Sequence[_Part], demo: Mapping[str, Any]) -> str:
    """As ``_sections`` for values that nobody checked, or left out."""
    written = []
    for part in parts:
        text = _demo_text(part.codec, demo[part.name]) if part.name in demo else _NOT_GIVEN
        written.append(part.header + (_escape(text) if "[[ ## " in text else text))
    return "\n\n".join(written)


def _demo_text(codec: Codec, value: Any) -> str:
    """Write a demonstration's value as its field's type where it is one (a model saved as a dict), else as it is."""
    if type(value) is codec.exact:
        return codec.write(value)
    with contextlib.suppress(ValueError):  # labelled data need not fit; the model still learns from it
        value = codec.check(value)
    try:
        return codec.write(value)
    except ValueError:
        return str(value)


# --- the static texts -----------------------------------------------------------------------------------------


def _rendered(plan: Plan) -> _Rendered:
    try:
        rendered: _Rendered = plan.rendered[ChatAdapter]
    except KeyError:
        rendered = plan.rendered[ChatAdapter] = _render(plan)
    return rendered


def _render(plan: Plan) -> _Rendered:
    return _Rendered(
        Message("system", _system_text(plan)),
        tuple(_Part(each.name, _header(each.name), each.codec) for each in plan.inputs),
        tuple(_Part(each.name, _header(each.name), each.codec) for each in plan.outputs),
        "\n\n" * bool(plan.inputs) + _tail_text(plan),
    )


def _header(name: str) -> str:
    return f"[[ ## {name} ## ]]\n"


def _system_text(plan: Plan) -> str:
    parts = []
    if plan.inputs:
        parts.append("You receive these fields:\n" + _field_list(plan.inputs))
    parts.append("You write these fields:\n" + _field_list(plan.outputs))
    layout = [f"{_header(each.name)}{{{each.name}}}" for each in plan.inputs]
    layout += [f"{_header(each.name)}{{{each.name}}}{_form(each)}" for each in plan.outputs]
    parts.append("Each field stands below a header line of its own, in this layout:\n\n" + "\n\n".join(layout))
    parts.append(f"After the last field comes the line\n{_CLOSING}")
    parts.append("What to do:\n" + _escape(plan.instructions))
    return "\n\n".join(parts)


def _field_list(fields: Sequence[Field]) -> str:
    lines = []
    for number, field in enumerate(fields, 1):
        line = f"{number}. `{field.name}` ({field.type_text})"
        notes = [note for note in (field.desc, constraint_words(field.constraints)) if note]
        if field.role == "output" and (field.has_default or field.optional):
            notes.append("may be left out")
        lines.append(_escape(f"{line}: {'; '.join(notes)}" if notes else line))
    return "\n".join(lines)


def _form(field: Field) -> str:
    """Say how an output's value is to be written, where its type leaves that open."""
    if field.codec.in_words:
        return f"    ({field.codec.in_words})"
    if type(field.codec) is not Codec:
        return ""
    schema = field.codec.schema_text()
    return f"    (JSON that fits this schema: {schema})" if schema else ""


def _tail_text(plan: Plan) -> str:
    names = [f"`[[ ## {each.name} ## ]]` ({each.type_text})" for each in plan.outputs]
    order = f"{names[0]}" if len(names) == 1 else ", then ".join(names)
    return f"Now write {order}, and end with `{_CLOSING}`."
