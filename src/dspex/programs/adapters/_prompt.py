"""
The common part of the adapters' prompts: fields in words, sections of values, demonstrations, earlier turns.

An adapter renders a signature once, to texts that no value changes; a call only puts values between them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from dspex.programs._compile import Plan
from dspex.programs.adapters._native_turns import NOT_CALLED, answered, native_calls, with_calls
from dspex.programs.adapters._types import without_none
from dspex.programs.adapters._values import Codec, Content
from dspex.programs.adapters._words import notes
from dspex.programs.fields import Field
from dspex.programs.types.history import History
from dspex.protocols.content import Part, TextPart
from dspex.protocols.lm import Message
from dspex.protocols.scope import FieldValues

__all__ = [
    "NOT_GIVEN",
    "Rendered",
    "Slot",
    "demo_content",
    "demo_messages",
    "demo_text",
    "field_list",
    "given_and_wanted",
    "history_messages",
    "is_history",
    "lost_turn",
    "sections",
    "shown_inputs",
    "slots",
    "user_turn",
]

NOT_GIVEN = "(left out of this example)"
_INCOMPLETE = "An incomplete example; some of its fields are left out.\n\n"
_NEVER_SAID = "An example, which is not part of the conversation.\n\n"
_INCOMPLETE_AND_NEVER_SAID = (
    "An incomplete example, which is not part of the conversation; some of its fields are left out.\n\n"
)
NATIVE_CALLS = "native calls"
"""Where a plan's memo names the output of calls that the prompt leaves to the model."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One field, ready to be written: what stands before and behind its value."""

    name: str
    head: str
    codec: Codec
    foot: str = ""


@dataclass(frozen=True, slots=True)
class Rendered:
    """
    The texts of a signature that no value changes.

    Attributes:
        system: The system message.
        inputs: The inputs that stand in the user's turn.
        outputs: The outputs, in the order in which they are written.
        tail: The text after the inputs of the turn to be answered.
        escape: Keeps a value from being taken for a part of the format.
        answer: Writes outputs as a completion; True as its second argument leaves no output unmentioned.
        histories: The inputs that are earlier turns.
        calls: The output of calls that the model makes by itself, which is not part of the prompt's outputs.
        extra: The adapter's own data for this signature.
    """

    system: Message
    inputs: tuple[Slot, ...]
    outputs: tuple[Slot, ...]
    tail: str
    escape: Callable[[str], str]
    answer: Callable[[Rendered, Mapping[str, object], bool], str]
    histories: tuple[str, ...] = ()
    calls: str = ""
    extra: object = None


def is_history(field: Field) -> bool:
    """Tell whether a field is earlier turns, which are not a section of the prompt."""
    return field.role == "input" and without_none(field.annotation) is History


def shown_inputs(plan: Plan) -> list[Field]:
    """Return the inputs that stand in the user's turn."""
    return [each for each in plan.inputs if not is_history(each)]


def slots(
    fields: Sequence[Field], head: Callable[[str], str], foot: Callable[[str], str] = lambda _: ""
) -> tuple[Slot, ...]:
    """Return the fields as slots."""
    return tuple(Slot(each.name, head(each.name), each.codec, foot(each.name)) for each in fields)


# --- values -------------------------------------------------------------------------------------------------


def sections(rendered: Rendered, inputs: Mapping[str, object]) -> list[str | Part]:
    """
    Return every input between its head and foot.

    Raises:
        ValueError: An input has no text form; ``error.args[1]`` is its name.
    """
    written: list[str | Part] = []
    escape = rendered.escape
    for slot in rendered.inputs:
        value = inputs[slot.name]
        try:
            content = value if type(value) is str and slot.codec.exact is str else slot.codec.content(value)
        except ValueError as error:
            raise ValueError(str(error), slot.name) from error
        if type(content) is str:
            written.append(
                f"\n\n{slot.head}{escape(content)}{slot.foot}" if written else slot.head + escape(content) + slot.foot
            )
        else:
            _put(written, slot, content, escape)
    return written


def _put(written: list[str | Part], slot: Slot, content: Content, escape: Callable[[str], str]) -> None:
    head = "\n\n" + slot.head if written else slot.head
    if type(content) is str:
        written.append(head + escape(content) + slot.foot)
        return
    written.append(head)
    parts = cast("tuple[Part, ...]", content)
    written.extend([escape(part.text) if isinstance(part, TextPart) else part for part in parts])
    if slot.foot:
        written.append(slot.foot)


def user_turn(written: Sequence[str | Part], before: str = "", behind: str = "") -> Message:
    """Return a user's turn: text where all is text, else parts with neighbouring texts as one."""
    try:
        return Message("user", before + "".join(cast("Sequence[str]", written)) + behind)
    except TypeError:
        pass  # there are parts that are not text
    parts: list[Part] = []
    text = before
    for each in [*written, behind]:
        if isinstance(each, str):
            text += each
            continue
        if text:
            parts.append(TextPart(text))
            text = ""
        parts.append(each)
    return Message("user", (*parts, TextPart(text)) if text else tuple(parts))


# --- demonstrations and earlier turns ------------------------------------------------------------------------


