"""
The form that asks a model least: one value alone, thoughts and then lines, or an object whose schema is enforced.

- One output that is a text, a choice or a number is the whole answer; a text of a few words is in an object.
- With reasoning before the others, the model thinks as it likes and ends with a line ``name: value`` for each of
  them; one number alone is put into a box, as models have learned it. Where a value is missing or cannot be read, a
  second turn asks for the values alone, as an object.
- Everything else is one JSON object, its keys told in words, and enforced where the model's server can do so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from dspex.errors import ResponseUnparsable
from dspex.programs._compile import Plan
from dspex.programs.adapters._adapter import Adapter, FollowUp, Parsed, Piece, Repair, StreamParser, text_of
from dspex.programs.adapters._base import PromptAdapter
from dspex.programs.adapters._boxed import boxed_values, in_box
from dspex.programs.adapters._closing_mark import ClosingFilter, keep_closing, without_closing
from dspex.programs.adapters._enforced import value_form
from dspex.programs.adapters._find_object import BEFORE_OBJECT
from dspex.programs.adapters._json_stream import JsonStream
from dspex.programs.adapters._labels import escape_labels, find_labels, may_become_label, unescape_labels
from dspex.programs.adapters._only_value import first_line, only_value
from dspex.programs.adapters._prompt import NOT_GIVEN, Rendered, demo_text, shown_inputs, slots
from dspex.programs.adapters._reading import read_texts
from dspex.programs.adapters._section_stream import Section
from dspex.programs.adapters._shape import keys_in_words
from dspex.programs.adapters._thoughts import ThoughtFilter, Thoughts, ends_in_thoughts
from dspex.programs.adapters._types import constraint_words
from dspex.programs.adapters._value_elsewhere import LOOKED_AT, in_another_form, may_be_elsewhere
from dspex.programs.adapters._values import ChoiceCodec, NumberCodec, TextCodec
from dspex.programs.adapters.chat import ChatAdapter
from dspex.programs.adapters.json_object import JSONAdapter, json_answer
from dspex.programs.fields import Field
from dspex.programs.signature import Signature, plan_of
from dspex.protocols.lm import Capabilities, Completion, LMRequest, Message
from dspex.protocols.model import LMParams

__all__ = ["AutoAdapter"]

Form = Literal["nothing", "value", "thoughts", "object"]
_JSON, _CHAT = JSONAdapter(), ChatAdapter()
_LINE = (TextCodec, ChoiceCodec, NumberCodec)
"""Codecs whose values people write on a line."""
_THOUGHTS = "reasoning"
_MOST_DECORATION = 20
"""Characters that a label may have beside its name: quotation marks, bullets, bold, the colon."""
_BEFORE_TEXT = Thoughts(re.compile(r"\S"))
_NO_WORDS = re.compile(r"[{}\[\]<>`\n]|\A[\"'*_=]|\A\w{1,40}\s?=")
"""A text with one of these may be half an object, or marked up, or more than a few words."""
_FEW_CHARACTERS = 80
_FEW_WORDS = re.compile(
    r"\b(?:few|single|one|two|three|four|five|six|ten|[1-9]|10)(?: or (?:few|two|three|four|five|[1-9]))?[ -]words?\b"
    r"|\bshort (?:\w+ )?(?:phrase|answer|name)\b"
    r"|\b(?:not|no) (?:in |as )?(?:a )?(?:full |whole |complete )?sentences?\b",
    re.IGNORECASE,
)


def form_of(plan: Plan) -> Form:
    """Return which form a signature is asked in."""
    known: Form | None = plan.rendered.get(form_of)
    if known is None:
        known = plan.rendered[form_of] = _form_of(plan)
    return known


def _form_of(plan: Plan) -> Form:
    outputs = plan.outputs
    if not outputs:
        return "nothing"
    if outputs[0].name == _THOUGHTS and isinstance(outputs[0].codec, TextCodec) and len(outputs) > 1:
        return "thoughts"
    only = outputs[0]
    is_alone = len(outputs) == 1 and isinstance(only.codec, _LINE) and not only.has_default and not only.optional
    return "value" if is_alone and not is_few_words(only) else "object"


def is_few_words(field: Field) -> bool:
    """
    Tell whether a field is a text of a few words, by its notes.

    Models answer in sentences, whatever they are told; in an object they do not.
    """
    if not isinstance(field.codec, TextCodec):
        return False
    most = dict(field.constraints).get("max_length")
    return (isinstance(most, int) and most <= _FEW_CHARACTERS) or _FEW_WORDS.search(field.desc or "") is not None


def is_boxed(plan: Plan) -> bool:
    """Tell whether the one value behind thoughts is a number, which models have learned to put into a box."""
    rest = plan.outputs[1:]
    return len(rest) == 1 and isinstance(rest[0].codec, NumberCodec) and rest[0].codec.exact is not bool


@dataclass(frozen=True, slots=True)
class AutoAdapter(PromptAdapter):
    """
    Puts a signature to a model in as few words as it takes.

    A text is read as it is, without white space around it; a number or a choice also where it stands alone in a short
    sentence. Lines of an input that look like another input are written with a backslash before them.

    A choice, a truth value or a whole number that is all of the answer is enforced where the model's server can do so.
    """

    name: ClassVar[str] = "auto"
    asks_capabilities: ClassVar[bool] = True

    native_thoughts: ClassVar[bool] = True
    """A model that is asked to think by itself is not asked for its reasoning in words."""

    @property
    def fallback(self) -> Adapter | None:
        """JSON, with the signature's schema."""
        return JSONAdapter()

    def other_forms(self, signature: type[Signature]) -> tuple[Adapter, ...]:
        """Return the forms for models that cannot write this one: an object, and header lines; thoughts keep free."""
        form = form_of(plan_of(signature))
        return {"object": (_CHAT,), "value": (_JSON, _CHAT), "thoughts": (_CHAT, _JSON)}.get(form, ())

    def request(
        self, signature: type[Signature], messages: tuple[Message, ...], params: LMParams, capabilities: Capabilities
    ) -> LMRequest:
        """Have an object's schema, or the form of a value, enforced where that can be done."""
        plan = plan_of(signature)
        form = form_of(plan)
        if form == "object":
            return JSONAdapter().request(signature, messages, params, capabilities)
        output = None
        if form == "value":
            output = value_form(plan, lambda text: _alone(plan.outputs[0].name, text), params, capabilities)
        return LMRequest(messages, params, output=output)

    def tools_in_words(self, capabilities: Capabilities) -> bool:
        """Tell tools in a line each where a server of the user's own enforces the calls: definitions cost more."""
        return capabilities.json_schema and capabilities.grammar

    def parse(self, signature: type[Signature], completion: str | Completion) -> Parsed:
        """
        Read the outputs from a completion.

        Raises:
            ResponseUnparsable: Outputs without a default are missing, contradict themselves, or are of another type.
        """
        plan = plan_of(signature)
        text = text_of(completion)
        form = form_of(plan)
        if form == "object":
            return self._read_object(signature, plan, completion)
        if form == "nothing":
            return Parsed({}, ())
        said, thoughts, _ = _BEFORE_TEXT.spoken(text)
        if ends_in_thoughts(said):
            raise ResponseUnparsable(plan.name, text, [each.name for each in plan.outputs])
        said, has_closing = without_closing(said)
        parsed = _read_value(plan, said) if form == "value" else _read_thoughts(plan, said)
        repairs = (Repair("", "format"), *parsed.repairs) if has_closing else parsed.repairs
        return parsed._replace(repairs=repairs, thoughts=thoughts or parsed.thoughts)

    def _read_object(self, signature: type[Signature], plan: Plan, completion: str | Completion) -> Parsed:
        try:
            return JSONAdapter().parse(signature, completion)
        except ResponseUnparsable:
            text = text_of(completion)
            if len(plan.outputs) > 1 or not is_few_words(plan.outputs[0]) or _NO_WORDS.search(text.strip() or "{}"):
                raise
        parsed = _read_value(plan, text)  # a few words alone are the value all the same
        return parsed._replace(repairs=(Repair(plan.outputs[0].name, "format"), *parsed.repairs))

    def is_bare(self, signature: type[Signature], completion: str | Completion) -> bool:
        """Tell whether an answer is read as a value that does not say its name: beside calls that is only words."""
        plan = plan_of(signature)
        if len(plan.outputs) != 1:
            return False
        said, _, _ = _BEFORE_TEXT.spoken(text_of(completion))
        said = without_closing(said)[0].strip()
        try:
            if form_of(plan) == "object":
                JSONAdapter().parse(signature, completion)
                return False
            return _labelled(plan.outputs[0].name, said) is None and in_another_form(plan, said) is None
        except ResponseUnparsable:
            return True
        except ValueError:
            return False  # it is in another form, and cannot be read in it

    def thoughts_of(self, signature: type[Signature]) -> Thoughts:
        """Return where thoughts end that a server left in the text: only before everything else."""
        return BEFORE_OBJECT if form_of(plan_of(signature)) == "object" else _BEFORE_TEXT

    def follow_up(self, signature: type[Signature], error: ResponseUnparsable) -> FollowUp | None:
        """Return the turn that asks for the values behind thoughts that did not end with them; None in other forms."""
        plan = plan_of(signature)
        if form_of(plan) != "thoughts" or not error.raw.strip():
            return None
        rest = signature.delete(_THOUGHTS)
        ask = f"Now give only the final values as JSON with these keys: {keys_in_words(plan_of(rest).outputs)}."
        turns = (Message("assistant", error.raw), Message("user", ask))
        names = [each.name for each in plan.outputs[1:]]
        return FollowUp(turns, _Values(rest, unescape_labels(names, error.raw).strip()))

    def stream_parser(self, signature: type[Signature]) -> StreamParser:
        """Return a parser for one answer."""
        plan = plan_of(signature)
        return JsonStream(plan) if form_of(plan) == "object" else _AutoStream(plan)

    def missing_words(self, name: str) -> str:
        """Name the value."""
        return f"there was no value for `{name}`"

    def render(self, plan: Plan) -> Rendered:
        """Return the texts of a signature that no value changes."""
        form = form_of(plan)
        shown = shown_inputs(plan)
        names = [each.name for each in shown] if len(shown) > 1 else []
        system, tail = _words(plan, form)
        described = [f"- {each.name}: {note}" for each in shown if (note := _notes(each))]
        given = ["Given:\n" + "\n".join(described)] if described else []
        return Rendered(
            Message("system", "\n\n".join([plan.instructions, *given, *system])),
            slots(shown, lambda name: f"{name}: "),
            slots(plan.outputs, lambda name: name),
            ("\n\n" * bool(shown) + tail) if tail else "",
            lambda text: escape_labels(names, text),
            _boxed_answer
            if form == "thoughts" and is_boxed(plan)
            else {"object": json_answer, "value": _value_answer}.get(form, _thoughts_answer),
        )


