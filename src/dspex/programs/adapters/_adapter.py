"""The interface of adapters: from a signature to a prompt, and from an answer back to values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, get_args, runtime_checkable

from dspex.errors import ResponseUnparsable
from dspex.programs.adapters._progress import SoFar
from dspex.programs.signature import Signature
from dspex.protocols.lm import Capabilities, Completion, LMDelta, LMRequest, Message
from dspex.protocols.model import LMParams

__all__ = ["ADAPTER_NAMES", "Adapter", "AdapterName", "Parsed", "Piece", "Repair", "StreamParser", "text_of"]

AdapterName = Literal["auto", "chat", "json", "xml", "tool"]
"""The adapters of this package, by ``name``."""

ADAPTER_NAMES: tuple[str, ...] = get_args(AdapterName)


class Repair(NamedTuple):
    """
    A completion that was not written as it should be.

    Attributes:
        field: Which output; empty for the answer as a whole.
        kind: The repair: ``json`` (JSON with slips, or JSON where a text was asked for), ``literal`` (another form of
            the value), ``xml`` (nested elements), ``format`` (other marks than those asked for), ``turn`` (the model
            was asked again), ``thoughts`` (they stood before its value), ``values`` (behind its thoughts it was asked
            for the values), ``fallback`` (it was asked in another format), ``dropped`` (one of several answers could
            not be read), ``reset`` (a stream broke off and was started again).
    """

    field: str
    kind: str


class Parsed(NamedTuple):
    """The content of a completion: outputs by name, the repairs that reading them took, thoughts before its values."""

    outputs: dict[str, Any]
    repairs: tuple[Repair, ...]
    thoughts: str = ""


class Piece:
    """
    A piece that a stream adds to one output.

    Attributes:
        field: The output.
        text: The addition to its text.
    """

    __slots__ = ("_so_far", "field", "text")

    def __init__(self, field: str, text: str, value_so_far: object) -> None:
        self.field = field
        self.text = text
        self._so_far = value_so_far

    @property
    def value_so_far(self) -> object:
        """The value as far as it can be told: None where nothing can, and of the field's type once complete."""
        so_far = self._so_far
        return so_far.value() if isinstance(so_far, SoFar) else so_far

    def __iter__(self) -> Iterator[Any]:
        yield self.field
        yield self.text
        yield self.value_so_far

    def __repr__(self) -> str:
        return f"Piece({self.field!r}, {self.text!r}, {self.value_so_far!r})"


class StreamParser(Protocol):
    """
    Reads one answer while it comes.

    However the answer is cut, the texts of a field's pieces add up to the same, and the last value of a field is
    what ``parse`` finds in the whole answer. The marks of the format are never part of a piece.
    """

    def feed(self, text: str) -> list[Piece]:
        """Take what was added and return what it adds to the outputs."""
        ...

    def finish(self) -> list[Piece]:
        """Take note that the answer has ended and return what was held back."""
        ...


@runtime_checkable
class Adapter(Protocol):
    """
    A format that puts a signature to a model and reads its answer; a frozen value, so one serves everybody.

    ``parse(signature, format_outputs(signature, outputs)).outputs == outputs`` for all values of the fields' types.
    """

    name: ClassVar[str]
    """Its name in programs, saved states and ``with_adapter``."""
    native_tools: ClassVar[bool]
    """True when tools of the signature may be given to a model that can call them by itself."""
    asks_capabilities: ClassVar[bool]
    """True when ``request`` looks at the model's capabilities."""

    @property
    def fallback(self) -> Adapter | None:
        """The adapter that is tried once when the answer still cannot be read after the repair turns."""
        ...

    def prefix(self, signature: type[Signature], demos: Sequence[Mapping[str, object]] = ()) -> tuple[Message, ...]:
        """Return the messages that no input changes: the system message and the demonstrations."""
        ...

    def turns(self, signature: type[Signature], inputs: Mapping[str, object]) -> tuple[Message, ...]:
        """
        Return the rest of the prompt: earlier turns, and the user's turn to be answered.

        Raises:
            ValueError: An input has no text form; ``error.args[1]`` is its name.
        """
        ...

    def format_outputs(self, signature: type[Signature], outputs: Mapping[str, object]) -> str:
        """Return the completion that ``parse`` reads as these outputs; outputs that are not given are left out."""
        ...

    def request(
        self, signature: type[Signature], messages: tuple[Message, ...], params: LMParams, capabilities: Capabilities
    ) -> LMRequest:
        """Return what is sent: the messages, and the form that the answer is asked to have."""
        ...

    def parse(self, signature: type[Signature], completion: str | Completion) -> Parsed:
        """
        Read the outputs from a completion.

        Raises:
            ResponseUnparsable: Outputs without a default are missing, or have a value of another type.
        """
        ...

    def correction(self, signature: type[Signature], error: ResponseUnparsable) -> tuple[Message, ...]:
        """Return the turns that show a model its own completion and what was wrong with it."""
        ...

    def stream_text(self, delta: LMDelta) -> str:
        """Return the part of a delta that the outputs are read from."""
        ...

    def stream_parser(self, signature: type[Signature]) -> StreamParser:
        """Return a parser for one answer."""
        ...


class FollowUp(NamedTuple):
    """
    The way to go on with an answer that has its thoughts and lacks its values.

    Attributes:
        turns: The turns that are added to the conversation.
        adapter: Reads the next answer, and asks for all that is still wanted.
    """

    turns: tuple[Message, ...]
    adapter: Adapter


@runtime_checkable
class GoesOn(Protocol):
    """An adapter some of whose answers are only the first half: thoughts, behind which the values are asked for."""

    def follow_up(self, signature: type[Signature], error: ResponseUnparsable) -> FollowUp | None:
        """Return how to go on behind an answer that could not be read; None where it is to be asked for again."""
        ...


@runtime_checkable
class HasOtherForms(Protocol):
    """An adapter that gives way to others where a model cannot write its form."""

    def other_forms(self, signature: type[Signature]) -> tuple[Adapter, ...]:
        """Return the adapters that are asked with in its place, in this order."""
        ...


def text_of(completion: str | Completion) -> str:
    """Return a completion's text."""
    return completion if isinstance(completion, str) else completion.text
