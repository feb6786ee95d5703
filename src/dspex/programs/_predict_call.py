"""One call of a predictor: the answer, its repairs, and the stream of it, in turns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dspex.errors import DspexError, LMError, MissingInput, ResponseUnparsable, StepCrashed, StreamInterrupted
from dspex.programs.adapters._adapter import Adapter, Parsed, Piece, Repair
from dspex.programs.adapters._native import Native, has_native_fields, native_of
from dspex.programs.signature import Signature, plan_of
from dspex.protocols.lm import Capabilities, Completion, LMDelta, LMRequest, Message
from dspex.protocols.scope import Delta, DeltaSink, LMResult, Reset, Scope

if TYPE_CHECKING:
    from dspex.programs.predict import Predict

__all__ = ["Answer", "PredictCall"]

_MAX_RESETS = 3
"""How often a stream that breaks off is started again."""
_UNKNOWN = Capabilities()

Answer = tuple[Completion, Parsed]
"""A completion, and what it says."""


class PredictCall:
    """
    Asks until there is an answer: the first turn, repair turns, and one attempt in the fallback's format.

    Attributes:
        messages: The prompt of the first turn.
        request: What was sent last.
        results: One per turn.
        repairs: What it took to read the answer.
        answers: The readable completions of the last turn.
    """

    __slots__ = (
        "_adapter",
        "_capabilities",
        "_inputs",
        "_native",
        "_path",
        "_predictor",
        "_scope",
        "_signature",
        "answers",
        "messages",
        "repairs",
        "request",
        "results",
    )

    def __init__(
        self, predictor: Predict[Any, ...], adapter: Adapter, scope: Scope, path: str, inputs: Mapping[str, Any]
    ) -> None:
        self._predictor = predictor
        self._scope = scope
        self._path = path
        self._inputs = inputs
        self.results: list[LMResult] = []
        self.repairs: list[Repair] = []
        self.answers: list[Answer] = []
        self.messages: tuple[Message, ...] = ()
        self.request: LMRequest = LMRequest(())
        self._capabilities: Capabilities | None = None
        self._use(adapter)

    def _use(self, adapter: Adapter) -> None:
        """Compose the prompt in this adapter's format."""
        predictor = self._predictor
        self._adapter = adapter
        self._signature: type[Signature] = predictor.signature
        self._native: Native | None = None
        if has_native_fields(plan_of(self._signature)):
            self._native = native_of(self._signature, adapter, self._able(), predictor.params)
            self._signature = self._native.signature if self._native is not None else self._signature
        try:
            turns = adapter.turns(self._signature, self._inputs)
        except ValueError as error:
            if len(error.args) < 2:
                raise
            problem, name = error.args
            raise MissingInput(plan_of(self._signature).name, invalid=[f"{name}: {problem}"]) from error
        self.messages = (*predictor.prefix_of(adapter, self._signature), *turns)

    def _able(self) -> Capabilities:
        if self._capabilities is None:
            self._capabilities = self._scope.capabilities(self._predictor.lm)
        return self._capabilities

    async def run(self) -> PredictCall:
        """
        Ask, and read the answer.

        Raises:
            ResponseUnparsable: The answer gives no outputs, after all repair turns and the fallback.
            StreamInterrupted: It broke off, or cannot be read, after a piece of it was handed on.
            LMError: The provider's last word.
        Cancellation: the running call is cancelled and its socket closed.
        """
        turns_left = self._predictor.repair_turns
        may_fall_back = turns_left > 0
        resets_left = _MAX_RESETS
        messages = self.messages
        while True:
            self.request = self._compose(messages)
            scope, lm, sink = self._scope, self._predictor.lm, self._scope.stream
            pieces = None
            if sink is not None:
                pieces = _FieldPieces(sink, self._path, self._adapter, self._signature, self._native)
            try:
                if pieces is None:
                    result = await scope.complete(self.request, lm=lm, step=self._path)
                else:
                    result = await scope.complete(self.request, lm=lm, step=self._path, on_delta=pieces.take)
                    await pieces.finish(result)
            except (StreamInterrupted, LMError, StepCrashed) as error:
                if pieces is None or not await pieces.start_again(error, resets_left):
                    raise
                resets_left -= 1
                self._note(Repair("", "reset"))
                continue
            self.results.append(result)
            unread = self._read(result, first_was_told=pieces is not None and pieces.has_told)
            if unread is None:
                return self
            self._scope.reject(result)
            fallback = self._adapter.fallback if may_fall_back else None
            if turns_left <= 0 and fallback is None:
                raise pieces.interrupted(unread) if pieces is not None and pieces.has_told else unread
            if pieces is not None:
                await pieces.take_back(unread)
            if turns_left > 0:
                turns_left -= 1
                self._note(Repair("", "turn"))
                messages = self.messages + self._adapter.correction(self._signature, unread)
            elif fallback is not None:
                self._note(Repair("", "fallback"))
                self._use(fallback)
                may_fall_back, messages = False, self.messages

    def _compose(self, messages: tuple[Message, ...]) -> LMRequest:
        params = self._predictor.params
        if self.results and params.n != 1:
            params = params.merged({"n": 1})
        able = self._able() if self._adapter.asks_capabilities else _UNKNOWN
        request = self._adapter.request(self._signature, messages, params, able)
        if self._native is not None and self._native.tools:
            request = replace(request, tools=self._native.specs(self._inputs), tool_choice="auto")
        return request

    def _read(self, result: LMResult, *, first_was_told: bool) -> ResponseUnparsable | None:
        """Read every completion; the error of the first, when none can be read, or a watcher has pieces of it."""
        first_error: ResponseUnparsable | None = None
        unreadable = 0
        for completion in result.response.completions:
            try:
                if self._native is None:
                    parsed = self._adapter.parse(self._signature, completion)
                else:
                    parsed = self._native.read(self._adapter, completion)
            except ResponseUnparsable as error:
                if first_was_told and completion is result.response.completions[0]:
                    return error
                first_error = first_error or error
                unreadable += 1
                continue
            self.answers.append((completion, parsed))
            for repair in parsed.repairs:
                self._note(repair)
        if self.answers:
            for _ in range(unreadable):
                self._note(Repair("", "dropped"))
            return None
        plan = plan_of(self._signature)
        return first_error or ResponseUnparsable(plan.name, "", [each.name for each in plan.outputs])

    def _note(self, repair: Repair) -> None:
        self.repairs.append(repair)
        self._scope.note_repair(plan_of(self._signature).name, repair.field, repair.kind)