# --- the words ------------------------------------------------------------------------------------------------


def _notes(field: Field) -> str:
    return "; ".join(note for note in (field.desc, constraint_words(field.constraints)) if note)


def _kind(field: Field) -> str:
    """Say what a value on a line looks like."""
    codec = field.codec
    if isinstance(codec, ChoiceCodec):
        return codec.in_words.replace("exactly one of", "one of")
    if isinstance(codec, NumberCodec):
        return {int: "a whole number", bool: "True or False"}.get(codec.exact or float, "a number")
    return ""


def _words(plan: Plan, form: Form) -> tuple[list[str], str]:
    """Return the paragraphs of the system message that say how to answer, and the last line of the user's turn."""
    if form == "nothing":
        return [], ""
    if form == "value":
        only = plan.outputs[0]
        if isinstance(only.codec, ChoiceCodec):
            choices, notes = "\n".join(only.codec.texts), _notes(only)
            said = f"The {_spelled(only)} is one of these:\n{choices}" + (f"\n({notes})" if notes else "")
            return [said], f"{only.name}:"
        kind = "; ".join(each for each in (_kind(only), _notes(only)) if each)
        return [], f"{only.name} ({kind}):" if kind else f"{only.name}:"
    if form == "object":
        return [], f"Answer with JSON with these keys: {keys_in_words(plan.outputs)}."
    rest = plan.outputs[1:]
    if is_boxed(plan):
        notes = _notes(rest[0])
        said = f"{_spelled(rest[0])} ({notes})" if notes else _spelled(rest[0])
        return [], f"Please reason step by step, and put your final {said} within {in_box('')}."
    if all(isinstance(each.codec, _LINE) for each in rest):
        lines = [f"{each.name}: {_blank(each)}" for each in rest]
        ends = "this line" if len(lines) == 1 else "these lines"
        return [], f"Think step by step. Then end with {ends}:\n" + "\n".join(lines)
    return [], "Think step by step."


