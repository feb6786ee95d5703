"""The scope of one request: what ``forward`` asks for becomes steps here."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from typing import Any, TypeVar, cast

from dspex.errors import ConfigError, LMError, ScopeClosed, StreamTruncated, TransportFailed
from dspex.programs import PredictorPaths
from dspex.protocols.cache import CacheMode, CacheService, Hit, Lead, cache_key
from dspex.protocols.filters import Filter
from dspex.protocols.forms import FormMemory
from dspex.protocols.lm import (
    Attempt,
    AttemptLog,
    Capabilities,
    EmbedRequest,
    EmbedResponse,
    JsonObject,
    JsonSchema,
    LMRequest,
    LMResponse,
    LMService,
    Message,
    Usage,
)
from dspex.protocols.model import LM, LMChoice, LMParams, LMPool
from dspex.protocols.money import Account, DryRun, MoneyService
from dspex.protocols.params import UNSET
from dspex.protocols.retrieval import Passage, RetrievalService, RunStep
from dspex.protocols.scope import DeltaSink, LMResult, OnDelta, RequestTotals
from dspex.protocols.surrogates import DeltaMender, mended, mended_messages, mended_response
from dspex.requests._embedding import CachedEmbedding
from dspex.requests._record import RequestRecord
from dspex.requests._steps import StepPolicy, noted_step, run_step
from dspex.requests._threads import ToolThreads
from dspex.runtime import Process, Runtime
from dspex.telemetry import Span

__all__ = ["RequestScope", "Services"]

R = TypeVar("R")

_NOTHING = Decimal(0)


@dataclass(frozen=True, slots=True)
class Services:
    """The services a request may use; each finds its actors by name at every call."""

    lm: LMService
    retrieval: RetrievalService
    cache: CacheService | None
    money: MoneyService
    account: Account
    """The account that pays in the end: the App's."""
    threads: ToolThreads


