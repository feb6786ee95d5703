"""
Events: reports of what happens inside, given to listeners as it happens.

An event is a name, a mapping of measurements and a mapping of metadata. Handlers run synchronously in the code
that emits; one that raises is detached and the failure is logged (the rule of Erlang's ``telemetry``). With no
handler attached, emitting is one attribute test.

The two events of ``dspex.loop`` come from the watchdog's thread, because the loop's own thread is blocked then.

Work that takes time emits ``<name>.start``, then ``<name>.stop`` or ``<name>.exception``; ``duration`` is in seconds.

========================================  ======================================  ================================
event                                     measurements                            metadata
========================================  ======================================  ================================
``dspex.process.start``                   ``seconds``                             ``ref``, ``label``
``dspex.process.exit``                    —                                       ``ref``, ``label``, ``reason``
``dspex.process.fenced``                  —                                       ``ref``, ``label``, ``stack``
``dspex.child.restart``                   ``restarts``                            ``supervisor``, ``child``, ``reason``
``dspex.child.start_failed``              ``failures``                            ``supervisor``, ``child``, ``reason``
``dspex.supervisor.gave_up``              ``restarts``                            ``supervisor``, ``child``
``dspex.loop.blocked``                    ``seconds``                             ``label``, ``message``, ``stack``
``dspex.loop.gc``                         ``seconds``, ``collected``              ``generation``
``dspex.request.start``                   —                                       ``request``, ``program``, ``agent``
``dspex.request.stop``                    ``duration``, ``attempts``, tokens      the same, ``outcome``
``dspex.request.exception``               ``duration``, ``attempts``, tokens      the same, ``outcome``, ``error``
``dspex.request.resubmit``                —                                       ``request``, ``reason``
``dspex.step.restart``                    ``restarts``, ``delay``                 ``request``, ``step``, ``reason``
``dspex.module.start``                    —                                       ``module``, ``agent``
``dspex.module.stop``                     ``duration``                            the same
``dspex.module.exception``                ``duration``                            the same, ``error``
``dspex.predictor.start``                 —                                       ``predictor``, ``signature``
``dspex.predictor.stop``                  ``duration``, tokens, ``cost``          the same, ``lm``, ``cached``
``dspex.predictor.exception``             ``duration``                            the same, ``error``
``dspex.adapter.format.start``            —                                       ``adapter``, ``predictor``
``dspex.adapter.format.stop``             ``duration``                            the same
``dspex.adapter.parse.start``             —                                       ``adapter``, ``predictor``
``dspex.adapter.parse.stop``              ``duration``                            the same
``dspex.adapter.parse.exception``         ``duration``                            the same, ``error``
``dspex.tool.start``                      —                                       ``tool``, ``call``, ``known``
``dspex.tool.stop``                       ``duration``                            the same
``dspex.tool.exception``                  ``duration``                            the same, ``error``
``dspex.lm.call.start``                   —                                       ``step``, ``lm``, ``asked``
``dspex.lm.call.stop``                    ``duration``, tokens, ``cost``          the same, ``cached``, ``server``
``dspex.lm.call.exception``               ``duration``                            the same, ``error``
``dspex.embedding.start``                 —                                       ``step``, ``lm``, ``asked``
``dspex.embedding.stop``                  ``duration``, ``texts``, ``cost``       the same
``dspex.embedding.exception``             ``duration``                            the same, ``error``
``dspex.retrieval.start``                 —                                       ``retriever``, ``k``
``dspex.retrieval.stop``                  ``duration``, ``passages``              the same
``dspex.retrieval.exception``             ``duration``                            the same, ``error``
``dspex.job.start``                       —                                       ``job``, ``optimizer``, ``program``
``dspex.job.stop``                        ``duration``                            the same
``dspex.job.exception``                   ``duration``                            the same, ``error``
``dspex.plan.step.start``                 —                                       ``job``, ``ask``, ``plan``
``dspex.plan.step.stop``                  ``duration``                            the same
``dspex.plan.step.exception``             ``duration``                            the same, ``error``
``dspex.evaluate.start``                  —                                       ``program``
``dspex.evaluate.stop``                   ``duration``, ``rows``, ``score``       the same
``dspex.evaluate.exception``              ``duration``                            the same, ``error``
``dspex.tool.late``                       —                                       ``tool``
``dspex.lm.attempt.start``                ``number``                              ``lm``, ``model``, ``call``
``dspex.lm.attempt.stop``                 ``duration``, ``number``                ``lm``, ``call``, ``status``
``dspex.lm.attempt.exception``            ``duration``, ``number``                ``lm``, ``call``, ``error``
``dspex.lm.first_token``                  ``number``, ``seconds``                 ``lm``, ``call``
``dspex.lm.resend``                       ``number``                              ``lm``, ``call``
``dspex.lm.retry``                        ``number``, ``delay``                   ``lm``, ``call``, ``error``
``dspex.lm.unknown_charge``               ``number``                              ``lm``, ``call``
``dspex.lm.weaker``                       (none)                                  ``lm``, ``refused``
``dspex.lm.form``                         ``unreadable``, ``turns``               ``lm``, ``signature``, ``to``
``dspex.lm.withheld``                     ``count``                               ``lm``, ``call``
``dspex.lm.fallback``                     ``number``                              ``lm``, ``call``, ``to``, ``error``
``dspex.lm.hedge``                        ``after``                               ``lm``, ``call``, ``to``
``dspex.lm.hedge.won``                    ``duration``                            ``lm``, ``call``
``dspex.lm.limit``                        ``limit``, ``in_flight``                ``lm``, ``reason``
``dspex.lm.rate_limit``                   ``requests``, ``tokens``                ``lm``
``dspex.lm.breaker``                      ``cooldown``                            ``lm``, ``state``, ``was``
``dspex.lm.key``                          ``cooldown``                            ``lm``, ``state``
``dspex.cache.hit``                       —                                       ``tier``
``dspex.cache.miss``                      —                                       —
``dspex.cache.coalesced``                 —                                       —
``dspex.cache.bypass``                    —                                       ``reason``
``dspex.cache.evict``                     ``count``                               ``tier``
``dspex.cache.unreadable``                —                                       ``reason``, ``tier``
``dspex.cache.remove``                    —                                       —
``dspex.shared.down``                     —                                       ``store``, ``reason``
``dspex.shared.up``                       ``seconds``                             ``store``
``dspex.shared.alone``                    ``share``                               ``name``, ``reason``
``dspex.shared.together``                 ``processes``                           ``name``
``dspex.shared.limits_differ``            —                                       ``name``, ``own``, ``in_force``
``dspex.parse.repair``                    —                                       ``signature``, ``field``, ``kind``
``dspex.retriever.search.stop``           ``duration``, ``passages``              ``retriever``
``dspex.retriever.write.stop``            ``duration``, ``passages``              ``retriever``, ``operation``
``dspex.row.score``                       ``score``                               ``metric``, ``request``, ``error``
``dspex.rows.pause``                      ``delay``                               ``rows``, ``error``
``dspex.rows.go``                         —                                       ``rows``
``dspex.job.event``                       —                                       ``job``, ``event``
``dspex.index.progress``                  ``read``, ``added``, ``embedded``       ``job``
========================================  ======================================  ================================

``cache.remove`` is an answer that could not be read: it is not served again. ``cache.unreadable`` is something else in
a tier than an answer: ``damaged``, ``foreign``, ``oversized``, ``expired``, or of a ``newer`` dspex. ``cache.bypass``
has a ``tier`` where only that one is gone without.

``shared.down`` is a store of several processes that this one goes on without; ``shared.up`` uses it again, after
``seconds``.

``shared.alone`` tells that this process goes on with its ``share`` of a model's limits, as its store cannot be reached,
and ``shared.together`` that it shares them again. ``shared.limits_differ`` names limits or a budget for which another
live process has a smaller number, which holds.

Evaluations, steps of jobs, requests, modules, predictors, adapters, tools, retrievals, embeddings and LM calls are
spans: their events carry an id (``span``; a request's is its own id) and the id of the span around them (``parent``),
and are emitted in the context of the code that they are about. Every other event within a request carries the span
around it as its ``parent``, too. To a handler that was attached with ``capture=True`` their start brings ``inputs`` and
their end ``outputs``. Tokens are ``input_tokens`` and ``output_tokens``, and of those ``cached_tokens``,
``cache_write_tokens`` and ``reasoning_tokens`` where there are any; ``cost`` is in US dollars, and left out where it is
unknown.

``outcome`` is ``completed``, ``failed``, or ``cancelled``: the caller wanted it no longer, which is not an error. Any
span that ends by cancellation emits its ``stop``, with ``outcome`` ``cancelled``.

``agent`` is true of a module in which a model decides what is done next. A tool that is not ``known`` is a name that a
model has made up; ``description`` is that of one that is.

``rows.pause`` and ``rows.go`` are of a map or an evaluation, ``rows``, that waits out an outage of its provider.

``tool.late`` is a tool that blocked, and ended after its time was over: what it gave back was dropped.

``asked`` is the model as the program or its options name it: the name of one of the App's, ``provider/model``, or
``default``. ``lm`` is its ``provider/model``, at the end the one that has answered; None of a pool before that. Calls
also tell ``params`` (an ``LMParams``), ``streamed``, and ``form``: ``text`` or ``json``; at their end ``server``
(``host:port``), how many ``attempts``, and of an answer from a provider ``model`` and ``response``, its own words for
the model and its id. Of a client's events ``lm`` is the client's name in the tree, and ``model`` its
``provider/model``. A request's ``cost`` and tokens are those of all its calls, and
``cached_calls`` were answered by a cache. Calls and adapters also name the ``request`` and the ``signature``. ``ask``
is what a job's step does: ``run``, ``write``, ``embed`` or ``train``; ``plan`` is the number of the plan that asked for
it first. At a call's end ``ends`` has the finish reason of each of its answers. Of an embedding ``input_tokens`` and
``dimensions`` are told, too. ``job.stop`` comes where the search of a job ends, or dies: a job that goes on starts it
again. ``row.score`` is one row's of an evaluation or a job, with the ``request`` that was judged.

``call`` is the idempotency key of a logical LM call: the request's id, a dash, and the call's number in it.

Of the LM clients: ``limit`` is how many attempts may now be in flight, ``rate_limit`` what a provider's headers have
taught, ``breaker`` and ``key`` a change of state. ``fallback`` leaves ``lm`` for ``to``; ``error`` is a class name or
``busy``. ``hedge`` asks ``to`` as well after ``after`` seconds; ``hedge.won`` names the one that answered first, and
what the other may have cost is an ``unknown_charge``. ``withheld`` counts the answers of several that a filter cut
off or withheld: they are left out; its ``lm`` is the record's model.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from dspex._clock import monotonic
from dspex._guard import contained

__all__ = ["Facts", "Handler", "Span", "Telemetry", "carried", "current_span"]

Facts = Mapping[str, Any]
"""The facts of an event beside its measurements: live objects by name."""

Handler = Callable[[str, Mapping[str, float], Facts], None]
"""``handler(name, measurements, metadata)``."""

_NOTHING: Facts = {}


current_span: ContextVar[str | None] = ContextVar("dspex_span", default=None)
"""The span in which code runs: the parent of the next one."""

carried: ContextVar[Callable[[str], Mapping[str, str]] | None] = ContextVar("dspex_carried", default=None)
"""Called with a provider's name before each attempt at it: headers of a tracer that go with it; it must not raise."""


