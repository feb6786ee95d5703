"""Looking into a running actor, and holding it still (OTP's ``sys``); the loop answers between two messages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from dspex._guard import exact_text
from dspex.errors import NoSuchActor
from dspex.runtime._chain import chain_into
from dspex.runtime._context import HOME, current_process
from dspex.runtime._deadlines import expire, finite_timeout
from dspex.runtime._log import get_logger
from dspex.runtime._messages import SystemEnvelope
from dspex.runtime._sentences import path_of

if TYPE_CHECKING:
    from dspex.runtime._actor_process import ActorProcess
    from dspex.runtime._process import Process

__all__ = ["Statistics", "TraceEvent", "TraceHook", "ask", "set_label"]

_log = get_logger("runtime")

_HANDLERS: Final = ("handle_call", "handle_cast", "handle_info", "handle_continue")
_TRACER: Final = "_dspex_tracer"
_NOT_STATE: Final = frozenset(("_dspex_process", _TRACER, *_HANDLERS))


@dataclass(frozen=True, slots=True)
class Statistics:
    """The counters of an actor since statistics were switched on, at ``since`` by the runtime's clock."""

    since: float
    now: float
    messages_in: int


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """A message that goes into a handler, or (``kind == "out"``) what the handler returned for it."""

    kind: Literal["in", "out"]
    handler: str
    message: object
    outcome: object = None


TraceHook = Callable[[TraceEvent], object]
"""Told of every message, in the actor's own process; one that raises is removed."""


def set_label(label: str) -> None:
    """
    Give the calling process another label, which logs and snapshots show from now on.

    Raises:
        RuntimeError: The caller is not a process.
        TypeError: ``label`` is not text.
    """
    process = current_process()
    if process is None:
        raise RuntimeError("only a process has a label: call set_label from a handler or a task")
    process.label = exact_text(label)


async def ask(process: ActorProcess, work: Callable[[ActorProcess], object], timeout: float | None) -> Any:
    """Have the actor's own loop do ``work`` between two messages; what it raises is raised here."""
    timeout = finite_timeout(timeout)
    if process.exit_reason is not None:
        raise NoSuchActor(process.label)
    runtime, home = process.runtime, HOME.get()
    runtime.refuse_elsewhere("a look into an actor")
    chain: tuple[Process, ...] = chain_into(home, process) if home is not None else ()
    envelope = SystemEnvelope(work, chain)
    process.mailbox.put_urgent(envelope)
    timer = None
    if timeout is not None:
        timer = runtime.clock.call_later(timeout, expire, envelope.future, process, timeout, context=runtime.context)
    try:
        return await envelope.future
    except BaseException:  # whatever it is: undone here, then raised on
        envelope.abandon()
        raise
    finally:
        if timer is not None:
            timer.cancel()


# --- what is asked ------------------------------------------------------------------------------------------


def get_state(process: ActorProcess) -> dict[str, object]:
    """Return a copy of the actor's attributes."""
    return {name: value for name, value in vars(process.actor).items() if name not in _NOT_STATE}


def replace_state(
    change: Callable[[dict[str, object]], Mapping[str, object]], process: ActorProcess
) -> dict[str, object]:
    """Give the actor the attributes that ``change`` makes of those it has."""
    before = get_state(process)
    after = dict(change(dict(before)))
    if not all(isinstance(name, str) and name not in _NOT_STATE for name in after):
        raise TypeError(f"a state is a mapping of the actor's own attributes, not {sorted(map(str, after))}")
    attributes = vars(process.actor)
    for name in before:
        attributes.pop(name, None)
    attributes.update(after)
    return after


def suspend(process: ActorProcess) -> None:
    """Have the loop take nothing but questions like this."""
    process.suspended = True


def resume(process: ActorProcess) -> None:
    """Undo ``suspend``."""
    process.suspended = False


def keep_statistics(on: bool, process: ActorProcess) -> None:
    """Begin to count, afresh, or stop."""
    process.counted_from = (process.runtime.clock.now(), process.handled) if on else None


def statistics(process: ActorProcess) -> Statistics | None:
    """Return what was counted; None while nobody counts."""
    if process.counted_from is None:
        return None
    since, handled = process.counted_from
    return Statistics(since, process.runtime.clock.now(), process.handled - handled)


def install_trace(hook: TraceHook, process: ActorProcess) -> None:
    """Have ``hook`` told of every message; installing it twice does nothing."""
    tracer = vars(process.actor).get(_TRACER)
    if tracer is None:
        tracer = _Tracer(process)
    if hook not in tracer.hooks:
        tracer.hooks.append(hook)


def remove_trace(hook: TraceHook, process: ActorProcess) -> None:
    """Undo ``install_trace``; unknown hooks are fine."""
    tracer = vars(process.actor).get(_TRACER)
    if tracer is not None:
        tracer.remove(hook)


class _Tracer:
    """Stands before the handlers of one instance: an actor that nobody traces pays nothing for it."""

    def __init__(self, process: ActorProcess) -> None:
        self.hooks: list[TraceHook] = []
        self._process = process
        attributes = vars(process.actor)
        for name in _HANDLERS:
            attributes[name] = partial(self._handle, name, getattr(process.actor, name))
        attributes[_TRACER] = self

    async def _handle(
        self, name: str, handler: Callable[..., Awaitable[object]], message: object, *sender: object
    ) -> object:
        self._tell(TraceEvent("in", name, message))
        outcome = await handler(message, *sender)
        self._tell(TraceEvent("out", name, message, outcome))
        return outcome

    def _tell(self, event: TraceEvent) -> None:
        for hook in tuple(self.hooks):
            try:
                hook(event)
            except BaseException as error:  # noqa: BLE001 - somebody who looks on must not crash whom he looks at
                self._process.runtime.contain(error)
                says, path = "a trace hook of {path} failed and is removed: {error}", path_of(self._process)
                label = self._process.label
                _log.error("trace hook failed and is removed", says=says, path=path, actor=label, exc_info=error)
                self.remove(hook)

    def remove(self, hook: TraceHook) -> None:
        """Take a hook out; after the last one the handlers are as they were."""
        if hook in self.hooks:
            self.hooks.remove(hook)
        if not self.hooks:
            attributes = vars(self._process.actor)
            for name in (*_HANDLERS, _TRACER):
                attributes.pop(name, None)
