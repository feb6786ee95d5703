"""The App without ``await``: from plain code, from threads, beside a running loop, and interrupted."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import dspex
from dspex.errors import AppAlreadyRunning, AppNotRunning, CacheError, MissingInput
from dspex.protocols.scope import Delta, current_scope
from dspex.simulator import Simulator
from tests.support.programs import Ask


class Double(dspex.Module):
    """Doubles, with a piece on the way."""

    def __init__(self) -> None:
        pass

    async def forward(self, value: int) -> int:
        sink = current_scope.get().stream
        if sink is not None:
            await sink.put(Delta("double", "value", str(value), value))
        if value < 0:
            raise ArithmeticError("below zero")
        return value * 2


@pytest.fixture
def app() -> Iterator[object]:
    with dspex.App().sync() as running:
        yield running


def test_run_returns_what_forward_returns() -> None:
    """The simplest script."""
    with dspex.App().sync() as app:
        assert app.run(Double(), 4) == 8
        assert app.run(Double(), value=5) == 10
        assert app.health()["ready"] is True
        assert "requests" in app.tree().render()


def test_errors_are_the_same_as_with_await() -> None:
    """Typed, early, and raised where the call is."""
    with dspex.App().sync() as app:
        with pytest.raises(ArithmeticError, match="below zero"):
            app.run(Double(), -1)
        with pytest.raises(MissingInput, match="value"):
            app.run(Double())  # type: ignore[call-arg]  # that is the point


def test_nothing_is_left_after_close() -> None:
    """The thread ends with the App; closing twice is nothing, using it afterwards is told."""
    before = set(threading.enumerate())
    app = dspex.App().sync().open()
    with pytest.raises(AppAlreadyRunning):
        app.open()
    app.close()
    app.close()
    assert set(threading.enumerate()) == before
    with pytest.raises(AppNotRunning):
        app.run(Double(), 1)
    assert app.health() == {"ready": False}
    with app:
        assert app.run(Double(), 1) == 2


def test_failed_start_leaves_no_thread(tmp_path: Path) -> None:
    """A cache that cannot be opened is the caller's error, and the end of the thread."""
    before = set(threading.enumerate())
    (tmp_path / "cache.db").write_text("this is not a database, and long enough to be read as a bad header")
    with pytest.raises(CacheError):
        dspex.App(cache=tmp_path / "cache.db").sync().open()
    assert set(threading.enumerate()) == before


async def test_works_beside_a_running_loop() -> None:
    """A notebook's cell runs inside a loop: the App's own is another one."""
    asyncio.get_running_loop()
    with dspex.App().sync() as app:
        assert app.run(Double(), 21) == 42


def test_many_threads_share_one_app() -> None:
    """Flask and Celery call from threads of their own."""
    with dspex.App().sync() as app, ThreadPoolExecutor(16) as pool:
        assert list(pool.map(lambda number: app.run(Double(), number), range(200))) == list(range(0, 400, 2))


def test_start_gives_a_handle() -> None:
    """Several requests at once from one thread."""
    with dspex.App().sync() as app:
        requests = [app.start(Double(), number) for number in range(5)]
        assert [request.result() for request in requests] == [0, 2, 4, 6, 8]
        assert all(request.done for request in requests)
        assert requests[0].details.calls == 0


def test_stream_and_map_are_iterated() -> None:
    """The same context managers, without ``async``."""
    with dspex.App().sync() as app:
        with app.stream(Double(), 7) as stream:
            assert [piece.text for piece in stream if isinstance(piece, Delta)] == ["7"]
            assert stream.result() == 14
        rows = ({"value": number} for number in range(10))
        with app.options(deadline=30).map(Double(), rows, ordered=True) as results:
            assert [each.value for each in results if isinstance(each, dspex.Ok)] == list(range(0, 20, 2))
        with pytest.raises(RuntimeError, match="inside"):
            next(iter(app.stream(Double(), 7)))


def test_programs_ask_models_from_plain_code(tmp_path: Path) -> None:
    """Sockets, evaluation and a job, all from a thread that has no loop."""
    with _simulator() as url:
        lm = dspex.LM("openai/rules", api_base=url, api_key="key")
        with dspex.App(lm, home=tmp_path).sync() as app:
            answer = app.run(Ask(), question="Who?")
            assert dspex.details(answer).usage.total_tokens > 0
            assert app.evaluate(Ask(), [{"question": "Who?", "answer": answer.answer}], dspex.exact_match()).score == 1


@pytest.mark.parametrize(
    "call", ["run(Interrupts())", "evaluate(Interrupts(), [{'a': 1}], lambda example, answer: 1.0, progress=False)"]
)
def test_ctrl_c_at_the_first_step_of_a_request_stops_it(call: str, tmp_path: Path) -> None:
    """It runs before the caller has heard that it was begun, and has ended when the caller goes on."""
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(
            """
            import asyncio, os, signal, dspex

            class Interrupts(dspex.Module):
                def __init__(self) -> None:
                    pass

                async def forward(self, a: int = 0) -> None:
                    global running
                    running += 1
                    os.kill(os.getpid(), signal.SIGINT)  # heard by the main thread
                    try:
                        await asyncio.get_running_loop().create_future()
                    finally:
                        running -= 1

            running = 0

            with dspex.App().sync() as app:
                for _ in range(30):
                    try:
                        app.CALL
                    except KeyboardInterrupt:
                        print(running, end="", flush=True)
            """
        ).replace("CALL", call)
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("0" * 30, "")


def test_ctrl_c_stops_the_request_and_is_raised(tmp_path: Path) -> None:
    """SIGINT while waiting: the request is cancelled, the App closes, the process ends at once."""
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(
            """
            import asyncio, dspex

            class Waits(dspex.Module):
                def __init__(self) -> None:
                    pass

                async def forward(self) -> None:
                    print("waiting", flush=True)
                    try:
                        await asyncio.get_running_loop().create_future()
                    finally:
                        print("stopped", flush=True)

            with dspex.App().sync() as app:
                try:
                    app.run(Waits())
                except KeyboardInterrupt:
                    print("running:", app.health()["running"], flush=True)
            """
        )
    )
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=20)
    assert rest.split("\n")[:2] == ["stopped", "running: 0"]
    assert process.returncode == 0


class _simulator:
    """A simulator on a loop of its own, for code without one."""

    def __enter__(self) -> str:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._running = Simulator()
        asyncio.run_coroutine_threadsafe(self._running.__aenter__(), self._loop).result()
        return self._running.url

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._running.__aexit__(None, None, None), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def test_bound_program_is_a_plain_function() -> None:
    """It may be bound before the App is opened."""
    app = dspex.App().sync()
    double = app.bind(Double())
    with pytest.raises(AppNotRunning):
        double(4)
    with app:
        assert double(4) == 8
