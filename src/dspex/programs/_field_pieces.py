"""The pieces of an answer for whoever watches: told as they come, and taken back where they are void."""

from __future__ import annotations

from collections.abc import Mapping

from dspex.errors import DspexError, LMError, ResponseUnparsable, StreamInterrupted
from dspex.programs._go_on import Seam
from dspex.programs.adapters._adapter import Adapter, Piece
from dspex.programs.adapters._native import Native
from dspex.programs.adapters._thoughts import UnopenedThoughts
from dspex.programs.signature import Signature, plan_of
from dspex.protocols.forms import FormMemory
from dspex.protocols.lm import LMDelta
from dspex.protocols.scope import Delta, DeltaSink, LMResult, Reset

__all__ = ["FieldPieces"]


class FieldPieces:
    """One turn that somebody watches: pieces of the first answer go to the sink as they come."""

    __slots__ = (
        "_adapter",
        "_held",
        "_memory",
        "_native",
        "_parser",
        "_partial",
        "_path",
        "_seam",
        "_signature",
        "_sink",
        "_thoughts",
        "_took",
        "_unopened",
    )

    def __init__(
        self,
        sink: DeltaSink,
        path: str,
        adapter: Adapter,
        signature: type[Signature],
        native: Native | None,
        stands: Mapping[str, object],
        memory: FormMemory | None,
    ) -> None:
        self._sink = sink
        self._path = path
        self._adapter = adapter
        self._signature = signature
        self._native = native
        self._parser = adapter.stream_parser(signature)
        self._partial = dict(stands)
        self._took = False
        self._thoughts = ""
        self._seam: Seam | None = None
        self._memory = memory
        # A value without its name may be words before calls, which are not an output. Where what was told stands, it
        # waits for the end of the answer.
        may_be_words = native is not None and bool(native.calls) and hasattr(adapter, "is_bare")
        self._held: list[str] | None = [] if may_be_words and sink.on_interrupt == "raise" else None
        self._unopened = UnopenedThoughts() if memory is not None and memory.begins_in_thoughts else None

    @property
    def told(self) -> Mapping[str, object]:
        """The last value of each output of which the sink has a piece."""
        return self._partial

    @property
    def has_told(self) -> bool:
        """True when the sink has a piece of this turn, or of one that it goes on from."""
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
        if text and self._seam is not None:
            text = self._seam.feed(text)
        if text and self._unopened is not None:
            text = self._unopened.feed(text)
            self._unopened = None if text else self._unopened
        if text and self._held is not None:
            self._held.append(text)
        elif text:
            await self._put(self._parser.feed(text))

    async def go_on(self, result: LMResult, seam: Seam) -> None:
        """Take note that the rest of the answer is asked for: what is told next is what it adds."""
        await self._all_of(result)
        self._took, self._seam = False, seam

    async def finish(self, result: LMResult) -> None:
        """Hand on what was held back; of an answer that did not come as a stream, all of it."""
        await self._all_of(result)
        text = self._seam.finish() if self._seam is not None else ""
        if self._unopened is not None and self._memory is not None:
            text = self._unopened.feed(text, last=True)
            if not text and all(each.end == "whole" for each in result.response.completions[:1]):
                text = self._unopened.finish()
                self._memory.begins_in_thoughts = False  # the next answer does not wait
        if self._held is not None:
            text = "".join((*self._held, text))
            if self._are_words(result):
                return
        if text:
            await self._put(self._parser.feed(text))
        await self._put(self._parser.finish())

    def _are_words(self, result: LMResult) -> bool:
        first = result.response.completions[:1]
        return bool(first and self._native is not None and self._native.is_preamble(self._adapter, first[0]))

    async def _all_of(self, result: LMResult) -> None:
        completions = result.response.completions
        if not self._took and completions:
            first = completions[0]
            for part in first.reasoning:
                await self.take(LMDelta(reasoning=part.text))
            await self.take(LMDelta(text=first.text))
            for at, call in enumerate(first.tool_calls):
                await self.take(LMDelta(tool=at, tool_name=call.name, arguments=call.raw))

    async def agree(self, outputs: Mapping[str, object]) -> None:
        """
        Tell what only the whole answer says, where that is more than what was told, or something else.

        Raises:
            StreamInterrupted: A draft was told before thoughts were known for what they are, and it stands.
        """
        texts = {name: str(value) for name, value in outputs.items() if isinstance(value, str)}
        if unsaid := [name for name in self._partial if name not in outputs]:
            why = dict.fromkeys(unsaid, "it was words before calls, which are not an output")
            await self.take_back(ResponseUnparsable(plan_of(self._signature).name, "", (), why))
        told = {name: str(self._partial[name]) for name in texts if isinstance(self._partial.get(name), str)}
        if any(not texts[name].startswith(text) for name, text in told.items()):
            name = plan_of(self._signature).name
            await self.take_back(
                ResponseUnparsable(name, "", (), dict.fromkeys(told, "a draft came before the answer"))
            )
            told = dict.fromkeys(told, "")
        for name, text in told.items():
            added = texts[name][len(text) :]
            if added:
                await self._put([Piece(name, added, outputs[name])])

    async def _put(self, pieces: list[Piece]) -> None:
        for piece in pieces:
            self._partial[piece.field] = piece.value_so_far
            await self._sink.put(Delta(self._path, piece.field, piece.text, piece.value_so_far))

    def interrupted(self, reason: Exception, result: LMResult | None = None) -> StreamInterrupted:
        """Return the error that says how far the answer came, and with which attempts."""
        why = reason.reason if isinstance(reason, StreamInterrupted) else reason
        attempts = result.attempts if result is not None else getattr(reason, "attempts", ())
        error = StreamInterrupted(self._path, self._partial, why, attempts)
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

    async def take_back(self, error: Exception, result: LMResult | None = None) -> None:
        """
        Tell the watcher that what came is void.

        Raises:
            StreamInterrupted: A piece was handed on, and what was told stands.
        """
        if not self.has_told:
            return
        if self._sink.on_interrupt == "raise":
            raise self.interrupted(error, result)
        await self._sink.put(Reset(self._path))
        self._partial.clear()
