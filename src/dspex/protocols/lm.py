"""A program's words to a language model and its answer, and the service's interface for a step in between."""

from __future__ import annotations

import json
from array import array
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from dspex.errors import StreamTruncated
from dspex.protocols.content import Citation, Part, ReasoningPart, TextPart, ToolCall
from dspex.protocols.ends import End, end_of
from dspex.protocols.forms import FormMemory
from dspex.protocols.json_values import Json
from dspex.protocols.model import LM, LMChoice, LMParams, LMPool
from dspex.protocols.text_shapes import Grammar, TextChoice

__all__ = [
    "Attempt",
    "AttemptLog",
    "Capabilities",
    "Charge",
    "Completion",
    "EmbedRequest",
    "EmbedResponse",
    "JsonObject",
    "JsonSchema",
    "LMDelta",
    "LMRequest",
    "LMResponse",
    "LMService",
    "Message",
    "Role",
    "TokenLogprob",
    "ToolSpec",
    "Usage",
]

Role = Literal["system", "user", "assistant", "tool"]


# --- the question -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Message:
    """
    One turn of the conversation sent to the model.

    Attributes:
        role: The speaker; ``tool`` turns hold ``ToolResult`` parts only.
        content: Text, or parts in their order.
        cache: The provider is asked to keep the prompt up to the end of this turn for that long.
    """

    role: Role
    content: str | tuple[Part, ...]
    cache: Literal["5m", "1h"] | None = None

    @property
    def text(self) -> str:
        """The text of the turn; parts that are not text are left out."""
        content = self.content
        if isinstance(content, str):
            return content
        return "".join(part.text for part in content if isinstance(part, TextPart))


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as the model is told of it; ``parameters`` is the JSON schema of an object."""

    name: str
    description: str = ""
    parameters: Json = field(default_factory=lambda: {"type": "object", "properties": {}})  # a schema


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """The answer's text must be JSON that fits this schema; ``strict`` has the provider enforce it."""

    name: str
    schema: Json
    strict: bool = True


@dataclass(frozen=True, slots=True)
class JsonObject:
    """The answer's text must be a JSON object, of any shape."""


@dataclass(frozen=True, slots=True)
class LMRequest:
    """
    One prompt and how to sample from it; which model answers is said beside it.

    A model that can (``Capabilities.prefill``) goes on with an assistant's turn that ends the messages, as if it had
    written it; the answer's text is what it adds.

    Attributes:
        tools: Tools the model may ask for.
        tool_choice: ``auto``, ``none``, ``required``, or the name of the one tool it must ask for.
        output: The form the answer's text must have.
    """

    messages: tuple[Message, ...]
    params: LMParams = field(default_factory=LMParams)
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: str = "auto"
    output: JsonSchema | JsonObject | TextChoice | Grammar | None = None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """
    The capabilities of a model at an endpoint, known before it is asked; unknown servers are taken to do little.

    Attributes:
        json_schema: Enforces a JSON schema on its answer.
        json_object: Can be told to answer in JSON.
        choices: Holds its answer to one of some texts.
        grammar: Holds its answer to a grammar in GBNF.
        prefill: Goes on with an assistant's turn that ends the conversation.
        stop: Ends its answer at a text that it is given, and is asked to where a format has a closing mark.
        tools: Takes tool definitions and asks for calls.
        images: Reads images.
        audio: Reads sound.
        files: Reads documents.
        many: Gives ``n`` answers to one request.
        seed: Takes a seed.
        logprobs: Tells log-probabilities.
        streaming: Sends its answer piece by piece.
        reasoning: Takes the ``reasoning`` parameter.
    """

    json_schema: bool = False
    json_object: bool = False
    choices: bool = False
    grammar: bool = False
    prefill: bool = False
    stop: bool = False
    tools: bool = False
    images: bool = False
    audio: bool = False
    files: bool = False
    many: bool = False
    seed: bool = False
    logprobs: bool = False
    streaming: bool = True
    reasoning: bool = False