def _blank(field: Field) -> str:
    said = "; ".join(each for each in (_kind(field), _notes(field)) if each)
    return f"({said})" if said else "..."


def _spelled(field: Field) -> str:
    return field.name.replace("_", " ")


# --- writing --------------------------------------------------------------------------------------------------


def _value_answer(rendered: Rendered, outputs: Mapping[str, object], every: bool) -> str:
    slot = rendered.outputs[0]
    if slot.name not in outputs:
        return NOT_GIVEN if every else ""
    return _alone(slot.name, demo_text(slot.codec, outputs[slot.name]).strip())


def _alone(name: str, text: str) -> str:
    """Return a value as it stands alone; one that is empty, or looks like its own label, behind its label."""
    is_plain = text and _labelled(name, text) is None and not (len(text) > 3 and may_be_elsewhere(name, text))
    return keep_closing(text if is_plain else f"{name}: {text}")


def _thoughts_answer(rendered: Rendered, outputs: Mapping[str, object], every: bool) -> str:
    return keep_closing(_lines(rendered, outputs, every))


def _lines(rendered: Rendered, outputs: Mapping[str, object], every: bool) -> str:
    """Return the thoughts, and each other value behind its label."""
    names = [slot.name for slot in rendered.outputs[1:]]
    lines = []
    for slot in rendered.outputs:
        if slot.name not in outputs and not every:
            continue
        given = slot.name in outputs
        text = escape_labels(names, demo_text(slot.codec, outputs[slot.name])) if given else NOT_GIVEN
        if slot is not rendered.outputs[0]:
            text = f"{slot.name}: {text}"
        lines.append(text)
    return "\n".join(lines)


