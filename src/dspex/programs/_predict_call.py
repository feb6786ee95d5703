"""One call of a predictor: the answer, its repairs, and the stream of it, in turns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from dspex.errors import (
    BudgetExceeded,
    DspexError,
    LMError,
    MissingInput,
    RequestRejected,
    ResponseIncomplete,
    ResponseUnparsable,
    StepCrashed,
    StreamInterrupted,
)
from dspex.programs._field_pieces import FieldPieces
from dspex.programs._go_on import Seam, can_go_on, is_looping
from dspex.programs._learned_form import LearnedForm, has_other_forms
from dspex.programs._quotes import looked_up, quoting_outputs
from dspex.programs._whole import MAX_PAUSES, incomplete, joined, larger, shorter_turns
from dspex.programs.adapters._adapter import Adapter, GoesOn, Parsed, Repair
from dspex.programs.adapters._enforced import enforced_by
from dspex.programs.adapters._native import Native, has_native_fields, native_of
from dspex.programs.adapters._thoughts import Thoughts, may_hold_thoughts
from dspex.programs.details import AskedTurn
from dspex.programs.signature import Signature, plan_of
from dspex.protocols.content import ReasoningPart
from dspex.protocols.lm import Capabilities, Completion, LMRequest, Message
from dspex.protocols.scope import LMResult, Scope

if TYPE_CHECKING:
    from dspex.programs.predict import Predict
    from dspex.telemetry import Telemetry

__all__ = ["Answer", "PredictCall"]

_MAX_RESETS = 3
"""The number of times that a stream that breaks off is started again."""
_UNKNOWN = Capabilities()
_NOT_ASKED = LMRequest(())

Answer = tuple[Completion, Parsed]
"""A completion, and what it says."""


class PredictCall:
    """
    Asks until there is an answer: the first turn, repair turns, and one attempt in the fallback's format.

    Attributes:
        messages: The prompt of the first turn.
        request: The last prompt that was sent.
        results: One per turn.
        repairs: The repairs that reading the answer took.
        answers: The readable completions of the last turn.
    """

    __slots__ = (
        "_adapter",
        "_allowance",
        "_came",
        "_capabilities",
        "_cut",
        "_inputs",
        "_is_freed",
        "_is_grown",
        "_learned",
        "_native",
        "_path",
        "_paused",
        "_predictor",
        "_prompt",
        "_scope",
        "_signature",
        "_why",
        "answers",
        "messages",
        "prompts",
        "repairs",
        "request",
        "results",
        "told_turns",
    )

    def __init__(
        self, predictor: Predict, adapter: Adapter, scope: Scope, path: str, inputs: Mapping[str, object]
    ) -> None:
        self._predictor = predictor
        self._scope = scope
        self._path = path
        self._inputs = inputs
        self.results: list[LMResult] = []
        self.repairs: list[Repair] = []
        self.answers: list[Answer] = []
        self.messages: tuple[Message, ...] = ()
        self.prompts: list[tuple[Message, ...]] = []
        """The prompt of each of the results."""
        self.told_turns: list[AskedTurn] = []
        """The form of each of the results, and why it was asked for."""
        self._why = ""
        self.request = _NOT_ASKED
        self._capabilities: Capabilities | None = None
        self._came: LMResult
        """The last result as it came: the cache knows it by that."""
        self._paused: list[Completion] = []
        """The parts of the answer that came before its pauses."""
        self._cut: Completion | None = None
        """The last answer, where it was cut off."""
        self._allowance: int | None = None
        """The tokens that an answer may have which was cut off before."""
        self._is_grown = self._predictor.repair_turns <= 0
        """True when an answer may not have more tokens than it was given."""
        self._is_freed = False
        """True when an answer could not be read: a form that was enforced may have been in the way of thoughts."""
        self._learned = (
            LearnedForm.of(adapter, predictor.signature, scope, predictor.lm)
            if has_other_forms(type(adapter))
            else None
        )
        if self._learned is not None:
            adapter, self._why = self._learned.adapter, self._learned.why
        self._use(adapter)

    def _use(self, adapter: Adapter) -> None:
        """Compose the prompt in this adapter's format."""
        predictor = self._predictor
        self._adapter = adapter
        self._signature: type[Signature] = predictor.signature
        self._native: Native | None = None
        effort = self._effort()
        if has_native_fields(self._signature._plan_) or effort is not None:
            self._native = native_of(self._signature, adapter, self._able(), effort)
            self._signature = self._native.signature if self._native is not None else self._signature
        telemetry = self._scope.telemetry
        try:
            if telemetry is None or not telemetry.active:
                turns = adapter.turns(self._signature, self._inputs)
            else:
                turns = self._format(adapter, telemetry)
        except ValueError as error:
            if len(error.args) < 2:
                raise
            problem, name = error.args
            raise MissingInput(plan_of(self._signature).name, invalid=[f"{name}: {problem}"]) from error
        self.messages = self._prompt = (*predictor.prefix_of(adapter, self._signature), *turns)

    def _format(self, adapter: Adapter, telemetry: Telemetry) -> tuple[Message, ...]:
        about = {"adapter": adapter.name, "signature": plan_of(self._signature).name, "predictor": self._path}
        with telemetry.within("dspex.adapter.format", about, self._inputs) as span:
            span.outputs = turns = adapter.turns(self._signature, self._inputs)
            return turns

    def _effort(self) -> str | None:
        """Return the effort of thinking that the call will have: the predictor's over that of the model's record."""
        own = self._predictor.params.reasoning
        return own if own is not None else self._scope.effort(self._predictor.lm)

    def _able(self) -> Capabilities:
        if self._capabilities is None:
            self._capabilities = self._scope.capabilities(self._predictor.lm)
        return self._capabilities

    async def run(self) -> PredictCall:
        """
        Ask, and read the answer.

        Raises:
            ResponseUnparsable: The answer gives no outputs, after all repair turns and the fallback.
            ResponseIncomplete: The answer was cut off, with a larger allowance and as a shorter answer too.
            StreamInterrupted: It broke off, or cannot be read, after a piece of it was handed on.
            LMError: The provider's last word.
        Cancellation: the running call is cancelled and its socket closed.
        """
        turns_left = self._predictor.repair_turns
        may_fall_back = turns_left > 0
        resets_left = _MAX_RESETS
        messages = self.messages
        self._paused.clear()
        failed: DspexError | None = None  # why the answer is asked for again
        stands: Mapping[str, object] = {}  # what a watcher was told by the turn before, and keeps
        while True:
            pieces, sink = None, self._scope.stream
            if sink is not None:
                memory = self._scope.forms(self._predictor.lm)
                pieces = FieldPieces(sink, self._path, self._adapter, self._signature, self._native, stands, memory)
                stands = {}
            try:
                result = await self._ask(messages, pieces)
            except (StreamInterrupted, LMError, StepCrashed) as error:
                if pieces is not None and await pieces.start_again(error, resets_left):
                    resets_left -= 1
                    self._note(Repair("", "reset"))
                    continue
                if isinstance(error, RequestRejected) and self._can_do_without_tools(error):
                    messages = self.messages
                    continue
                if failed is None or not isinstance(error, (RequestRejected, BudgetExceeded)):
                    raise
                # The first answer came, only what was asked for again is refused: the error is about the answer.
                if self._allowance is None or isinstance(error, BudgetExceeded) or turns_left <= 0:
                    raise failed from error
                turns_left -= 1
                self._allowance = None
                messages = self._ask_shorter()
                continue
            first = next(iter(result.response.completions), None)
            if first is not None and first.end == "paused" and len(self._paused) < MAX_PAUSES:
                if pieces is not None:
                    await pieces.take_back(incomplete(self._name, result, first), result)
                self._note(Repair("", "pause"))
                self._paused.append(first)
                messages = (*messages, first.turn())
                continue
            unread = self._read(result, first_was_told=pieces is not None and pieces.has_told)
            if unread is None:
                if self._learned is not None:
                    self._learn(result, is_read=True)
                if pieces is not None:
                    await pieces.agree(self.answers[0][1].outputs)
                return self
            failed = unread
            self._is_freed = True
            if turns_left and self._goes_on(unread):
                messages = self._prompt
                stands = dict(pieces.told) if pieces is not None else stands
                continue
            self._learn(result, is_read=False)
            self._scope.reject(self._came)
            fallback = self._adapter.fallback if may_fall_back else None
            is_cut = isinstance(unread, ResponseIncomplete)
            self._cut = first if is_cut else None
            allowance = self._larger(result) if is_cut else None
            if first is not None and first.end == "paused":  # as often as it may: it is not asked for again
                turns_left, allowance = 0, None
            if turns_left <= 0 and allowance is None and (is_cut or fallback is None):
                raise pieces.interrupted(unread, result) if pieces is not None and pieces.has_told else unread
            if pieces is not None:
                await pieces.take_back(unread, result)
            self._paused.clear()
            if allowance is not None:
                self._is_grown, self._allowance = True, allowance
                self._note(Repair("", "allowance"))
                messages = self._prompt
            elif turns_left > 0:
                turns_left -= 1
                if isinstance(unread, ResponseUnparsable):
                    self._note(Repair("", "turn"))
                    messages = self._prompt + self._adapter.correction(self._signature, unread)
                else:
                    messages = self._ask_shorter()
            elif fallback is not None:
                self._note(Repair("", "fallback"))
                self._use(fallback)
                may_fall_back, messages = False, self.messages

    async def _ask(self, messages: tuple[Message, ...], pieces: FieldPieces | None) -> LMResult:
        """
        Ask one turn; an answer that was cut off goes on where it stopped, if the model's server can do that.

        Raises:
            DspexError: As ``Scope.complete``; what is about the rest of an answer is not raised where the answer can be
                asked for again.
        """
        self.request = self._compose(messages)
        result = await self._complete(pieces)
        self._record(result, messages)
        first = next(iter(result.response.completions), None)
        grown = self._larger(result) if first is not None and first.end == "cut" and not self._paused else None
        if first is None or grown is None or not can_go_on(self.request, first, self._able(), self._effort()):
            if pieces is not None:
                await pieces.finish(result)
            return result
        seam = Seam(first.text)
        if pieces is not None:
            await pieces.go_on(result, seam)
        asked, longer = self.request, (*messages, seam.turn())
        self._allowance = grown - result.response.usage.output_tokens
        self.request, self._allowance = self._compose(longer), grown  # all of it, where it has to be asked for again
        try:
            rest = await self._complete(pieces)
        except (RequestRejected, BudgetExceeded):
            self.request = asked
            return result
        self._is_grown = True
        self._note(Repair("", "rest"))
        completions = tuple(map(seam.joined, rest.response.completions))
        whole = replace(rest, response=replace(rest.response, completions=completions))
        if pieces is not None:
            await pieces.finish(rest)
        self._record(whole, longer)
        return whole

    async def _complete(self, pieces: FieldPieces | None) -> LMResult:
        scope, lm = self._scope, self._predictor.lm
        if pieces is None:
            self._came = await scope.complete(self.request, lm=lm, step=self._path)
        else:
            self._came = await scope.complete(self.request, lm=lm, step=self._path, on_delta=pieces.take)
        return self._came

    def _record(self, result: LMResult, messages: tuple[Message, ...]) -> None:
        self.results.append(result)
        self.prompts.append(messages)
        self.told_turns.append(AskedTurn(self._adapter.name, enforced_by(self.request), self._why))
        self._why = ""

    def _larger(self, result: LMResult) -> int | None:
        """Return how many tokens a cut answer may have next; None where it may have no more, or they would not help."""
        first = next(iter(result.response.completions), None)
        if self._is_grown or first is None or first.end != "cut" or is_looping(first.text):
            return None
        return larger(self.request, result)

    def _learn(self, result: LMResult, *, is_read: bool) -> None:
        """Remember if the first answer, with the values behind its thoughts, was read. One cut off says nothing."""
        if (learned := self._learned) is None:
            return
        self._learned = None
        first = next(iter(result.response.completions), None)
        if first is not None and first.end == "whole":
            learned.note(self._scope, result, is_read=is_read)

    def _goes_on(self, unread: ResponseUnparsable | ResponseIncomplete) -> bool:
        """Go on behind an answer that has its thoughts and lacks its values: what was told of it stands."""
        if not isinstance(unread, ResponseUnparsable) or not isinstance(self._adapter, GoesOn):
            return False
        more = self._adapter.follow_up(self._signature, unread)
        if more is None:
            return False
        self._note(Repair("", "values"))
        self._adapter = more.adapter
        self._prompt += more.turns
        return True

    def _can_do_without_tools(self, error: RequestRejected) -> bool:
        """True when the server refused tools, which is remembered: the prompt then asks for the calls as text."""
        if error.parameter != "tools" or not self.request.tools:
            return False
        self._capabilities = None
        if self._able().tools:
            return False
        self._use(self._adapter)
        return True

    def _ask_shorter(self) -> tuple[Message, ...]:
        """Return the prompt that asks for a shorter answer than the one that was cut off."""
        assert self._cut is not None
        self._note(Repair("", "turn"))
        return self._prompt + shorter_turns(self._cut)

    @property
    def _name(self) -> str:
        return plan_of(self._signature).name

    def _compose(self, messages: tuple[Message, ...]) -> LMRequest:
        params = self._predictor.params
        if self.results and params.n != 1:
            params = params.merged({"n": 1})
        if self._allowance is not None:
            params = params.merged({"max_tokens": self._allowance})
        able = self._able() if self._adapter.asks_capabilities else _UNKNOWN
        if self._is_freed or (self._native is not None and self._native.tools):  # a call is not a text of any form
            able = replace(able, choices=False, grammar=False, stop=False)
        request = self._adapter.request(self._signature, messages, params, able)
        return request if self._native is None else self._native.with_tools(request, self._inputs)

    def _read(self, result: LMResult, *, first_was_told: bool) -> ResponseUnparsable | ResponseIncomplete | None:
        """
        Read each completion that is whole; the error of the first, if none can be read, or a watcher has pieces of it.

        A cut answer may well parse: half a list is a list. It is never read.
        """
        first_error: ResponseUnparsable | ResponseIncomplete | None = None
        unreadable = 0
        for completion in result.response.completions:
            error: ResponseUnparsable | ResponseIncomplete
            if completion.end == "whole":
                try:
                    if may_hold_thoughts(completion.text):
                        completion = self._without_thoughts(completion)
                    completion, parsed = self._parse(completion)
                    if parsed.thoughts:  # that stood before its values
                        reasoning = (*completion.reasoning, ReasoningPart(parsed.thoughts))
                        completion = replace(completion, reasoning=reasoning)
                except ResponseUnparsable as caught:
                    error = caught
                else:
                    self.answers.append((completion, parsed))
                    for repair in parsed.repairs:
                        self._note(repair)
                    continue
            else:
                error = incomplete(self._name, result, completion)
            if first_was_told and completion is result.response.completions[0]:
                self.answers.clear()
                return error
            first_error = first_error or error
            unreadable += 1
        if self.answers:
            for _ in range(unreadable):
                self._note(Repair("", "dropped"))
            return None
        plan = plan_of(self._signature)
        return first_error or ResponseUnparsable(plan.name, "", [each.name for each in plan.outputs])

    def _parse(self, completion: Completion) -> Answer:
        """Read one completion; after pauses its last part, which often is all of the answer, else all of them."""
        if not self._paused:
            return completion, self._parsed(completion)
        whole = joined(self._paused, completion)
        try:
            return whole, self._parsed(completion)
        except ResponseUnparsable:
            return whole, self._parsed(whole)

    def _parsed(self, completion: Completion) -> Parsed:
        telemetry = self._scope.telemetry
        if telemetry is None or not telemetry.active:
            parsed = self._by_format(completion)
        else:
            parsed = self._told(completion, telemetry)
        plan = self._signature._plan_
        if not quoting_outputs(plan):
            return parsed
        return parsed._replace(outputs=looked_up(plan, self._inputs, parsed.outputs, completion.text))

    def _told(self, completion: Completion, telemetry: Telemetry) -> Parsed:
        about = {"adapter": self._adapter.name, "signature": plan_of(self._signature).name, "predictor": self._path}
        with telemetry.within("dspex.adapter.parse", about, completion) as span:
            parsed = self._by_format(completion)
            span.outputs = parsed.outputs
            return parsed

    def _by_format(self, completion: Completion) -> Parsed:
        if self._native is None:
            return self._adapter.parse(self._signature, completion)
        names = [each.name for each in self._native.specs(self._inputs)]
        return self._native.read(self._adapter, completion, names)

    def _without_thoughts(self, completion: Completion) -> Completion:
        """Return a completion whose text is the answer alone; thoughts that its server left there are its reasoning."""
        thoughts_of = getattr(self._adapter, "thoughts_of", None)  # adapters of users need not have it
        if thoughts_of is None:
            return completion
        thoughts: Thoughts = thoughts_of(self._signature)
        memory = self._scope.forms(self._predictor.lm)
        if memory is not None:  # so that the next stream waits for the end of the thoughts
            memory.begins_in_thoughts = thoughts.are_unopened(completion.text)
        return thoughts.apart(completion)

    def _note(self, repair: Repair) -> None:
        self._why = repair.kind if not repair.field else self._why
        self.repairs.append(repair)
        self._scope.note_repair(plan_of(self._signature).name, repair.field, repair.kind)
