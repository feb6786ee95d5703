"""The end of an App: how long running requests may take, what a killed root says, and cancelled as its own outcome."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import pytest

import dspex
from dspex.testing import ScriptedLM
from tests.support.programs import until

App = dspex.App  # imported here: no loop stands still for it
ASK = dspex.Predict("question -> answer")


def scripted() -> ScriptedLM:
    return ScriptedLM(lambda request: {"answer": "a"})


class Waiting(dspex.Module):
    """A program that runs until it is let go on."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.may_end = asyncio.Event()

    async def forward(self) -> str:
        self.entered.set()
        await self.may_end.wait()
        return "done"


class Blocking(dspex.Module):
    """A program that holds the loop, and then waits for ever."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.entered = asyncio.Event()

    async def forward(self) -> None:
        self.entered.set()
        await asyncio.sleep(0)
        until_then = time.monotonic() + self.seconds
        while time.monotonic() < until_then:
            pass
        await asyncio.Event().wait()


def outcomes(app: App) -> tuple[object, object, object]:
    health = app.health()
    return health["completed"], health["failed"], health["cancelled"]


# --- draining -----------------------------------------------------------------------------------------------


async def test_a_closing_app_lets_running_requests_finish() -> None:
    """A close waits for what runs, takes nothing new, and says meanwhile that it is not ready."""
    app = await App(scripted(), drain=60.0).start()
    program = Waiting()
    request = app.start(program)
    await program.entered.wait()
    closing = asyncio.ensure_future(app.aclose())
    await until(lambda: app.health()["ready"] is False)
    with pytest.raises(dspex.errors.AppClosed):
        await app.run(ASK, question="late")
    assert "[closing]" in repr(app)
    assert not closing.done()
    program.may_end.set()
    assert await request == "done"
    await closing


async def test_the_drain_of_a_close_goes_before_that_of_the_app() -> None:
    """``aclose(drain=0)`` waits for nobody, however patient the App is."""
    app = await App(scripted(), drain=3600.0).start()
    program = Waiting()
    request = app.start(program)
    await program.entered.wait()
    await asyncio.wait_for(app.aclose(drain=0), 30)
    with pytest.raises(dspex.errors.AppClosed):
        await request


async def test_a_block_left_by_an_error_does_not_wait_for_the_drain() -> None:
    """Ctrl-C, or any error on its way out, is not held up for an hour by a request that nobody will read."""
    with pytest.raises(LookupError):
        async with asyncio.timeout(30):
            async with App(scripted(), drain=3600.0) as app:
                program = Waiting()
                app.start(program)
                await program.entered.wait()
                raise LookupError


@pytest.mark.parametrize("drain", [-1, float("nan"), float("inf"), True, "10", None])
def test_a_drain_that_makes_no_sense_is_refused(drain: Any) -> None:
    with pytest.raises(dspex.errors.ConfigError, match="drain="):
        App(scripted(), drain=drain)


def test_the_sync_handle_drains_as_well() -> None:
    app = App(scripted(), drain=3600.0).sync().open()
    program = Waiting()
    request = app.start(program)
    app.close(drain=0.0)
    assert request.done


# --- cancelled is an outcome of its own ---------------------------------------------------------------------


async def test_cancelled_completed_and_failed_are_told_apart() -> None:
    """In health() and in events; a stream that is left early was cancelled, which is not an error."""
    events: list[tuple[str, object]] = []

    def note(name: str, _: Mapping[str, float], metadata: Mapping[str, Any]) -> None:
        events.append((name, metadata.get("outcome")))

    class Failing(dspex.Module):
        def __init__(self) -> None: ...

        async def forward(self) -> None:
            raise LookupError

    class Outer(dspex.Module):
        def __init__(self, inner: Waiting) -> None:
            self.inner = inner

        async def forward(self) -> str:
            return await self.inner()

    async with App(scripted()) as app:
        app.telemetry.attach("dspex.", note)
        await app.run(ASK, question="q")
        assert outcomes(app) == (1, 0, 0)
        with pytest.raises(LookupError):
            await app.run(Failing())
        assert outcomes(app) == (1, 1, 0)

        program = Waiting()
        task = asyncio.ensure_future(app.run(Outer(program)))
        await program.entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert outcomes(app) == (1, 1, 1)

        async with app.stream(Waiting()) as stream:
            pass
        assert outcomes(app) == (1, 1, 2)
        request = stream.request
        assert request.done

        with pytest.raises(dspex.errors.DeadlineExceeded):  # which is nobody's wish: it failed
            await app.options(deadline=0.01).run(Waiting())
        assert outcomes(app) == (1, 2, 2)

    ends = [(name, outcome) for name, outcome in events if name in ("dspex.request.stop", "dspex.request.exception")]
    stop, failed = "dspex.request.stop", ("dspex.request.exception", "failed")
    assert ends == [(stop, "completed"), failed, (stop, "cancelled"), (stop, "cancelled"), failed]
    modules = [(name, outcome) for name, outcome in events if name.startswith("dspex.module.") and outcome]
    assert ("dspex.module.stop", "cancelled") in modules


async def test_a_request_that_ended_before_it_was_cancelled_is_completed() -> None:
    async with App(scripted()) as app:
        request = app.start(ASK, question="q")
        await request
        request.cancel()
        assert outcomes(app) == (1, 0, 0)


@pytest.mark.allow_blocking("a program that blocks is the point")
async def test_cancellation_reaches_a_request_whose_loop_was_blocked() -> None:
    """It is dead as soon as it lets go of the loop, also when the patience of its caller was over by then."""
    async with App(scripted()) as app:
        program = Blocking(1.6)  # longer than a caller waits for a request that it has stopped
        request = app.start(program)
        await program.entered.wait()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        assert app.health()["running"] == 0
        assert outcomes(app) == (0, 0, 1)
        assert not [node for node in app.tree().walk() if "Blocking" in node.label]


# --- a root that was killed ---------------------------------------------------------------------------------


async def test_a_killed_root_is_a_closed_app() -> None:
    """Requests under way and later ones hear AppClosed, and so does who looks; a close and a new start work."""
    app = await App(scripted()).start()
    program = Waiting()
    request = app.start(program)
    await program.entered.wait()
    next(each for each in app.runtime.roots() if each.label == "App").ref.kill()
    with pytest.raises(dspex.errors.AppClosed, match="root of its tree was killed"):
        await asyncio.wait_for(request, 30)
    for use in (app.tree, lambda: app.runtime, lambda: app.start(ASK, question="q")):
        with pytest.raises(dspex.errors.AppClosed, match="start it again"):
            use()
    with pytest.raises(dspex.errors.AppClosed):
        await app.run(ASK, question="q")
    health = app.health()
    assert health["ready"] is False
    assert "AppClosed" in str(health["down"]) or "root of its tree was killed" in str(health["down"])
    assert "[killed]" in repr(app)
    await app.aclose()
    async with app:
        assert (await app.run(ASK, question="q")).answer == "a"


# --- repr ---------------------------------------------------------------------------------------------------


def test_repr_never_raises() -> None:
    """A debugger shows Apps that are half made."""

    half: App = App.__new__(App)
    assert repr(half) == "<App [not set up]>"
    assert repr(App(scripted()).sync()).startswith("<SyncApp of <App 'scripted/")
