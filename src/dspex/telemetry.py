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
``dspex.request.start``                   —                                       ``request``, ``program``
``dspex.request.stop``                    ``duration``, ``attempts``              ``request``, ``program``
``dspex.request.exception``               ``duration``, ``attempts``              ``request``, ``program``, ``error``
``dspex.request.resubmit``                —                                       ``request``, ``reason``
``dspex.step.restart``                    ``restarts``, ``delay``                 ``request``, ``step``, ``reason``
``dspex.tool.late``                       —                                       ``tool``
``dspex.lm.attempt.start``                ``number``                              ``lm``, ``call``
``dspex.lm.attempt.stop``                 ``duration``, ``number``                ``lm``, ``call``, ``status``
``dspex.lm.attempt.exception``            ``duration``, ``number``                ``lm``, ``call``, ``error``
``dspex.lm.first_token``                  ``number``, ``seconds``                 ``lm``, ``call``
``dspex.lm.resend``                       ``number``                              ``lm``, ``call``
``dspex.lm.retry``                        ``number``, ``delay``                   ``lm``, ``call``, ``error``
``dspex.lm.unknown_charge``               ``number``                              ``lm``, ``call``
``dspex.lm.weaker``                       (none)                                  ``lm``, ``refused``
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
``dspex.cache.remove``                    —                                       —
``dspex.parse.repair``                    —                                       ``signature``, ``field``, ``kind``
``dspex.retriever.search.stop``           ``duration``, ``passages``              ``retriever``
``dspex.job.event``                       —                                       ``job``, ``event``
========================================  ======================================  ================================

``cache.remove`` is an answer that could not be read: it is not served again.

``tool.late`` is a tool that blocked, and ended after its time was over: what it gave back was dropped.

``call`` is the idempotency key of a logical LM call: the request's id, a dash, and the call's number in it.

Of the LM clients: ``limit`` is how many attempts may now be in flight, ``rate_limit`` what a provider's headers have
taught, ``breaker`` and ``key`` a change of state. ``fallback`` leaves ``lm`` for ``to``; ``error`` is a class name or
``busy``. ``hedge`` asks ``to`` as well after ``after`` seconds; ``hedge.won`` names the one that answered first, and
what the other may have cost is an ``unknown_charge``. ``withheld`` counts the answers of several that a filter cut
off or withheld: they are left out; its ``lm`` is the record's model.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from dspex._guard import contained

__all__ = ["Handler", "Telemetry"]

Handler = Callable[[str, Mapping[str, float], Mapping[str, Any]], None]
"""``handler(name, measurements, metadata)``; metadata values are live objects, so ``Any`` is honest here."""

_NOTHING: Mapping[str, Any] = {}


class Telemetry:
    """The event dispatch of one runtime: data, not a process, so that it cannot crash."""

    __slots__ = ("_handlers", "active")

    def __init__(self) -> None:
        self._handlers: tuple[tuple[str, Handler], ...] = ()
        self.active = False

    def attach(self, prefix: str, handler: Handler) -> Callable[[], None]:
        """
        Call ``handler`` for every event whose name starts with ``prefix``; return a function that detaches it.

        Args:
            prefix: For example ``"dspex.lm."``; the empty string means every event.
            handler: Runs in the emitting code: it must be quick and must not raise.
        """
        entry = (prefix, handler)
        self._handlers = (*self._handlers, entry)
        self.active = True

        def detach() -> None:
            self._handlers = tuple(each for each in self._handlers if each is not entry)
            self.active = bool(self._handlers)

        return detach

    def emit(
        self, name: str, measurements: Mapping[str, float] = _NOTHING, metadata: Mapping[str, object] = _NOTHING
    ) -> None:
        """Tell every handler attached to ``name``; hot paths test ``active`` before they build the mappings."""
        for entry in self._handlers:
            prefix, handler = entry
            if name.startswith(prefix):
                try:
                    handler(name, measurements, metadata)
                except BaseException as error:  # noqa: BLE001 - a listener's failure must not become the emitter's
                    self._handlers = tuple(each for each in self._handlers if each is not entry)
                    self.active = bool(self._handlers)
                    contained(error)
                    _report(prefix, error)


def _report(prefix: str, failure: BaseException) -> None:
    try:
        logging.getLogger("dspex.telemetry").error("handler for %r failed and is detached", prefix, exc_info=failure)
    except BaseException as error:  # noqa: BLE001 - a log handler that fails, too, is nobody's business here
        contained(error)