class RequestScope:
    """Implements ``protocols.Scope`` for one incarnation of one request."""

    __slots__ = ("_services", "adapter", "policy", "process", "request_record", "runtime", "stream", "telemetry")

    def __init__(self, runtime: Runtime, services: Services, record: RequestRecord, policy: StepPolicy) -> None:
        self.runtime = runtime
        self.policy = policy
        self.request_record = record
        self.process: Process | None = None
        """The owner of the steps, while the request lives."""
        self._services = services
        self.telemetry = runtime.telemetry
        self.adapter: Any = record.options.adapter  # an Adapter, as ``protocols.Scope`` has it
        self.stream: DeltaSink | None = record.options.stream

    @property
    def deadline(self) -> float:
        """When the request's time is over, by the runtime's clock."""
        return self.request_record.deadline

    @property
    def deps(self) -> object:
        """The value that tools are given."""
        return self.request_record.options.deps

    def capabilities(self, lm: LMChoice) -> Capabilities:
        """Return what the model can do."""
        return self._services.lm.capabilities(self.request_record.options.lm if lm is None else lm)

    def effort(self, lm: LMChoice) -> str | None:
        """Return the effort of thinking that calls have where they name none."""
        model = self._resolved(lm)
        return None if model is None else self._services.lm.effort(model)

    def forms(self, lm: LMChoice) -> FormMemory | None:
        """Return the model's memory of forms, unless the run does not learn."""
        options = self.request_record.options
        return self._services.lm.forms(options.lm if lm is None else lm) if options.learn_forms else None

    @property
    def account(self) -> Account:
        """The account that pays for the request."""
        return self.request_record.account

    @property
    def dry(self) -> DryRun | None:
        """Where calls are counted instead of made."""
        return self.request_record.options.dry

    def close(self) -> None:
        """Refuse steps from now on: the request has ended."""
        self.process = None  # predictions lead here through their details: no way back to the process that made them

    # --- steps ----------------------------------------------------------------------------------------------

    def complete(
        self, request: LMRequest, *, lm: LMChoice, step: str, on_delta: OnDelta | None = None
    ) -> Coroutine[object, object, LMResult]:
        """Ask a language model, as ``protocols.Scope.complete`` says; halves of characters are made harmless here."""
        return (self._complete_told if self.telemetry.active else self._complete)(request, lm, step, on_delta)

    async def _complete_told(
        self, request: LMRequest, lm: LMChoice, step: str, on_delta: OnDelta | None = None
    ) -> LMResult:
        """Complete, and tell telemetry of it."""
        about = self._asked(lm, step)
        about |= {"params": self._params_of(request, lm), "streamed": on_delta is not None}
        about["form"] = "json" if isinstance(request.output, (JsonObject, JsonSchema)) else "text"
        with self.telemetry.within("dspex.lm.call", about, request) as span:
            try:
                result = await self._complete(request, lm, step, on_delta)
            except LMError as error:
                _tell_attempts(span, error.attempts)
                raise
            response = result.response
            span.measurements |= response.usage.counts()
            if result.cost is not None:
                span.measurements["cost"] = float(result.cost)
            _tell_attempts(span, result.attempts)
            answered = getattr(result.lm, "model", about["lm"])
            span.metadata |= {"lm": answered, "cached": result.cached, "attempts": len(result.attempts)}
            if result.cached is None:
                span.metadata |= {"model": response.model, "response": response.id}
            span.metadata["ends"] = tuple(each.finish_reason for each in response.completions)
            span.outputs = response
            return result

    def _asked(self, lm: LMChoice, step: str) -> dict[str, object]:
        """Return what an event tells of who is asked: the model where it is one, and its name in the user's words."""
        chosen = self.request_record.options.lm if lm is None else lm
        asked = getattr(chosen, "model", chosen) or "default"
        model = self._resolved(lm)
        return {
            "request": self.request_record.id,
            "step": step,
            "lm": model.model if isinstance(model, LM) else None,
            "asked": asked,
        }

    def _resolved(self, lm: LMChoice) -> LM | LMPool | None:
        """Return the record; None where there is none, which the call itself will say."""
        try:
            return self._services.lm.resolve(self.request_record.options.lm if lm is None else lm)
        except ConfigError:
            return None

    def _params_of(self, request: LMRequest, lm: LMChoice) -> LMParams:
        """Return the parameters of the call; members of a pool may have more of their own."""
        model = self._resolved(lm)
        return request.params.over(model.params) if isinstance(model, LM) else request.params

    async def _complete(self, request: LMRequest, lm: LMChoice, step: str, on_delta: OnDelta | None) -> LMResult:
        record, services, started = self.request_record, self._services, self.runtime.clock.now()
        model = services.lm.resolve(record.options.lm if lm is None else lm)
        if isinstance(model, LM) and model.params is not UNSET:  # a pool's members bring theirs when they are asked
            params = request.params.over(model.params)
            if params is not request.params:
                request = replace(request, params=params)
        messages = mended_messages(request.messages)
        if messages is not request.messages:
            request = replace(request, messages=messages)
        mender = DeltaMender(on_delta) if on_delta is not None else None
        if mender is not None:
            on_delta = mender.take
        mode = record.options.cache
        key = cache_key(model, request) if services.cache is not None and mode != "bypass" else ""
        if key and mode in ("use", "only") and services.cache is not None:
            found = services.cache.peek(key)
            if found is not None and found.is_whole:
                self.refuse_if_closed()  # as run_step does: an answer in memory, too, is for a request that lives
                found = mended_response(found)
                if on_delta is not None:
                    await _replay(found, on_delta)
                return self._result(found, model, (), "memory", started, key=key)
        log = AttemptLog(f"{record.id}-{len(record.logs) + 1}", step)
        record.logs.append(log)
        work: Callable[[], Awaitable[LMResponse]]
        if key or mode == "only":
            work = partial(self._complete_cached, model, request, log, on_delta, key, mode)
        else:
            work = self._paid(model, request, log, on_delta)
        name = f"lm {step}"
        note = record.note_step(name, started, log) if record.steps is not None else None
        try:
            response = await run_step(self, name, work, restartable=True)
        except BaseException as error:  # whatever it is: booked, then raised on
            if note is not None:
                note.end(self.runtime.clock.now(), error)
            if log.was_sent:
                record.calls += 1
                self._book_failed(log, model)
            raise
        if note is not None:
            note.ended = self.runtime.clock.now()
        response = mended_response(response)
        if log.cached is not None and on_delta is not None:
            await _replay(response, on_delta)  # out here, where no death of the step can cut it off
        if mender is not None:
            await mender.finish()
        charged = self._book_charges(log, calls=0) if log.charges else _NOTHING
        due = log.due_calls() if log.cached is None else 0
        return self._result(response, model, tuple(log.attempts), log.cached, started, log.lm, charged, due, key=key)

    async def embed(self, texts: Sequence[str], *, lm: LMChoice, step: str) -> tuple[array[float], ...]:
        """Turn texts into vectors, as ``protocols.Scope.embed`` says."""
        if not self.telemetry.active:
            return (await self._embed(texts, lm, step))[0]
        about = self._asked(lm, step)
        with self.telemetry.within("dspex.embedding", about, tuple(texts)) as span:
            try:
                vectors, response, log, cost = await self._embed(texts, lm, step)
            except LMError as error:
                _tell_attempts(span, error.attempts)
                raise
            _tell_attempts(span, log.attempts)
            span.measurements |= {"texts": float(len(vectors)), "input_tokens": float(response.usage.input_tokens)}
            if vectors:
                span.measurements["dimensions"] = float(len(vectors[0]))
            if cost is not None:
                span.measurements["cost"] = float(cost)
            span.metadata |= {"lm": log.lm.model if log.lm is not None else about["lm"], "model": response.model}
            return vectors

    async def _embed(
        self, texts: Sequence[str], lm: LMChoice, step: str
    ) -> tuple[tuple[array[float], ...], EmbedResponse, AttemptLog, Decimal | None]:
        """Return the vectors, the answer they are of, how it came, and what it cost."""
        self.refuse_if_closed()
        record, services = self.request_record, self._services
        model = services.lm.resolve(record.options.lm if lm is None else lm)
        log = AttemptLog(f"{record.id}-{len(record.logs) + 1}", step)
        record.logs.append(log)
        request = EmbedRequest(mended(tuple(texts)))
        pay = partial(self._embed_paid, model, log=log)
        mode, cache = record.options.cache, services.cache
        if mode == "bypass" or (cache is None and mode != "only"):
            work: Callable[[], Awaitable[EmbedResponse]] = partial(pay, request)
        elif cache is None:
            raise TransportFailed("the App has no cache and cache='only' forbids asking the provider")
        else:
            work = CachedEmbedding(cache, model, request, mode, record.deadline, pay).run
        try:
            response = await noted_step(self, f"embed {step}", work, restartable=True)
        except BaseException:  # whatever it is: booked, then raised on
            if log.was_sent:
                attempts, due = len(log.attempts), log.due_calls()
                services.money.book(record.account, log.lm or model, Usage(), attempts, paid=False, due=due)
            raise
        finally:
            self._book_charges(log, calls=0)
        attempts, due, usage = len(log.attempts), log.due_calls(), response.usage
        if not log.was_sent and not attempts:  # all of them were in the cache
            record.cached_calls += 1
            return response.vectors, response, log, _NOTHING
        cost = services.money.book(record.account, log.lm or model, usage, attempts, paid=False, due=due)
        record.add_cost(response.usage, cost)
        return response.vectors, response, log, cost

    async def retrieve(
        self, query: str, k: int, *, retriever: str | None, step: str, filter: Filter | None = None
    ) -> tuple[Passage, ...]:
        """Search an index, as ``protocols.Scope.retrieve`` says."""
        deadline, named = self.request_record.deadline, retriever or "default"

        def run(name: str, work: Callable[[], Awaitable[R]]) -> Awaitable[R]:
            part = name.removeprefix(named)  # of a retriever that is made of others
            return noted_step(self, f"retrieve {step}{part}", work, restartable=True, retriever=name)

        more: dict[str, Any] = {"step": cast("RunStep", run), "cache": self.request_record.options.cache}
        search = partial(self._services.retrieval.search, retriever, mended(query), k, deadline, filter, **more)
        if not self.telemetry.active:
            return await search()
        about = {"request": self.request_record.id, "retriever": retriever or "default", "k": k}
        with self.telemetry.within("dspex.retrieval", about, query) as span:
            span.outputs = found = await search()
            span.measurements["passages"] = float(len(found))
            return found

    def call(
        self, step: str, work: Callable[[], Awaitable[R]], *, idempotent: bool, timeout: float | None
    ) -> Coroutine[object, object, R]:
        """Run a tool call, as ``protocols.Scope.call`` says."""
        if timeout is None:
            return noted_step(self, step, work, restartable=idempotent)

        async def bounded() -> R:
            async with asyncio.timeout(timeout):
                return await work()

        return noted_step(self, step, bounded, restartable=idempotent)

    async def in_thread(self, function: Callable[[], R], label: str) -> R:
        """Call a blocking function, as ``protocols.Scope.in_thread`` says."""
        return await self._services.threads.run(function, label)

    def refuse_if_closed(self) -> None:
        """Raise ScopeClosed when the request has ended, or is ending: where no step does."""
        process = self.process
        if process is None or process.exit_reason is not None:
            raise ScopeClosed(self.request_record.id)

    # --- an LM call, inside its step ------------------------------------------------------------------------

    async def _complete_cached(
        self,
        model: LM | LMPool,
        request: LMRequest,
        log: AttemptLog,
        on_delta: OnDelta | None,
        key: str,
        mode: CacheMode,
    ) -> LMResponse:
        """Answer from the cache, from another's flight, or from the provider; the leader fills the cache."""
        cache = self._services.cache
        if log.response is not None:  # a predecessor of this step had it before it died
            return await self._paid(model, request, log, on_delta)()
        found = None
        if cache is not None and key:
            found = await cache.lookup(key, self.request_record.deadline, read=mode != "refresh")
            if isinstance(found, Hit) and not found.response.is_whole:  # of an earlier version, or of another's flight
                found = await cache.lookup(key, self.request_record.deadline, read=False)
        if isinstance(found, Hit):
            if log.delivered:  # and the reader has pieces of another answer
                raise StreamTruncated("the step died after pieces of the answer had been handed on")
            log.cached = found.tier
            return found.response
        if mode == "only":
            if isinstance(found, Lead) and cache is not None:
                cache.abandon(found, None)
            raise TransportFailed("the answer is not in the cache and cache='only' forbids asking the provider")
        try:
            response = await self._paid(model, request, log, on_delta)()
        except LMError as error:
            if isinstance(found, Lead) and cache is not None:
                cache.abandon(found, error if error.is_shared and not error.is_retryable else None)
            raise
        if isinstance(found, Lead) and cache is not None:
            if response.is_whole:
                cache.fill(found, mended_response(response))
            else:
                cache.abandon(found, None)  # whoever waits asks for an answer of its own
        return response

    def _paid(
        self, model: LM | LMPool, request: LMRequest, log: AttemptLog, on_delta: OnDelta | None
    ) -> Callable[[], Awaitable[LMResponse]]:
        """Return what asks the provider, with the money for it set aside where somebody has a budget."""
        record = self.request_record
        priority = record.options.priority
        answer = partial(
            self._services.lm.complete, model, request, log, record.deadline, priority=priority, on_delta=on_delta
        )
        return partial(self._held, model, request, log, answer) if record.account.limited else answer

    async def _held(
        self, model: LM | LMPool, request: LMRequest, log: AttemptLog, work: Callable[[], Awaitable[R]]
    ) -> R:
        """Await what ``work`` returns while the money for ``request`` is set aside."""
        record, money = self.request_record, self._services.money
        held = await money.reserve(record.account, model, request, log, record.deadline)
        log.grant = grant = partial(money.more, held)
        log.fetch = partial(money.fetch, held, record.deadline)
        try:
            return await work()
        finally:
            if log.grant is grant:  # not that of a successor of this step
                log.grant = log.fetch = None
            money.settle(held, log.lm or model, log)

    def _embed_paid(self, model: LM | LMPool, request: EmbedRequest, log: AttemptLog) -> Awaitable[EmbedResponse]:
        """Ask for vectors, with the money for the texts set aside where somebody has a budget."""
        record = self.request_record
        vectors = partial(self._services.lm.embed, model, request, log, record.deadline)
        if not record.account.limited:
            return vectors()
        texts = LMRequest(tuple(Message("user", text) for text in request.texts), LMParams(max_tokens=0))
        return self._held(model, texts, log, vectors)

    def _result(
        self,
        response: LMResponse,
        model: LM | LMPool,
        attempts: tuple[Attempt, ...],
        cached: str | None,
        started: float,
        answered_by: LM | None = None,
        charged: Decimal | None = _NOTHING,
        due: int = 0,
        *,
        key: str,
    ) -> LMResult:
        """Count a logical call and return it; ``charged`` is what attempts at it cost that brought no answer."""
        model, record = answered_by or model, self.request_record
        record.calls += 1
        cost: Decimal | None = _NOTHING
        if cached is None:
            account, money = record.account, self._services.money
            cost = money.book(account, model, response.usage, len(attempts), paid=account.limited, due=due)
            record.add_cost(response.usage, cost)
        else:
            record.cached_calls += 1
        if charged is not _NOTHING:
            cost = cost + charged if cost is not None and charged is not None else None
        return LMResult(response, model, attempts, cached, self.runtime.clock.now() - started, cost, key)

    def _book_failed(self, log: AttemptLog, model: LM | LMPool) -> None:
        """Note a call that brought no answer: it was sent, so it counts as a call, whatever was counted for it."""
        account = self.request_record.account
        if log.charges:
            self._book_charges(log, calls=1)
        else:
            paid = account.limited
            attempts, due = len(log.attempts), log.due_calls()
            self._services.money.book(account, log.lm or model, Usage(), attempts, paid=paid, due=due)

    def _book_charges(self, log: AttemptLog, *, calls: int) -> Decimal | None:
        """Note what attempts cost that brought no answer; the last one counts for the call, where nothing else does."""
        record, money = self.request_record, self._services.money
        total: Decimal | None = _NOTHING
        for left, charge in enumerate(reversed(log.charges)):
            attempts, of_it = (len(log.attempts), calls) if calls and not left else (0, 0)
            paid = record.account.limited
            due = log.due_calls() if of_it else 0
            cost = money.book(record.account, charge.lm, charge.usage, attempts, paid=paid, calls=of_it, due=due)
            record.add_cost(charge.usage, cost)
            total = total + cost if total is not None and cost is not None else None
        return total

    # --- notes ----------------------------------------------------------------------------------------------

    def record(self, predictor: object, inputs: Mapping[str, object], outputs: Mapping[str, object]) -> None:
        """Add one predictor's call to the request's trace."""
        self.request_record.asked.append((predictor, inputs, outputs))

    def path_of(self, predictor: object) -> str:
        """Return where ``predictor`` sits in the request's program."""
        record = self.request_record
        if record.paths is None:
            record.paths = PredictorPaths(record.program)
        return record.paths.path_of(predictor)

    def note_repair(self, signature: str, field: str, kind: str) -> None:
        """Count a repair of a completion, and tell telemetry of it."""
        self.request_record.repairs += 1
        if self.runtime.telemetry.active:
            metadata = {"signature": signature, "field": field, "kind": kind, "request": self.request_record.id}
            self.runtime.telemetry.emit("dspex.parse.repair", {}, metadata)

    def reject(self, result: LMResult) -> None:
        """Take an answer that could not be read out of the cache."""
        cache = self._services.cache
        if cache is not None and result.key:
            cache.remove(result.key, result.response)

    def totals(self) -> RequestTotals:
        """Return what the request took so far."""
        return self.request_record.totals(self.runtime.clock.now())


def _tell_attempts(span: Span, attempts: Sequence[object]) -> None:
    """Add to a call's span the server and the model that were asked last."""
    last = attempts[-1] if attempts else None
    if isinstance(last, Attempt):
        span.metadata |= {"lm": last.lm, "server": last.server}


async def _replay(response: LMResponse, on_delta: OnDelta) -> None:
    """Hand on an answer that is whole already, as a stream that brought each part in one piece."""
    for delta in response.deltas():
        await on_delta(delta)
