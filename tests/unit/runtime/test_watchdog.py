"""Code that holds the loop is named while it holds it."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import Mapping
from typing import Any

import pytest

from dspex._clock import monotonic
from dspex.errors import SpecError
from dspex.runtime import Actor, From, Next, Reply, Runtime, Watchdog
from dspex.telemetry import Telemetry

Event = tuple[str, Mapping[str, float], Mapping[str, Any]]

LIMIT = 0.2
PATIENCE = 20.0


class Listener:
    """Notes events, and lets go of whoever blocks the loop."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.release = threading.Event()
        self.telemetry = Telemetry()
        self.telemetry.attach("dspex.loop.", self.hear)

    def hear(self, name: str, measurements: Mapping[str, float], metadata: Mapping[str, Any]) -> None:
        if name == "dspex.loop.blocked" and "hold_the_loop" not in metadata["stack"]:
            return  # a busy machine lets innocent code stand still as well
        self.events.append((name, measurements, metadata))
        self.release.set()


class Culprit(Actor):
    """Blocks the loop until it is let go."""

    def __init__(self, release: threading.Event) -> None:
        self.release = release

    async def handle_call(self, message: Any, sender: From) -> Next:
        return Reply(self.hold_the_loop())

    async def handle_info(self, message: Any) -> Next:
        self.spawn_task(self.beside, label="beside")
        return None

    async def beside(self) -> None:
        assert self.hold_the_loop()

    def hold_the_loop(self) -> bool:
        return self.release.wait(PATIENCE)


def watchdogs() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "dspex-watchdog"]


@pytest.mark.allow_blocking("the point")
async def test_trap_2_2_c_the_handler_that_blocks_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """While it blocks, once, with its label, its message and its stack."""
    listener = Listener()
    async with Runtime(telemetry=listener.telemetry, watchdog=LIMIT) as runtime:
        ref = await runtime.start(Culprit(listener.release), label="the culprit")
        with caplog.at_level(logging.ERROR, "dspex.watchdog"):
            assert await ref.call("hold", timeout=None)
    ((name, measurements, metadata),) = listener.events
    assert name == "dspex.loop.blocked"
    assert metadata["label"] == "the culprit"
    assert metadata["message"] == "str"
    assert "hold_the_loop" in metadata["stack"]
    assert "release.wait" in metadata["stack"]
    assert measurements["seconds"] >= LIMIT
    record = next(each for each in caplog.records if "hold_the_loop" in vars(each)["stack"])
    fields = vars(record)
    assert vars(record)["event"] == "the event loop is blocked"
    seconds = vars(record)["seconds"]
    begins = f"the event loop is blocked for {seconds} s by the culprit with a str, at File "
    assert record.getMessage().startswith(begins)
    assert (fields["actor"], fields["handling"]) == ("the culprit", "str")
    assert "hold_the_loop" in fields["stack"]
    assert watchdogs() == []


class Waits(threading.Event):
    """Notes how long it is waited for, at most."""

    def __init__(self, longest: list[float]) -> None:
        super().__init__()
        self.longest = longest

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.longest.append(timeout)
        return super().wait(timeout)


@pytest.mark.allow_blocking("the point")
async def test_the_handler_is_named_within_a_second() -> None:
    """With the usual limit, however unluckily it begins: just when the loop has given a sign of life."""
    listener = Listener()
    longest: list[float] = []
    async with Runtime(telemetry=listener.telemetry) as runtime:
        watchdog = Watchdog(runtime, 0.5)
        watchdog._stopped, watchdog._beat = Waits(longest), Waits(longest)
        ref = await runtime.start(Culprit(listener.release))
        with watchdog:
            assert await ref.call("hold", timeout=None)
            named = list(longest)
    until_the_next_look, until_it_is_named = named[0], named[1]  # a machine's own delays come on top
    assert until_the_next_look + until_it_is_named <= 0.75


@pytest.mark.allow_blocking("the point")
async def test_tasks_and_callbacks_are_named_too() -> None:
    """A task of an actor by its label; what belongs to no process, as well as can be."""
    listener = Listener()
    async with Runtime(telemetry=listener.telemetry) as runtime:
        with Watchdog(runtime, LIMIT):
            culprit = Culprit(listener.release)
            ref = await runtime.start(culprit)
            ref.send("go")
            await asyncio.get_running_loop().run_in_executor(None, listener.release.wait, PATIENCE)
            await runtime.sleep(0)
            listener.release.clear()
            done = asyncio.Event()

            def callback() -> None:
                assert culprit.hold_the_loop()
                done.set()

            asyncio.get_running_loop().call_soon(callback)
            await done.wait()
            listener.release.clear()
            assert culprit.hold_the_loop()
    labels = [metadata["label"] for _, _, metadata in listener.events]
    assert labels[:2] == ["beside", "a callback"]
    assert labels[2].startswith("the task ")
    assert [metadata["message"] for _, _, metadata in listener.events] == [None, None, None]