def _boxed_answer(rendered: Rendered, outputs: Mapping[str, object], every: bool) -> str:
    thoughts, only = rendered.outputs
    told = demo_text(thoughts.codec, outputs[thoughts.name]) if thoughts.name in outputs else ""
    if only.name not in outputs or boxed_values(told):  # a box among the thoughts would be taken for the result
        return _thoughts_answer(rendered, outputs, every)
    before = _lines(rendered, {name: outputs[name] for name in outputs if name != only.name}, False)
    box = in_box(demo_text(only.codec, outputs[only.name]))
    return f"{before or NOT_GIVEN}\n{box}" if before or every else box


# --- reading --------------------------------------------------------------------------------------------------


def _labelled(name: str, text: str) -> str | None:
    """Return what stands behind the field's own name and a colon at the beginning; None where it does not."""
    labels = find_labels([name], text)
    return text[labels[0].end :].strip() if labels and labels[0].start == 0 else None


def _read_value(plan: Plan, raw: str) -> Parsed:
    field = plan.outputs[0]
    text = raw.strip()
    if not text:
        raise ResponseUnparsable(plan.name, raw, [field.name])
    behind = _labelled(field.name, text)
    if behind is not None:
        return _found_in(plan, {field.name: behind}, raw)
    try:
        other = in_another_form(plan, text)
    except ValueError as error:
        raise ResponseUnparsable(plan.name, raw, (), {field.name: str(error)}) from error
    if other is None:
        return _found_in(plan, {field.name: text}, raw)
    parsed = _found_in(plan, {field.name: other}, raw)
    return parsed._replace(repairs=(Repair(field.name, "format"), *parsed.repairs))


