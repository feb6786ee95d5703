"""Messages sent later: the cases of Elixir's ProcessTest, and what becomes of timers when somebody dies."""

from __future__ import annotations

import asyncio
import math

import pytest

from dspex.errors import SpecError, WrongLoop
from dspex.runtime import ChildSpec, Continue, Idle, Ignore, Next, Registry, Runtime, Stop, Timer
from dspex.testing import VirtualClock
from tests.conformance.kids import Host, actor_of, family, one


class Alarm(Host):
    """Sets a timer for itself in its init, and asks for more."""

    def __init__(self, delay: float = 1.0) -> None:
        super().__init__()
        self.delay = delay

    async def init(self) -> Continue | Idle | Ignore | Stop | None:
        self.send_after(self.delay, "ring")
        return None

    async def handle_info(self, message: object) -> Next:
        self.send_after(self.delay, "ring")
        return await super().handle_info(message)


async def test_p62_a_message_arrives_when_its_time_has_come(runtime: Runtime, clock: VirtualClock) -> None:
    """Not before, once; time 0 is later than now, too."""
    host = await runtime.start(Host())
    timer = runtime.send_after(0.01, host, "late")
    runtime.send_after(0, host, "at once")
    assert actor_of(host).seen == []
    await clock.advance(0.009)
    assert actor_of(host).seen == ["at once"]
    assert timer.remaining == pytest.approx(0.001)
    await clock.advance(0.001)
    assert actor_of(host).seen == ["at once", "late"]
    assert timer.remaining is None
    await clock.advance(100)
    assert actor_of(host).seen == ["at once", "late"]


async def test_p62_cancelling_says_what_was_left(runtime: Runtime, clock: VirtualClock) -> None:
    """Nothing is left of a timer that has fired or was cancelled before."""
    host = await runtime.start(Host())
    fired, cancelled = runtime.send_after(1, host, "fired"), runtime.send_after(100, host, "cancelled")
    await clock.advance(60)
    assert [repr(cancelled), repr(fired)] == ["<Timer due in 40 s>", "<Timer over>"]
    assert cancelled.cancel() == pytest.approx(40)
    assert cancelled.cancel() is None
    assert fired.cancel() is None
    await clock.advance(100)
    assert actor_of(host).seen == ["fired"]
    assert (clock.pending, len(runtime.timers)) == (0, 0)


async def test_p72_a_ref_is_one_incarnation_and_a_name_is_whoever_holds_it(
    runtime: Runtime, clock: VirtualClock
) -> None:
    """The successor never gets what was meant for its predecessor."""
    supervisor = await family(runtime, ChildSpec("n", Host, name="n"))
    old = await one(supervisor, "n")
    runtime.send_after(1, old, "by ref")
    runtime.send_after(1, runtime.named("n"), "by name")
    old.kill()
    await clock.settle()
    new = await one(supervisor, "n")
    assert new != old
    await clock.advance(2)
    assert actor_of(old).seen == []
    assert actor_of(new).seen == ["by name"]


@pytest.mark.parametrize("reason", ["killed", "stopped"])
async def test_trap_2_2_j_timers_die_with_their_actor(runtime: Runtime, clock: VirtualClock, reason: str) -> None:
    """Nothing stays in the clock, however the actor ended."""
    host = await runtime.start(Host())
    timers = [runtime.send_after(delay, host, delay) for delay in (1, 2, 3)]
    timers[1].cancel()
    if reason == "killed":
        host.kill()
        await host.wait_exit()
    else:
        await host.stop()
    assert (clock.pending, len(runtime.timers)) == (0, 0)
    assert [timer.remaining for timer in timers] == [None, None, None]
    late = runtime.send_after(1, host, "late")
    assert (late.remaining, late.cancel(), clock.pending) == (None, None, 0)


async def test_a_timer_outlives_who_set_it(runtime: Runtime, clock: VirtualClock) -> None:
    """It belongs to its receiver."""
    sender, receiver = await runtime.start(Host()), await runtime.start(Host())

    async def send() -> None:
        runtime.send_after(5, receiver, "from the dead")

    await sender.call(send)
    await sender.stop()
    await clock.advance(5)
    assert actor_of(receiver).seen == ["from the dead"]