class _FieldPieces:
    """One turn that somebody watches: pieces of the first answer go to the sink as they come."""

    __slots__ = ("_adapter", "_native", "_parser", "_partial", "_path", "_sink", "_thoughts", "_took")

    def __init__(
        self, sink: DeltaSink, path: str, adapter: Adapter, signature: type[Signature], native: Native | None
    ) -> None:
        self._sink = sink
        self._path = path
        self._adapter = adapter
        self._native = native
        self._parser = adapter.stream_parser(signature)
        self._partial: dict[str, Any] = {}
        self._took = False
        self._thoughts = ""

    @property
    def has_told(self) -> bool:
        """Whether the sink has a piece of this turn."""
        return bool(self._partial)

    async def take(self, delta: LMDelta) -> None:
        """Hand on what a delta adds; waits while the watcher is behind."""
        if delta.index:
            return
        self._took = True
        if delta.reasoning and self._native is not None and self._native.reasoning:
            self._thoughts += delta.reasoning
            await self._put([Piece(self._native.reasoning, delta.reasoning, self._thoughts)])
        text = self._adapter.stream_text(delta)
        if text:
            await self._put(self._parser.feed(text))

    async def finish(self, result: LMResult) -> None:
        """Hand on what was held back; of an answer that did not come as a stream, all of it."""
        completions = result.response.completions
        if not self._took and completions:
            first = completions[0]
            for part in first.reasoning:
                await self.take(LMDelta(reasoning=part.text))
            await self.take(LMDelta(text=first.text))
            for at, call in enumerate(first.tool_calls):
                await self.take(LMDelta(tool=at, tool_name=call.name, arguments=call.raw))
        await self._put(self._parser.finish())

    async def _put(self, pieces: list[Piece]) -> None:
        for piece in pieces:
            self._partial[piece.field] = piece.value_so_far
            await self._sink.put(Delta(self._path, piece.field, piece.text, piece.value_so_far))

    def interrupted(self, reason: Exception) -> StreamInterrupted:
        """Return the error that says how far the answer came."""
        why = reason.reason if isinstance(reason, StreamInterrupted) else reason
        error = StreamInterrupted(self._path, self._partial, why)
        error.__cause__ = reason
        return error

    async def start_again(self, error: DspexError, resets_left: int) -> bool:
        """
        Tell the watcher that what came is void, where the request allows it and it can help; False to raise.

        Raises:
            StreamInterrupted: A piece was handed on, and it may not start again.
        """
        if not self.has_told and not isinstance(error, StreamInterrupted):
            return False
        hopeless = isinstance(error, LMError) and not error.is_retryable
        if self._sink.on_interrupt == "raise" or hopeless or resets_left <= 0:
            raise self.interrupted(error)
        await self.take_back(error)
        return True

    async def take_back(self, error: Exception) -> None:
        """
        Tell the watcher that what came is void.

        Raises:
            StreamInterrupted: A piece was handed on, and what was told stands.
        """
        if not self.has_told:
            return
        if self._sink.on_interrupt == "raise":
            raise self.interrupted(error)
        await self._sink.put(Reset(self._path))
        self._partial.clear()