# --- the answer ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token of the answer, its natural log-probability, and the alternatives at its place."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """
    One of the ``n`` answers.

    Attributes:
        finish_reason: ``stop``, ``length``, ``tool_calls``, ``content_filter`` or the provider's word; ``end`` says
            what it means.
        native_reason: The word of the model's own provider, where a gateway tells it beside its own.
        tool_calls: The calls the model asks for, in its order.
        reasoning: The model's thoughts, in pieces that can be sent back.
        logprobs: Per token, where they were asked for and given.
        citations: The sources it names.
    """

    text: str
    finish_reason: str = "stop"
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning: tuple[ReasoningPart, ...] = ()
    logprobs: tuple[TokenLogprob, ...] | None = None
    citations: tuple[Citation, ...] = ()
    native_reason: str = ""

    @property
    def end(self) -> End:
        """True when it is whole, by the table of ``protocols.ends``."""
        return "whole" if self.finish_reason == "stop" else end_of(self.finish_reason)

    def turn(self) -> Message:
        """Return this answer as the assistant's turn of a conversation that goes on."""
        if not (self.tool_calls or self.reasoning):
            return Message("assistant", self.text)
        text = (TextPart(self.text),) if self.text else ()
        return Message("assistant", (*self.reasoning, *text, *self.tool_calls))


@dataclass(frozen=True, slots=True)
class LMDelta:
    """
    A piece of an answer under way.

    Attributes:
        index: Which of the ``n`` answers.
        text: The addition to its text.
        reasoning: The addition to its thoughts.
        tool: Which tool call ``arguments`` belong to, by its place among the calls; None for other deltas.
        tool_name: The tool, in the first delta of a call.
        arguments: The addition to the arguments' JSON.
    """

    index: int = 0
    text: str = ""
    reasoning: str = ""
    tool: int | None = None
    tool_name: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """
    Tokens of one or many calls, counted alike for every provider.

    ``cached_tokens`` (read from the provider's prompt cache) and ``cache_write_tokens`` are parts of
    ``input_tokens``; ``reasoning_tokens`` are a part of ``output_tokens``. ``estimated_tokens`` are those of both that
    no provider counted: they were counted here, roughly, because unknown is not zero. ``charged`` is what the server
    says that it has charged, in US dollars; None where it does not say.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cache_write_tokens: int = 0
    estimated_tokens: int = 0
    charged: Decimal | None = None

    @property
    def total_tokens(self) -> int:
        """Input plus output."""
        return self.input_tokens + self.output_tokens

    def counts(self) -> dict[str, float]:
        """Return the tokens by name, as events tell them: input and output, and the parts of them that there are."""
        parts = {
            "cached_tokens": self.cached_tokens,
            "cache_write_tokens": self.cache_write_tokens,
            "reasoning_tokens": self.reasoning_tokens,
        }
        known = {name: count for name, count in parts.items() if count}
        return {"input_tokens": self.input_tokens, "output_tokens": self.output_tokens, **known}

    def __add__(self, other: Usage) -> Usage:
        charged = self.charged
        if charged is not None or other.charged is not None:
            charged = self._charged_with(other)
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            self.estimated_tokens + other.estimated_tokens,
            charged,
        )

    def _charged_with(self, other: Usage) -> Decimal | None:
        """Return both sums together; None where one of them is not known, although there is something to charge."""
        if self.charged is None or other.charged is None:
            known, unknown = (other, self) if self.charged is None else (self, other)
            return known.charged if not unknown.total_tokens else None
        return self.charged + other.charged


@dataclass(frozen=True, slots=True)
class LMResponse:
    """
    A provider's whole answer; ``headers`` holds the ``x-…`` response headers in lower case.

    ``withheld`` counts the answers that a filter cut off or withheld: they are left out of ``completions``. ``id`` is
    the answer's own name, where the provider gives it one; ``request_id`` is that of the request, for its support desk.
    """

    completions: tuple[Completion, ...]
    usage: Usage
    model: str
    request_id: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    withheld: int = 0
    id: str = field(default="", compare=False)  # no cache keeps it: two with the same words are the same answer

    @property
    def is_whole(self) -> bool:
        """True when every answer came to its own end: no other response is cached."""
        return all(completion.end == "whole" for completion in self.completions)

    def deltas(self) -> list[LMDelta]:
        """Return the answer as the pieces of a stream that brought each part whole."""
        pieces: list[LMDelta] = []
        for index, completion in enumerate(self.completions):
            reasoning = "".join(part.text for part in completion.reasoning)
            if reasoning or completion.text:
                pieces.append(LMDelta(index, completion.text, reasoning))
            for place, call in enumerate(completion.tool_calls):
                arguments = call.raw or json.dumps(dict(call.arguments or {}), ensure_ascii=False)
                pieces.append(LMDelta(index, tool=place, tool_name=call.name, arguments=arguments))
        return pieces


@dataclass(frozen=True, slots=True)
class EmbedRequest:
    """Texts to be turned into vectors; ``dimensions`` asks for shorter ones."""

    texts: tuple[str, ...]
    dimensions: int | None = None
    extra_body: Mapping[str, object] = field(default_factory=dict)  # the provider's own JSON


@dataclass(frozen=True, slots=True)
class EmbedResponse:
    """One vector of float32 per text, in the order of the texts."""

    vectors: tuple[array[float], ...]
    usage: Usage
    model: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """
    One try of a logical call.

    Attributes:
        number: Counts from 1, over all models that were asked.
        outcome: ``ok``, the error's class name, ``killed`` (its step died), ``cancelled`` (another model was faster),
            ``resent`` (its kept-alive connection was closed before a byte came, and the next one followed at once), or
            ``reader`` (whoever was handed the pieces failed).
        duration: Seconds.
        status: The HTTP status, where there was one.
        message: The error's.
        lm: The model that was asked.
        first_byte: Seconds until the answer began: a stream with its first piece, another with the first byte of its
            body.
        request_id: The provider's, for its support desk.
        usage: The provider's count, which it charges, for an attempt that brought no answer; None where it counted
            nothing, and of an attempt that did: its count is the response's.
        sent: True when the provider may have heard of it; False where no connection came about.
        at: When it was sent, by the runtime's clock; None where nobody knows.
        server: The server that was asked, ``host:port``; empty where there is none.
    """

    number: int
    outcome: str
    duration: float
    status: int | None = None
    message: str = ""
    lm: str = ""
    first_byte: float | None = None
    request_id: str | None = None
    usage: Usage | None = None
    sent: bool = True
    at: float | None = field(default=None, compare=False, repr=False)
    server: str = field(default="", compare=False, repr=False)

    @property
    def is_call(self) -> bool:
        """
        True when a budget's calls count it: it was sent, and not refused in words.

        An answer counts, and so does an attempt whose end nobody knows: one that timed out, was cancelled or broke off.
        """
        if not self.sent or self.outcome in _REFUSED:
            return False
        return self.status is None or self.status < 300


_REFUSED = frozenset({"RateLimited", "ServerFailed", "resent"})


class Charge(NamedTuple):
    """The count of a model's provider for an attempt that brought no answer."""

    lm: LM
    usage: Usage