def _found_in(plan: Plan, texts: Mapping[str, str], raw: str) -> Parsed:
    """Read the values; a number or a choice that stands alone in a short sentence is found there."""
    try:
        return read_texts(plan, texts, raw)
    except ResponseUnparsable as error:
        if error.missing_fields:
            raise
        found = dict(texts)
        for name in error.invalid_fields:
            only = only_value(plan.fields[name].codec, texts[name])
            if only is None:
                raise
            found[name] = only
        parsed = read_texts(plan, found, raw)
        more = tuple(Repair(name, "literal") for name in error.invalid_fields)
        return parsed._replace(repairs=(*parsed.repairs, *more))


def _read_thoughts(plan: Plan, raw: str) -> Parsed:
    """
    Read thoughts, which stand before the first label, and the values behind labels.

    A label that comes twice must say the same twice. Where there is no label, one boxed number is the value; a box that
    is the last line is not part of the thoughts.
    """
    names = [each.name for each in plan.outputs[1:]]
    labels = find_labels(names, raw)
    boxes = boxed_values(raw) if is_boxed(plan) and not labels else []
    if len(boxes) == 1 and boxes[0]:
        texts = {_THOUGHTS: unescape_labels(names, raw[: _before_box(raw)]).strip(), names[0]: boxes[0]}
        return _found_in(plan, texts, raw)
    texts = {_THOUGHTS: unescape_labels(names, raw[: labels[0].start] if labels else raw).strip()}
    again: set[str] = set()
    ends = [*(each.start for each in labels[1:]), len(raw)]
    for label, end in zip(labels, ends, strict=False):
        text = raw[label.end : end]
        text = unescape_labels(names, text).strip()
        before = texts.setdefault(label.name, text)
        if before == text:
            continue
        texts[label.name] = first_line(text)
        if isinstance(plan.fields[label.name].codec, TextCodec) or first_line(before) != first_line(text):
            again.add(label.name)
    if again:
        raise ResponseUnparsable(plan.name, raw, (), dict.fromkeys(sorted(again), "there are two values for it"))
    return _found_in(plan, texts, raw)


def _before_box(text: str) -> int:
    """Return where thoughts end: before a last line that is a box and nothing else."""
    bare = text.rstrip()
    start = bare.rfind("\n") + 1
    last = bare[start:].lstrip()
    return start if last.startswith(in_box("")[:-1]) and last.endswith("}") else len(text)


@dataclass(frozen=True, slots=True)
class _Values(JSONAdapter):
    """Reads the values that a second turn asks for, and puts the thoughts of the first before them."""

    rest: type[Signature]
    thoughts: str

    def request(
        self, signature: type[Signature], messages: tuple[Message, ...], params: LMParams, capabilities: Capabilities
    ) -> LMRequest:
        """Ask for an object with the values."""
        return JSONAdapter().request(self.rest, messages, params, capabilities)

    def parse(self, signature: type[Signature], completion: str | Completion) -> Parsed:
        """
        Read the values.

        Raises:
            ResponseUnparsable: As ``JSONAdapter.parse``.
        """
        found = JSONAdapter().parse(self.rest, completion)
        return found._replace(outputs={_THOUGHTS: self.thoughts, **found.outputs})

    def correction(self, signature: type[Signature], error: ResponseUnparsable) -> tuple[Message, ...]:
        """Return the turns that show the object and what was wrong with it."""
        return JSONAdapter().correction(self.rest, error)

    def stream_parser(self, signature: type[Signature]) -> StreamParser:
        """Return a parser for the object."""
        return JsonStream(plan_of(self.rest))


# --- while it comes -------------------------------------------------------------------------------------------


