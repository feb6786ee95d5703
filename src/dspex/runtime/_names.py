"""Names of actors: who holds one, who waits for one, and which service is given up for now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from dspex.errors import AlreadyRegistered, CallTimeout, NoSuchActor, ServiceUnavailable
from dspex.runtime._chain import chain_of, refuse_cycle
from dspex.runtime._context import HOME
from dspex.runtime._deadlines import finite_timeout

if TYPE_CHECKING:
    from dspex.runtime._actor_process import ActorProcess
    from dspex.runtime._process import Process
    from dspex.runtime._ref import ActorRef
    from dspex.runtime._runtime import Runtime

__all__ = ["Names"]


class Names:
    """The name table of one runtime: data, not a process."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._holders: dict[str, ActorProcess] = {}
        self._parked: dict[str, dict[asyncio.Future[ActorRef], None]] = {}  # who waits for a name, the oldest first
        self._unavailable: dict[str, object] = {}
        self._wishes: dict[Process, list[str]] = {}  # the names that a process waits for, directly or through others

    def __contains__(self, name: object) -> bool:
        return name in self._holders

    def __iter__(self) -> Iterator[str]:
        return iter(self._holders)

    @property
    def waiting(self) -> int:
        """How many wait for a name."""
        return sum(len(parked) for parked in self._parked.values())

    def get(self, name: str) -> ActorProcess | None:
        """Return who holds ``name``, initialised or not."""
        return self._holders.get(name)

    def refuse_if_taken(self, name: str) -> None:
        """Raise AlreadyRegistered when a process that is not yet dead holds ``name``."""
        holder = self._holders.get(name)
        if holder is not None:
            raise AlreadyRegistered(name, holder.ref)

    def enter(self, name: str, process: ActorProcess) -> None:
        """Give ``name`` to ``process``; the caller has seen that it is free."""
        process._name = name
        self._holders[name] = process

    def leave(self, name: str, process: Process) -> None:
        """Free the name of a dead process."""
        if self._holders.get(name) is process:
            del self._holders[name]

    def close(self) -> None:
        """Send away everyone who waits."""
        for future in [each for parked in self._parked.values() for each in parked]:
            if not future.done():
                future.set_exception(NoSuchActor("the runtime"))
        self._parked.clear()

    def whereis(self, name: str) -> ActorRef | None:
        """Return who holds ``name`` and is initialised, or None."""
        process = self._holders.get(name)
        if process is None or process.exit_reason is not None or process.started is not None or process.stopping:
            return None
        return process.ref

    def announce(self, process: ActorProcess) -> None:
        """Wake those who wait for the name of an actor that has just been initialised."""
        name = process._name
        if name is None:
            return
        self._unavailable.pop(name, None)
        for future in self._parked.pop(name, ()):
            if not future.done():
                future.set_result(process.ref)

    def mark_unavailable(self, name: str, reason: object) -> None:
        """Fail everyone who waits for ``name``, and who asks from now on, until somebody takes it again."""
        self._unavailable[name] = reason
        for future in self._parked.pop(name, ()):
            if not future.done():
                future.set_exception(ServiceUnavailable(name, reason))

    def no_longer_unavailable(self, name: str) -> None:
        """Note that nobody tries to start the service ``name`` any more: who asks for it waits as for any name."""
        self._unavailable.pop(name, None)

    async def wait(self, name: str, timeout: float | None) -> ActorRef:
        """
        Return who holds ``name``, waiting up to ``timeout`` seconds for somebody to take it.

        Raises:
            CallTimeout: Nobody did.
            ServiceUnavailable: Its service has failed to start several times running.
            CallCycle: Who is about to take it is waiting for the caller, or is the caller.
            RuntimeClosed: The runtime is not open.
            WrongLoop: Called from another loop or thread.
        """
        timeout = finite_timeout(timeout)
        self._runtime.refuse_elsewhere(f"waiting for {name!r}")
        ref = self.whereis(name)
        if ref is not None:
            return ref
        if name in self._unavailable:
            raise ServiceUnavailable(name, self._unavailable[name])
        home = HOME.get()
        chain = chain_of(home) if home is not None else ()
        self._refuse_cycle(name, chain)
        future: asyncio.Future[ActorRef] = self._runtime.loop.create_future()
        self._parked.setdefault(name, {})[future] = None
        timer = None
        if timeout is not None:
            timer = self._runtime.clock.call_later(
                timeout, _nobody, future, name, timeout, context=self._runtime.context
            )
        for each in chain:
            self._wishes.setdefault(each, []).append(name)
        try:
            return await future
        except asyncio.CancelledError:
            if not future.cancelled():
                future.exception()  # it may have failed in this very tick, and nobody else will look
            raise
        finally:
            for each in chain:
                self._wishes[each].remove(name)
                if not self._wishes[each]:
                    del self._wishes[each]
            if timer is not None:
                timer.cancel()
            self._unpark(name, future)

    def _refuse_cycle(self, name: str, chain: tuple[Process, ...]) -> None:
        """Follow who is about to take ``name``, the name that one waits for, and so on: nobody may wait for us."""
        todo, seen = [name], {name}
        while todo and chain:
            holder = self._holders.get(todo.pop())
            if holder is None or not holder.alive:
                continue
            refuse_cycle(chain, holder)
            further = [each for each in self._wishes.get(holder, ()) if each not in seen]
            seen.update(further)
            todo += further

    def _unpark(self, name: str, future: asyncio.Future[ActorRef]) -> None:
        parked = self._parked.get(name)
        if parked is not None:
            parked.pop(future, None)
            if not parked:
                del self._parked[name]

    def when_taken(self, name: str, callback: Callable[[ActorRef], object]) -> Callable[[], None]:
        """Call ``callback`` once with who takes ``name`` next; return what takes the wish back."""
        future: asyncio.Future[ActorRef] = self._runtime.loop.create_future()
        self._parked.setdefault(name, {})[future] = None

        def named(done: asyncio.Future[ActorRef]) -> None:
            if done.cancelled():
                self._unpark(name, future)
            elif done.exception() is None:
                callback(done.result())

        future.add_done_callback(named, context=self._runtime.context)

        def take_back() -> None:
            future.cancel()

        return take_back


def _nobody(future: asyncio.Future[ActorRef], name: str, timeout: float) -> None:
    if not future.done():
        future.set_exception(CallTimeout(f"whoever should hold the name {name!r}", timeout))