class AttemptLog:
    """
    The history of one logical LM call so far; it survives the step that writes it.

    A restarted step reads ``response`` and returns it unsent; otherwise it goes on counting, with the same
    idempotency key.
    """

    __slots__ = (
        "_pieces",
        "_telling",
        "_texts",
        "_whole",
        "attempts",
        "cached",
        "charges",
        "counted",
        "delivered",
        "failure",
        "fetch",
        "grant",
        "idempotency_key",
        "lm",
        "on_wire",
        "parts",
        "path",
        "response",
        "sent",
        "sent_at",
        "server",
    )

    def __init__(self, idempotency_key: str, path: str = "") -> None:
        self.idempotency_key = idempotency_key
        self.path = path
        """Where the predictor that asks sits in its program."""
        self.attempts: list[Attempt] = []
        self.charges: list[Charge] = []
        """The cost of those of them that brought no answer: one that was withheld, say."""
        self.sent = 0
        """The number of times bytes of this call were handed to the network."""
        self.sent_at: float | None = None
        """When that was last, by the runtime's clock."""
        self.server = ""
        """To which server, ``host:port``; empty for a model of this process."""
        self.on_wire = 0
        """The number of attempts under way: two while a second model is asked too."""
        self.delivered = False
        """True when a piece of an answer was handed on: from then on nothing is tried again."""
        self.lm: LM | None = None
        """The model that was asked last: of a pool, the member that answered."""
        self.response: LMResponse | None = None
        self.cached: str | None = None
        """Where a cache had the answer: ``memory``, ``disk``, ``shared`` or ``coalesced``."""
        self.parts: list[AttemptLog] = []
        """The logs of the calls it was made of, where several were needed."""
        self.counted = 0
        """The number of its calls that an account has paid for."""
        self.failure: Exception | None = None
        """The failure of the attempt before, where a budget watches."""
        self.grant: Callable[[int], None] | None = None
        """Asks the budgets for so many calls more than are made; raises ``BudgetExceeded``. None without a budget."""
        self.fetch: Callable[[int], Awaitable[object]] | None = None
        """As ``grant``, but may ask other processes that spend from the same budget."""
        self._pieces = 0
        self._texts: dict[int, int] | None = None
        self._telling = 0
        self._whole: bool | None = None

    @property
    def was_sent(self) -> bool:
        """True when a provider may have heard of the call: from then on it is one, whatever comes of it."""
        if any(part.was_sent for part in self.parts):
            return True
        return self.on_wire > 0 or any(attempt.sent for attempt in self.attempts)

    @property
    def calls(self) -> int:
        """The number of calls it took so far: attempts under way, and each that was sent and not refused in words."""
        if self.parts:
            return sum(part.calls for part in self.parts)
        return self.on_wire + sum([attempt.is_call for attempt in self.attempts])

    def due_calls(self) -> int:
        """Return how many calls are to be paid for now, and note them as paid; a call that was refused is one, too."""
        came = int(self.response is not None or self.was_sent)
        if (
            came and len(self.attempts) == 1 and not self.parts and not self.on_wire
        ):  # then it is one, whatever became of it
            due = came - self.counted
        else:
            due = max(self.calls, came) - self.counted
        self.counted += due
        return due

    async def tell(self, on_delta: Callable[[LMDelta], Awaitable[object]], delta: LMDelta) -> None:
        """Hand on a piece of the answer, counting it; ``on_delta``'s failures pass."""
        self._pieces += 1
        if delta.text:
            self._texts = self._texts or {}
            self._texts[delta.index] = self._texts.get(delta.index, 0) + len(delta.text)
        self._telling += 1
        await on_delta(delta)
        self._telling -= 1  # not after a failure: how much of this piece was read is not known then

    def rest(self) -> list[LMDelta]:
        """Return the pieces of ``response`` that have not been handed on: all of an answer that was not streamed."""
        response = self.response
        if response is None:
            return []
        if self._whole is None:
            self._whole = self._pieces == 0
        if self._whole:
            return response.deltas()[self._pieces :]
        if response.withheld:  # the answers' numbers are no longer those of the pieces
            return []
        texts, told = enumerate(completion.text for completion in response.completions), self._texts or {}
        return [LMDelta(at, text[told.get(at, 0) :]) for at, text in texts if len(text) > told.get(at, 0)]

    async def tell_rest(self, on_delta: Callable[[LMDelta], Awaitable[object]]) -> None:
        """
        Hand on what is left of ``response`` after the step that began to has died.

        Raises:
            StreamTruncated: It died while a piece was being read: what the reader has is not known.
        """
        if self._telling:
            raise StreamTruncated("the step died while a piece of the answer was being handed on")
        for delta in self.rest():
            self.delivered = True
            await self.tell(on_delta, delta)