class _AutoStream:
    """
    Tells a text, or thoughts line by line, as they come, and every other value when the answer is complete.

    Only the beginning of a line can be a label: a line of thoughts is held back until it has ended, and the beginning
    of a text until it cannot be its label.
    """

    __slots__ = ("_closing", "_filter", "_form", "_held", "_is_told", "_plan", "_section", "_whole")

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._form = form_of(plan)
        self._filter = ThoughtFilter(_BEFORE_TEXT)
        self._closing = ClosingFilter()
        self._whole: list[str] = []
        self._held: list[str] = []  # what is not told: the beginning of a text, the last line of thoughts
        self._is_told = False  # a text is past its label; thoughts are past their end
        self._section = Section(plan.outputs[0]) if plan.outputs and plan.outputs[0].codec.streams_text else None

    def feed(self, text: str) -> list[Piece]:
        """Take what was added."""
        said = self._filter.feed(text)[0]
        self._whole.append(said)
        if self._section is None or not said:
            return []
        if self._form == "value":
            return self._text(self._section, self._closing.feed(said))
        return self._thoughts(self._section, said)

    def _text(self, section: Section, said: str, *, last: bool = False) -> list[Piece]:
        if self._is_told:
            return section.add(said)
        name = self._plan.outputs[0].name
        if not last and self._held and len(self._held[0]) > len(name) + LOOKED_AT:  # in another form, for certain
            self._held.append(said)
            return []
        begun = ("".join(self._held) + said).lstrip()
        is_elsewhere = may_be_elsewhere(name, begun)
        is_label = len(begun) < len(name) + _MOST_DECORATION and may_become_label(name, begun)
        if not last and (is_elsewhere or is_label):
            self._held = [begun]
            return []
        self._is_told = True
        if not is_elsewhere or _labelled(name, begun) is not None:
            return section.add(_behind_label(name, begun))
        try:
            return section.add(str(_read_value(self._plan, begun).outputs[name]))
        except ResponseUnparsable:
            return []

    def _thoughts(self, section: Section, said: str) -> list[Piece]:
        self._held.append(said)
        if self._is_told or "\n" not in said:
            return []
        text = "".join(self._held)
        end = text.rfind("\n") + 1
        names = [each.name for each in self._plan.outputs[1:]]
        labels = find_labels(names, text[:end])
        if labels:
            self._is_told, end = True, labels[0].start
        elif is_boxed(self._plan):
            end = _before_box(text[:end])
        self._held = [text[end:]]
        return section.add(unescape_labels(names, text[:end])) if end else []

    def finish(self) -> list[Piece]:
        """Take note that the answer has ended and return what was held back."""
        last = self._filter.finish()[0]
        self._whole.append(last)
        if self._form == "value" and self._section is not None:
            last = self._closing.feed(last) + self._closing.finish()
            return [*self._text(self._section, last, last=True), *self._section.finish()]
        if self._form == "value":
            try:
                found = _read_value(self._plan, without_closing("".join(self._whole))[0])
            except ResponseUnparsable:
                return []
            return [Piece(name, "", value) for name, value in found.outputs.items()]
        return self._values(self._section, last) if self._section is not None else []

    def _values(self, section: Section, last: str) -> list[Piece]:
        """Return the rest of the thoughts, and the values behind them."""
        names = [each.name for each in self._plan.outputs[1:]]
        rest = without_closing("".join(self._held) + last)[0]
        labels = find_labels(names, rest)
        try:
            outputs = dict(_read_thoughts(self._plan, without_closing("".join(self._whole))[0]).outputs)
        except ResponseUnparsable:  # all of it is thoughts, and a second turn asks for the values
            return [*section.add(unescape_labels(names, rest)), *section.finish()]
        thoughts_end = labels[0].start if labels else _before_box(rest) if is_boxed(self._plan) else len(rest)
        pieces = [*section.add(unescape_labels(names, rest[:thoughts_end])), *section.finish()]
        for name in names:
            if name in outputs:
                value = outputs[name]
                texts = self._plan.fields[name].codec.streams_text and type(value) is str
                pieces.append(Piece(name, value if texts else "", value))
        return pieces


def _behind_label(name: str, text: str) -> str:
    labels = find_labels([name], text)
    return text[labels[0].end :] if labels and labels[0].start == 0 else text
