"""Waiting for a key to be taken, and seeing to it that somebody takes it: the same for names and for registries."""

from __future__ import annotations

import asyncio
import difflib
import itertools
from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from dspex.errors import CallCycle, CallTimeout, NoSuchActor, ServiceUnavailable
from dspex.runtime._chain import chain_of, refuse_cycle
from dspex.runtime._context import HOME

if TYPE_CHECKING:
    from dspex.runtime._process import Process
    from dspex.runtime._ref import ActorRef
    from dspex.runtime._runtime import Runtime

__all__ = ["Parking"]

K = TypeVar("K", bound=Hashable)

Chain = tuple["Process", ...]

_COMPARED: Final = 500
"""Keys that are looked through for the nearest ones: an error must not hold the loop."""


class Parking(Generic[K]):
    """
    The waiting room of one table of keys; data, not a process.

    Of those who wait, callers are sent away as soon as nobody holds the key and nobody is expected to. A caller that
    waits explicitly (patiently) stays for whoever may come.

    Args:
        holder: Returns who holds a key, initialised or not.
        held: Returns the keys that somebody holds.
        text: Returns a key as its user wrote it if that is a text, else None.
        place: Says what a key is called in an error.
        may_come: Says whether somebody whom nobody has announced may still take a key, for callers of this chain.
    """

    def __init__(
        self,
        holder: Callable[[K], Process | None],
        held: Callable[[], Iterable[K]],
        text: Callable[[K], str | None],
        place: Callable[[K], str],
        may_come: Callable[[Chain], bool] = lambda _: False,
    ) -> None:
        self._holder = holder
        self._held = held
        self._text = text
        self._place = place
        self._may_come = may_come
        self._parked: dict[K, dict[asyncio.Future[ActorRef], Chain | None]] = {}  # the oldest first
        self._waiting_for: dict[Process, list[K]] = {}  # by those in a waiting caller's chain, itself included
        self._expected: dict[K, list[Process]] = {}
        self._unavailable: dict[K, object] = {}

    def __len__(self) -> int:
        return sum(len(parked) for parked in self._parked.values())

    # --- who is expected ------------------------------------------------------------------------------------

    def expect(self, key: K, by: Process) -> None:
        """Note that ``by``, a supervisor, sees to it that somebody holds ``key``."""
        self._expected.setdefault(key, []).append(by)

    def no_longer_expect(self, key: K, by: Process) -> None:
        """Undo one ``expect``; callers leave if that was the last hope."""
        supervisors = self._expected[key]
        supervisors.remove(by)
        if not supervisors:
            del self._expected[key]
            self._unavailable.pop(key, None)
            self.dismiss(key)

    def runtime_of(self, key: K) -> Runtime | None:
        """Return the runtime of who holds ``key`` or sees to it."""
        holder = self._holder(key)
        if holder is not None:
            return holder.runtime
        supervisors = self._expected.get(key)
        return supervisors[0].runtime if supervisors else None

    # --- what happens to a key ------------------------------------------------------------------------------

    def taken(self, key: K, ref: ActorRef) -> None:
        """Wake those who wait for ``key``."""
        self._unavailable.pop(key, None)
        for future in self._parked.pop(key, ()):
            if not future.done():
                future.set_result(ref)

    def dismiss(self, key: K) -> None:
        """Send away the callers who wait for ``key`` in vain: nobody holds it, and nobody is expected to."""
        if not self._parked or self._holder(key) is not None or key in self._expected:
            return
        for future, chain in tuple(self._parked.get(key, {}).items()):
            if chain is not None and not future.done() and not self._may_come(chain):
                future.set_exception(self.nobody(key))

    def dismiss_all(self) -> None:
        """Send away the callers who wait in vain for whatever key."""
        for key in tuple(self._parked):
            self.dismiss(key)

    def mark_unavailable(self, key: K, reason: object) -> None:
        """Fail everyone who waits for ``key``, and who asks from now on, until somebody takes it again."""
        self._unavailable[key] = reason
        for future in self._parked.pop(key, ()):
            if not future.done():
                future.set_exception(ServiceUnavailable(self._text(key) or self._place(key), reason))

    def no_longer_unavailable(self, key: K) -> None:
        """Note that nobody tries to start the service ``key`` any more."""
        self._unavailable.pop(key, None)

    def close(self) -> None:
        """Send away everyone who waits."""
        for future in [each for parked in self._parked.values() for each in parked]:
            if not future.done():
                future.set_exception(NoSuchActor("the runtime"))
        self._parked.clear()

    # --- waiting --------------------------------------------------------------------------------------------

    async def wait(self, key: K, runtime: Runtime, timeout: float | None, *, patient: bool) -> ActorRef:
        """
        Return who takes ``key`` next; whoever that is may be gone again by the time the caller wakes.

        Raises:
            CallTimeout: Nobody did within ``timeout`` seconds.
            NoSuchActor: Nobody holds it and nobody is expected to; not if ``patient``.
            ServiceUnavailable: Its service has failed to start several times running.
            CallCycle: The process about to take it waits for the caller, or is the caller.
            RuntimeClosed: The runtime is not open.
            WrongLoop: Called from another loop or thread.
        """
        runtime.refuse_elsewhere(f"waiting for {self._place(key)}")
        if key in self._unavailable:
            raise ServiceUnavailable(self._text(key) or self._place(key), self._unavailable[key])
        home = HOME.get()
        chain = chain_of(home) if home is not None else ()
        holder = self._holder(key)
        if holder is None and not patient and key not in self._expected and not self._may_come(chain):
            raise self.nobody(key)
        self._refuse_cycle(key, chain)
        future: asyncio.Future[ActorRef] = runtime.loop.create_future()
        self._parked.setdefault(key, {})[future] = None if patient else chain
        for each in chain:
            self._waiting_for.setdefault(each, []).append(key)
        timer = None
        if timeout is not None:
            place, context = self._place(key), runtime.context
            timer = runtime.clock.call_later(timeout, _nobody_came, future, place, timeout, context=context)
        try:
            return await future
        except asyncio.CancelledError:
            if not future.cancelled():
                future.exception()  # it may have failed in this very tick, and nobody else will look
            raise
        finally:
            if timer is not None:
                timer.cancel()
            for each in chain:
                self._waiting_for[each].remove(key)
                if not self._waiting_for[each]:
                    del self._waiting_for[each]
            self.unpark(key, future)

    def _refuse_cycle(self, key: K, chain: Chain) -> None:
        """Raise CallCycle when whoever could take ``key`` waits for one of ``chain``."""
        if not chain:
            return
        supervisors = self._expected.get(key)
        if self._holder(key) is None and supervisors and all(each in chain for each in supervisors):
            raise CallCycle([*(each.label for each in chain), self._place(key), supervisors[0].label])
        todo, seen = [key], {key}
        while todo:
            holder = self._holder(todo.pop())
            if holder is None or not holder.alive:
                continue
            refuse_cycle(chain, holder)
            for further in self._waiting_for.get(holder, ()):  # an ``init`` that waits for another one
                if further not in seen:
                    seen.add(further)
                    todo.append(further)

    def unpark(self, key: K, future: asyncio.Future[ActorRef]) -> None:
        """Forget one who waited."""
        parked = self._parked.get(key)
        if parked is not None:
            parked.pop(future, None)
            if not parked:
                del self._parked[key]

    def park(self, key: K, future: asyncio.Future[ActorRef]) -> None:
        """Have ``future`` resolved by whoever takes ``key``."""
        self._parked.setdefault(key, {})[future] = None

    def nobody(self, key: K) -> NoSuchActor:
        """Return the error for a key that nobody holds and nobody is expected to, with the keys most like it."""
        place, wanted = self._place(key), self._text(key)
        if wanted is None:
            return NoSuchActor(place, place=place)
        texts = map(self._text, itertools.chain(self._held(), self._expected))
        known = dict.fromkeys(itertools.islice((text for text in texts if text is not None), _COMPARED))
        return NoSuchActor(wanted, place=place, nearest=difflib.get_close_matches(wanted, known, 3))


def _nobody_came(future: asyncio.Future[ActorRef], place: str, timeout: float) -> None:
    if not future.done():
        future.set_exception(CallTimeout(f"whoever should hold {place}", timeout))
