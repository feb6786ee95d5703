"""Names of actors: who holds one, and who waits for one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from dspex.errors import AlreadyRegistered
from dspex.runtime._log import get_logger
from dspex.runtime._parking import Parking

if TYPE_CHECKING:
    from dspex.runtime._actor_process import ActorProcess
    from dspex.runtime._process import Process
    from dspex.runtime._ref import ActorRef
    from dspex.runtime._runtime import Runtime

__all__ = ["Names"]

_log = get_logger("runtime")


class Names:
    """
    The name table of one runtime: data, not a process.

    Attributes:
        parking: The callers that wait for a name, and the names that supervisors see to.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._holders: dict[str, ActorProcess] = {}
        self._starting: dict[Process, None] = {}  # supervisors in their ``init``: who knows which names they bring
        self.parking = Parking(self._holders.get, lambda: self._holders, str, _place, self._may_come)

    def __contains__(self, name: object) -> bool:
        return name in self._holders

    def __iter__(self) -> Iterator[str]:
        return iter(self._holders)

    @property
    def waiting(self) -> int:
        """The number of callers that wait for a name."""
        return len(self.parking)

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
            self.parking.dismiss(name)

    def close(self) -> None:
        """Send away everyone who waits."""
        self.parking.close()

    def whereis(self, name: str) -> ActorRef | None:
        """Return who holds ``name`` and is initialised, or None."""
        process = self._holders.get(name)
        if (
            process is None
            or process.exit_reason is not None
            or process.started is not None
            or process._final is not None
        ):
            return None
        return process.ref

    def announce(self, process: ActorProcess) -> None:
        """Wake those who wait for the name of an actor that has just been initialised."""
        name = process._name
        if name is not None:
            self.parking.taken(name, process.ref)

    async def wait(self, name: str, timeout: float | None, *, patient: bool = True) -> ActorRef:
        """
        Return who holds ``name``, waiting up to ``timeout`` seconds for somebody to take it.

        Raises:
            CallTimeout: Nobody did.
            NoSuchActor: Nobody holds it, and nobody is expected to; not if ``patient``.
            ServiceUnavailable: Its service has failed to start several times running.
            CallCycle: The process about to take it waits for the caller, or is the caller.
            RuntimeClosed: The runtime is not open.
            WrongLoop: Called from another loop or thread.
        """
        ref = self.whereis(name)
        return await self.parking.wait(name, self._runtime, timeout, patient=patient) if ref is None else ref

    def when_taken(self, name: str, callback: Callable[[ActorRef], object]) -> Callable[[], None]:
        """Call ``callback`` once with who takes ``name`` next; return what takes the wish back."""
        future: asyncio.Future[ActorRef] = self._runtime.loop.create_future()
        self.parking.park(name, future)

        def named(done: asyncio.Future[ActorRef]) -> None:
            if done.cancelled():
                self.parking.unpark(name, future)
            elif done.exception() is None:
                try:
                    callback(done.result())
                except BaseException as error:  # noqa: BLE001 - one who is told must not keep the loop from going on
                    self._runtime.contain(error)
                    says = "a callback for the name {name} failed: {error}"
                    _log.error("a callback for a name failed", says=says, name=name, exc_info=error)

        future.add_done_callback(named, context=self._runtime.context)

        def take_back() -> None:
            future.cancel()

        return take_back

    # --- trees that are being started ----------------------------------------------------------------------

    def begins(self, supervisor: ActorProcess) -> None:
        """Note that a supervisor runs its ``init``: until it has, callers of names that nobody knows wait for it."""
        started = supervisor.started
        if started is not None:
            self._starting[supervisor] = None

            def done(_: object) -> None:
                # First out of the table: who is dismissed asks again at once, and is not to wait for this start again.
                del self._starting[supervisor]
                self.parking.dismiss_all()

            started.add_done_callback(done, context=self._runtime.context)

    def _may_come(self, chain: tuple[Process, ...]) -> bool:
        """Say whether a supervisor is being started, and not one that waits for the caller."""
        return any(each not in chain for each in self._starting)


def _place(name: str) -> str:
    return f"the name {name!r}"