class Span:
    """
    An operation under way: its end's event tells these, too.

    Attributes:
        id: Its name, one of a kind in its App.
        parent: The span around it; None outside every request.
        measurements: Numbers: tokens, cost.
        metadata: More about it.
        outputs: Its result; told only to handlers that asked for it.
        error: How it failed without raising; its end is then an ``exception``.
    """

    __slots__ = ("error", "id", "measurements", "metadata", "outputs", "parent")

    def __init__(self, span: str, parent: str | None) -> None:
        self.id = span
        self.parent = parent
        self.measurements: dict[str, float] = {}
        self.metadata: dict[str, object] = {}
        self.outputs: object = None
        self.error: BaseException | None = None


class Telemetry:
    """The event dispatch of one runtime: data, not a process, so that it cannot crash."""

    __slots__ = ("_handlers", "_numbers", "active", "captures")

    def __init__(self) -> None:
        self._handlers: tuple[tuple[str, Handler, bool], ...] = ()
        self._numbers = itertools.count(1)
        self.active = False
        self.captures = False
        """True when a handler wants inputs and outputs; emitters gather them only then."""

    def attach(self, prefix: str, handler: Handler, *, capture: bool = False) -> Callable[[], None]:
        """
        Call ``handler`` for every event whose name starts with ``prefix``; return a function that detaches it.

        Args:
            prefix: For example ``"dspex.lm."``; the empty string means every event.
            handler: Runs in the emitting code, and in its context: it must be quick and must not raise.
            capture: Its events bring ``inputs`` and ``outputs``: the words of users and models.
        """
        entry = (prefix, handler, capture)
        self._set((*self._handlers, entry))

        def detach() -> None:
            self._set(tuple(each for each in self._handlers if each is not entry))

        return detach

    def _set(self, handlers: tuple[tuple[str, Handler, bool], ...]) -> None:
        self._handlers = handlers
        self.active = bool(handlers)
        self.captures = any(capture for _, _, capture in handlers)

    def emit(
        self,
        name: str,
        measurements: Mapping[str, float] = _NOTHING,
        metadata: Mapping[str, object] = _NOTHING,
        captured: Mapping[str, object] = _NOTHING,
    ) -> None:
        """
        Tell every handler attached to ``name``; hot paths test ``active`` before they build the mappings.

        An event that is not of a span of its own has the one around it as its ``parent``.
        """
        if "span" not in metadata and (around := current_span.get()) is not None:
            metadata = {**metadata, "parent": around}
        for entry in self._handlers:
            prefix, handler, capture = entry
            if name.startswith(prefix):
                try:
                    handler(name, measurements, {**metadata, **captured} if capture and captured else metadata)
                except BaseException as error:  # noqa: BLE001 - a listener's failure must not become the emitter's
                    self._set(tuple(each for each in self._handlers if each is not entry))
                    contained(error)
                    _report(prefix, error)

    @contextlib.contextmanager
    def within(self, name: str, metadata: Mapping[str, object], inputs: object = None) -> Iterator[Span]:
        """
        Emit ``name.start``, run the block as a span, then emit ``name.stop`` (cancelled, too) or ``name.exception``.

        All of them are emitted in the context of the block, so that a context variable that a handler sets at the
        start is there at the end, and in everything between.
        """
        span = Span(f"s{next(self._numbers)}", current_span.get())
        about = {**metadata, "span": span.id, "parent": span.parent}
        token = current_span.set(span.id)
        started = monotonic()
        try:
            self.emit(f"{name}.start", _NOTHING, about, {"inputs": inputs} if self.captures else _NOTHING)
            try:
                yield span
            except BaseException as error:  # whatever it is: told here, then raised on
                span.error = error
                raise
            finally:
                measured = {"duration": monotonic() - started, **span.measurements}
                more = {**about, **span.metadata}
                if isinstance(span.error, asyncio.CancelledError):
                    self.emit(f"{name}.stop", measured, {**more, "outcome": "cancelled"})
                elif span.error is not None:
                    self.emit(f"{name}.exception", measured, {**more, "error": span.error})
                else:
                    self.emit(f"{name}.stop", measured, more, {"outputs": span.outputs} if self.captures else _NOTHING)
        finally:
            current_span.reset(token)


def _report(prefix: str, failure: BaseException) -> None:
    try:
        logging.getLogger("dspex.telemetry").error("handler for %r failed and is detached", prefix, exc_info=failure)
    except BaseException as error:  # noqa: BLE001 - a log handler that fails, too, is nobody's business here
        contained(error)