@pytest.mark.allow_blocking("the point")
async def test_a_long_garbage_collection_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """It is nobody's code, and no stack would say so."""
    listener = Listener()
    async with Runtime(telemetry=listener.telemetry) as runtime:
        with Watchdog(runtime, 0.001), caplog.at_level(logging.WARNING, "dspex.watchdog"):
            rings: list[Any] = [[] for _ in range(200_000)]
            for each in rings:
                each.append(each)
            del each
            rings.clear()
            gc.collect()
            while not any(name == "dspex.loop.gc" for name, _, _ in tuple(listener.events)):
                await asyncio.get_running_loop().run_in_executor(None, listener.release.wait, PATIENCE)
                listener.release.clear()
    pauses = [(measurements, metadata) for name, measurements, metadata in listener.events if name == "dspex.loop.gc"]
    assert any(metadata["generation"] == 2 for _, metadata in pauses)
    assert all(measurements["seconds"] > 0.001 for measurements, _ in pauses)
    assert any(vars(record)["event"] == "garbage collection held the loop" for record in caplog.records)


async def test_without_listeners_a_line_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Of what holds the loop, and of a long collection."""
    async with Runtime() as runtime:
        watchdog = Watchdog(runtime, LIMIT)
        watchdog._loop_thread = threading.get_ident()
        with caplog.at_level(logging.WARNING, "dspex.watchdog"):
            watchdog._report(monotonic())
            watchdog._pauses.append((1.0, {"generation": 2, "collected": 3}))
            watchdog._report_pauses()
    held, collected = [vars(record) for record in caplog.records]
    assert "test_without_listeners" in held["stack"]
    assert (collected["seconds"], collected["generation"]) == (1.0, 2)


async def test_who_has_just_come_to_life_is_not_accused(caplog: pytest.LogCaptureFixture) -> None:
    """The stack would be that of somebody else."""
    listener = Listener()
    async with Runtime(telemetry=listener.telemetry) as runtime:
        watchdog = Watchdog(runtime, LIMIT)
        watchdog._beat.set()
        watchdog._report(monotonic())
    assert (listener.events, caplog.records) == ([], [])


@pytest.mark.allow_blocking("the point")
async def test_one_long_block_is_named_once() -> None:
    """The watch goes on looking, and waits for a sign of life."""
    listener, looks = Listener(), threading.Event()

    class Counting(threading.Event):
        count = 0

        def wait(self, timeout: float | None = None) -> bool:
            self.count += bool(listener.events)
            if self.count == 3:
                looks.set()
            return super().wait(timeout)

    async with Runtime(telemetry=listener.telemetry) as runtime:
        watchdog = Watchdog(runtime, LIMIT / 4)
        watchdog._beat = Counting()
        with watchdog:
            ref = await runtime.start(Culprit(looks))
            assert await ref.call("hold", timeout=None)
    assert [name for name, _, _ in listener.events].count("dspex.loop.blocked") == 1


async def test_a_watch_that_is_stopped_as_it_begins_a_look_asks_nobody() -> None:
    """Who stops it waits for it in the thread of the loop, which could not answer."""

    class Stopped(Watchdog):
        reports = 0

        def _report_pauses(self) -> None:
            self.reports += 1
            self._stopped.set()

    async with Runtime() as runtime:
        watchdog = Stopped(runtime, 0.002)
        watchdog._watch()
        await runtime.sleep(0)
    assert watchdog.reports == 2
    assert not watchdog._beat.is_set()


async def test_a_loop_that_turns_is_looked_at_again() -> None:
    """A look that finds nothing is followed by the next one, after half the limit."""

    class Looking(Watchdog):
        silent = 0

        def _report_pauses(self) -> None:
            self.silent += 1
            if self.silent == 3:  # two looks, one after the other, had nothing to say
                runtime.loop.call_soon_threadsafe(seen.set)

        def _report(self, asked: float) -> None:
            self.silent = 0  # a busy machine let the loop stand still: that look does not count

    seen = asyncio.Event()
    async with Runtime() as runtime:
        with Looking(runtime, LIMIT / 4):
            await seen.wait()


async def test_nothing_is_said_of_a_loop_that_turns() -> None:
    """However much it does."""
    listener = Listener()
    async with Runtime(telemetry=listener.telemetry, watchdog=5.0) as runtime:
        for _ in range(1000):
            await asyncio.sleep(0)
        assert watchdogs() == ["dspex-watchdog"]
        assert runtime._watchdog is not None
        runtime._watchdog.start()
        assert watchdogs() == ["dspex-watchdog"]
    assert listener.events == []
    assert watchdogs() == []
    runtime._watchdog.stop()


async def test_by_default_nobody_watches() -> None:
    """A thread is started only for who asks for it."""
    before = len(gc.callbacks)
    async with Runtime():
        assert watchdogs() == []
    assert len(gc.callbacks) == before


def test_a_loop_that_ends_without_closing_ends_the_watch() -> None:
    """The thread does not outlive what it watches."""
    runtime, before = Runtime(watchdog=0.001), len(gc.callbacks)

    async def only_open() -> None:
        runtime.open()

    asyncio.run(only_open())
    assert runtime._watchdog is not None
    thread = runtime._watchdog._thread
    assert thread is not None
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert len(gc.callbacks) == before


@pytest.mark.parametrize("limit", [0, -1, "1", float("nan")])
def test_a_limit_is_a_number_of_seconds(limit: Any) -> None:
    """Above 0."""
    with pytest.raises(SpecError, match="limit"):
        Runtime(watchdog=limit)
