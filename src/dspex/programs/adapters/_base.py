"""The common part of adapters: an adapter renders a signature once, and everything of the prompt follows from that."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, TypeVar

from dspex.errors import ResponseUnparsable
from dspex.programs._compile import Plan
from dspex.programs.adapters._adapter import Adapter
from dspex.programs.adapters._prompt import (
    NATIVE_CALLS,
    Rendered,
    demo_messages,
    history_messages,
    is_history,
    sections,
    user_turn,
)
from dspex.programs.signature import Signature, plan_of
from dspex.protocols.lm import Capabilities, LMDelta, LMRequest, Message
from dspex.protocols.model import LMParams

__all__ = ["PromptAdapter", "rendered_of"]

T = TypeVar("T")


class PromptAdapter(ABC):
    """An adapter whose prompt is its ``render``; subclasses say how, and how an answer is read."""

    __slots__ = ()

    native_tools: ClassVar[bool] = True
    asks_capabilities: ClassVar[bool] = False

    @property
    def fallback(self) -> Adapter | None:
        """Nothing else is tried."""
        return None

    @abstractmethod
    def render(self, plan: Plan) -> Rendered:
        """Return the texts of a signature that no value changes; called once per signature."""

    @abstractmethod
    def missing_words(self, name: str) -> str:
        """Say that an output is missing from an answer, as a correction does."""

    def prefix(self, signature: type[Signature], demos: Sequence[Mapping[str, object]] = ()) -> tuple[Message, ...]:
        """
        Return the messages before the turn to be answered: the system message and the demonstrations.

        Incomplete demonstrations come first and say so; those without any input or any output are left out.

        Args:
            signature: The signature.
            demos: Field values by name; further keys are ignored.
        """
        rendered = rendered_of(self, plan_of(signature))
        return (rendered.system, *demo_messages(rendered, demos)) if demos else (rendered.system,)

    def turn(self, signature: type[Signature], inputs: Mapping[str, object]) -> Message:
        """
        Return the user's turn: the inputs, and what to write now.

        Raises:
            ValueError: An input has no text form; ``error.args[1]`` is its name.
        """
        rendered = rendered_of(self, plan_of(signature))
        return user_turn(sections(rendered, inputs), behind=rendered.tail)

    def turns(self, signature: type[Signature], inputs: Mapping[str, object]) -> tuple[Message, ...]:
        """
        Return the earlier turns of a History, and the user's turn to be answered.

        Raises:
            ValueError: An input has no text form; ``error.args[1]`` is its name.
        """
        rendered = rendered_of(self, signature._plan_)
        last = user_turn(sections(rendered, inputs), behind=rendered.tail)
        return (*history_messages(rendered, inputs), last) if rendered.histories else (last,)

    def format(
        self, signature: type[Signature], inputs: Mapping[str, object], demos: Sequence[Mapping[str, object]] = ()
    ) -> tuple[Message, ...]:
        """
        Return the whole prompt; ``inputs`` are values of the fields' types.

        Raises:
            ValueError: An input has no text form; ``error.args[1]`` is its name.
        """
        return (*self.prefix(signature, demos), *self.turns(signature, inputs))

    def format_outputs(self, signature: type[Signature], outputs: Mapping[str, object]) -> str:
        """Return the completion that ``parse`` reads as these outputs; outputs that are not given are left out."""
        rendered = rendered_of(self, plan_of(signature))
        return rendered.answer(rendered, outputs, False)

    def request(
        self,
        signature: type[Signature],
        messages: tuple[Message, ...],
        params: LMParams,
        capabilities: Capabilities,
    ) -> LMRequest:
        """Return the messages as they are: the form of the answer is said in words."""
        return LMRequest(messages, params)

    def correction(self, signature: type[Signature], error: ResponseUnparsable) -> tuple[Message, ...]:
        """Return the turns that show a model its own completion and what was wrong with it."""
        rendered = rendered_of(self, plan_of(signature))
        problems = [f"- {self.missing_words(name)}" for name in error.missing_fields]
        problems += [rendered.escape(f"- `{name}`: {problem}") for name, problem in error.invalid_fields.items()]
        text = "Your answer could not be read:\n" + "\n".join(problems) + "\n\nPlease write all of it again."
        return (Message("assistant", error.raw or "(nothing)"), Message("user", text + rendered.tail))

    def stream_text(self, delta: LMDelta) -> str:
        """Return the text."""
        return delta.text


def rendered_of(adapter: PromptAdapter, plan: Plan) -> Rendered:
    """Return the adapter's form of a signature, made once."""
    try:
        rendered: Rendered = plan.rendered[type(adapter)]
    except KeyError:
        rendered = adapter.render(plan)
        histories = tuple([each.name for each in plan.inputs if is_history(each)])
        calls = plan.rendered.get(NATIVE_CALLS, "")
        if histories or calls:
            rendered = replace(rendered, histories=histories, calls=calls)
        plan.rendered[type(adapter)] = rendered
    return rendered
