"""One actor for a name or a key: the race of several starters has one winner, and all get its ref."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import TYPE_CHECKING, TypeVar

from dspex.errors import AlreadyRegistered, ChildError, NoSuchActor, SpecError, StartFailed

if TYPE_CHECKING:
    from dspex.runtime._parking import Parking
    from dspex.runtime._ref import ActorRef
    from dspex.runtime._runtime import Runtime
    from dspex.runtime._via import Via

__all__ = ["start_or_get"]

K = TypeVar("K", bound=Hashable)


async def start_or_get(
    runtime: Runtime,
    start: Callable[[float | None], Awaitable[ActorRef]],
    name: str | None,
    via: Via | None,
    timeout: float | None,
) -> ActorRef:
    """
    Return who holds ``name`` (``via`` without one), once it is initialised; else what ``start(seconds left)`` returns.

    Raises:
        SpecError: Neither a name nor a key was given.
        CallTimeout: The process that holds it is not initialised in time.
        CallCycle: The process that holds it, or is about to, waits for the caller.
        ServiceUnavailable: The service has failed to start several times running.
        The exceptions of ``start``, when nobody else has the place.
    """
    if name is not None:
        return await _start_or_get(runtime, start, runtime._names.parking, name, runtime._names.whereis, timeout)
    if via is not None:
        return await _start_or_get(runtime, start, *via.place, via.registry.ready, timeout)
    raise SpecError("name", name, "a name, or a key of a registry as via=: to be found by")


async def _start_or_get(
    runtime: Runtime,
    start: Callable[[float | None], Awaitable[ActorRef]],
    parking: Parking[K],
    key: K,
    ready: Callable[[K], ActorRef | None],
    timeout: float | None,
) -> ActorRef:
    clock = runtime.clock
    until = None if timeout is None else clock.now() + timeout
    while True:
        ref = ready(key)
        if ref is not None:
            return ref
        left = None if until is None else max(0.0, until - clock.now())
        try:
            if parking.runtime_of(key) is not None:  # somebody has it, or a supervisor is about to give it to somebody
                await parking.wait(key, runtime, left, patient=False)
                continue
        except NoSuchActor:
            continue  # the one we waited for has failed to start: it is our turn
        try:
            return await start(left)
        except (AlreadyRegistered, ChildError, StartFailed) as error:
            if not _lost_race(error) or parking.runtime_of(key) is None:
                raise


def _lost_race(error: AlreadyRegistered | ChildError | StartFailed) -> bool:
    """Say whether a start was refused because somebody else has the place, or the last one there was."""
    if isinstance(error, StartFailed):
        return isinstance(error.__cause__, AlreadyRegistered)
    return isinstance(error, AlreadyRegistered) or error.why in {"already_started", "already_present", "max_children"}