async def test_the_dying_set_no_timers(runtime: Runtime, clock: VirtualClock) -> None:
    """Messages of a process are dropped once its exit reason is recorded."""
    host, other = await runtime.start(Host()), await runtime.start(Host())
    timers: list[Timer] = []

    async def die() -> None:
        host.kill()
        timers.append(runtime.send_after(0, other, "too late"))

    with pytest.raises(Exception, match="killed"):
        await host.call(die)
    await clock.advance(1)
    assert timers[0].remaining is None
    assert actor_of(other).seen == []


async def test_an_actor_sends_to_itself_again_and_again(runtime: Runtime, clock: VirtualClock) -> None:
    """The usual tick; it ends with the actor."""
    alarm = await runtime.start(Alarm())
    await clock.advance(3.5)
    assert actor_of(alarm).seen == ["ring"] * 3
    await alarm.stop()
    assert clock.pending == 0


async def test_a_full_mailbox_takes_a_timers_message(runtime: Runtime, clock: VirtualClock) -> None:
    """Nobody is there to be told that it was refused, and a tick that is lost never comes again."""

    class Narrow(Host):
        mailbox_limit = 1

    narrow, gate = await runtime.start(Narrow()), asyncio.Event()
    busy = asyncio.ensure_future(narrow.call(gate.wait))
    await clock.settle()
    assert narrow.send("fills it")
    assert not narrow.send("refused")
    runtime.send_after(1, narrow, "tick")
    await clock.advance(1)
    gate.set()
    await busy
    await clock.settle()
    assert actor_of(narrow).seen == ["fills it", "tick"]


async def test_a_name_nobody_holds_drops_the_message(runtime: Runtime, clock: VirtualClock) -> None:
    """And one who is still in its init gets it."""
    runtime.send_after(1, runtime.named("nobody"), "lost")
    await clock.advance(1)
    registry = Registry()
    runtime.send_after(1, registry.via("k"), "lost, too")
    host = await runtime.start(Host())
    await clock.advance(1)
    assert actor_of(host).seen == []

    class Slow(Host):
        async def init(self) -> None:
            await self.runtime.sleep(5)

    slow = runtime.spawn(Slow(), name="slow", via=registry.via("k"))
    runtime.send_after(1, runtime.named("slow"), "by name")
    runtime.send_after(2, registry.via("k"), "by key")
    await clock.advance(5)
    assert actor_of(slow.ref).seen == ["by name", "by key"]


async def test_closing_the_runtime_drops_what_is_on_its_way_to_a_name(clock: VirtualClock) -> None:
    """No process owns those timers, so their runtime does."""
    runtime = Runtime(clock=clock)
    async with runtime:
        timer = runtime.send_after(10, runtime.named("n"), "never")
    assert (clock.pending, timer.remaining) == (0, None)


@pytest.mark.parametrize("delay", [-1, math.nan, math.inf, "1", None, True])
async def test_a_delay_is_a_number_of_seconds(runtime: Runtime, clock: VirtualClock, delay: float) -> None:
    """From 0 on, and said at once."""
    host = await runtime.start(Host())
    with pytest.raises(SpecError, match="delay"):
        runtime.send_after(delay, host, "x")


async def test_another_loop_is_refused(runtime: Runtime) -> None:
    """A clock is not for two threads."""
    host = await runtime.start(Host())

    async def elsewhere() -> None:
        with pytest.raises(WrongLoop):
            runtime.send_after(1, host, "x")

    await asyncio.to_thread(asyncio.run, elsewhere())


async def test_a_restarted_actor_sets_its_timers_anew(runtime: Runtime, clock: VirtualClock) -> None:
    """Those of its predecessor are gone: it does not tick twice as fast."""
    supervisor = await family(runtime, ChildSpec("alarm", Alarm))
    first = await one(supervisor, "alarm")
    await clock.advance(0.5)
    first.kill()
    await clock.settle()
    assert clock.pending == 1
    await clock.advance(3)
    assert actor_of(await one(supervisor, "alarm")).seen == ["ring"] * 3