def demo_messages(rendered: Rendered, demos: Sequence[Mapping[str, object]]) -> list[Message]:
    """Return two turns per demonstration, incomplete ones first; without an input or an output it is none."""
    complete: list[Message] = []
    incomplete: list[Message] = []
    for demo in demos:
        turns, whole = _demo_turns(rendered, demo)
        (complete if whole else incomplete).extend(turns)
    return incomplete + complete


def _demo_turns(rendered: Rendered, demo: Mapping[str, object]) -> tuple[tuple[Message, ...], bool]:
    given = sum([slot.name in demo for slot in rendered.inputs])
    told = sum([slot.name in demo for slot in rendered.outputs])
    calls = native_calls(rendered.calls, demo)
    if not given or not (told or calls):
        return (), False
    whole = given == len(rendered.inputs) and (told == len(rendered.outputs) or bool(calls))
    question = user_turn(_demo_sections(rendered, demo), before=_label(rendered, whole))
    if calls:
        return (question, *answered([with_calls(_beside_calls(rendered, demo), calls)], NOT_CALLED)), whole
    return (question, Message("assistant", rendered.answer(rendered, demo, True))), whole


def _beside_calls(rendered: Rendered, turn: Mapping[str, object]) -> str:
    """Return the outputs that stand beside calls; those left unset were never written."""
    told = {slot.name: turn[slot.name] for slot in rendered.outputs if turn.get(slot.name) is not None}
    return rendered.answer(rendered, told, False) if told else ""


def _label(rendered: Rendered, whole: bool) -> str:
    """Say that an example is none of the conversation's turns, where there are such, and what it lacks."""
    if rendered.histories:
        return _NEVER_SAID if whole else _INCOMPLETE_AND_NEVER_SAID
    return "" if whole else _INCOMPLETE


def _demo_sections(rendered: Rendered, demo: Mapping[str, object]) -> list[str | Part]:
    """As ``sections`` for values that nobody checked, or left out."""
    written: list[str | Part] = []
    for slot in rendered.inputs:
        content = demo_content(slot.codec, demo[slot.name]) if slot.name in demo else NOT_GIVEN
        _put(written, slot, content, rendered.escape)
    return written


def demo_content(codec: Codec, value: object) -> Content:
    """Write a demonstration's input as its field's type where it is one (a model saved as a dict), else as it is."""
    return _as_it_fits(codec.content, codec, value)


def demo_text(codec: Codec, value: object) -> str:
    """Write a demonstration's output as its field's type where it is one, else as it is."""
    return cast("str", _as_it_fits(codec.write, codec, value))


def _as_it_fits(write: Callable[[object], Content], codec: Codec, value: object) -> Content:
    if type(value) is codec.exact:
        return write(value)
    with contextlib.suppress(ValueError):  # labelled data need not fit; the model still learns from it
        value = codec.check(value)
    try:
        return write(value)
    except ValueError:
        return str(value)


def history_messages(rendered: Rendered, inputs: FieldValues) -> list[Message]:
    """
    Return the earlier turns: Messages as they are, fields as a user's and an assistant's turn.

    Raises:
        ValueError: A turn has none of the fields, so that it would be lost; ``error.args[1]`` is the input's name.
    """
    found: list[Message] = []
    for name in rendered.histories:
        for number, turn in enumerate(inputs[name] or ()):
            if isinstance(turn, Message):
                found.append(turn)
                continue
            said = [slot for slot in rendered.inputs if slot.name in turn]
            calls = native_calls(rendered.calls, turn)
            if not said and not calls and not any(slot.name in turn for slot in rendered.outputs):
                raise ValueError(lost_turn(number, turn, [*rendered.inputs, *rendered.outputs]), name)
            if said:
                only = [(slot, demo_content(slot.codec, turn[slot.name])) for slot in said]
                written: list[str | Part] = []
                for slot, content in only:
                    _put(written, slot, content, rendered.escape)
                found.append(user_turn(written))
            told = any(slot.name in turn for slot in rendered.outputs)
            if calls:
                found.append(with_calls(_beside_calls(rendered, turn), calls))
            elif told:
                found.append(Message("assistant", rendered.answer(rendered, turn, False)))
    return answered(found)


def lost_turn(number: int, turn: Mapping[str, object], fields: Sequence[Slot | Field]) -> str:
    """Say that a turn has none of the fields, so that it would be lost."""
    known = ", ".join(each.name for each in fields)
    return f"turn {number} has none of {known}; it has {', '.join(turn) or 'nothing'}"


# --- fields in words ------------------------------------------------------------------------------------------


def field_list(fields: Sequence[Field], escape: Callable[[str], str]) -> str:
    """Return one numbered line per field: name, type, description, constraints."""
    lines = []
    for number, field in enumerate(fields, 1):
        line = f"{number}. `{field.name}` ({field.type_text})"
        said = notes(field)
        lines.append(escape(f"{line}: {'; '.join(said)}" if said else line))
    return "\n".join(lines)


def given_and_wanted(plan: Plan, escape: Callable[[str], str]) -> list[str]:
    """Return the paragraphs that list inputs and outputs."""
    parts = []
    shown = shown_inputs(plan)
    if shown:
        parts.append("You receive these fields:\n" + field_list(shown, escape))
    if plan.outputs:
        parts.append("You write these fields:\n" + field_list(plan.outputs, escape))
    return parts