@runtime_checkable
class LMService(Protocol):
    """The LM room's interface for a step: one logical call, attempts included, run in the caller's own task."""

    async def complete(
        self,
        lm: LMChoice,
        request: LMRequest,
        log: AttemptLog,
        deadline: float,
        *,
        priority: int = 0,
        on_delta: Callable[[LMDelta], Awaitable[object]] | None = None,
    ) -> LMResponse:
        """
        Answer ``request``, retrying as the policy allows, until ``deadline`` (the runtime clock's seconds).

        Args:
            lm: Which model answers.
            request: The question, its parameters complete.
            log: The history of earlier attempts of this call.
            deadline: When the caller's time is over.
            priority: Lower numbers are served first when calls wait: 0 interactive, 10 optimizer.
            on_delta: Makes it a stream: awaited with each piece of the answer in its order, which holds the
                provider back. Nothing is tried again after the first piece.

        Raises:
            LMError: The provider's last word, with ``attempts`` filled.
            ServiceUnavailable: The service cannot start.
        Cancellation: closes the attempt's socket and settles its lease.
        """
        ...

    async def embed(self, lm: LMChoice, request: EmbedRequest, log: AttemptLog, deadline: float) -> EmbedResponse:
        """Turn texts into vectors; errors and cancellation as ``complete``."""
        ...

    def resolve(self, lm: LMChoice) -> LM | LMPool:
        """Return the record that ``lm`` (a name, a record, a pool or the default) stands for."""
        ...

    def forms(self, lm: LMChoice) -> FormMemory | None:
        """Return what the model showed about forms of answers; None for a pool, and for a model in this process."""
        ...

    def capabilities(self, lm: LMChoice) -> Capabilities:
        """Return what the model can do; for a pool, what all of its members can do."""
        ...

    def effort(self, lm: LMChoice) -> str | None:
        """
        Return the effort of thinking that a model's record has (``LM(..., reasoning="low")``).

        For a pool it says what holds whoever answers: ``"none"`` if one member is not to think, else None if one names
        no effort, else that of the first.
        """
        ...
