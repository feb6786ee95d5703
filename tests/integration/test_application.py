"""Applications in processes of their own, stopped by the signals a system sends."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("application_script.py")
PATIENCE = 30


@contextmanager
def running(case: str, loop: str = "asyncio", until: str = "running") -> Iterator[subprocess.Popen[str]]:
    """Start the script and wait until it says that it has come so far."""
    with subprocess.Popen(
        [sys.executable, "-u", str(SCRIPT), case, loop], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            if until:
                assert process.stdout is not None
                assert process.stdout.readline().strip() == until, process.stderr and process.stderr.read()
            yield process
        finally:
            process.kill()


def rest(process: subprocess.Popen[str]) -> list[str]:
    out, err = process.communicate(timeout=PATIENCE)
    assert "Traceback" not in err, err
    return out.split()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_p70_a_signal_stops_in_order(number: signal.Signals, loop: str) -> None:
    """Hooks, children and applications, each in its order; the exit code is 0."""
    with running("two", loop) as process:
        process.send_signal(number)
        assert rest(process) == [
            *("B:prep_stop:state", "B:-2", "B:-1", "B:stop:prepared"),
            *("A:prep_stop:state", "A:-2", "A:-1", "A:stop:prepared", "code:0"),
        ]
        assert process.returncode == 0


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_kills(number: signal.Signals, loop: str) -> None:
    """Whoever takes long over the first is not asked again."""
    with running("stubborn", loop) as process:
        process.send_signal(number)
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "draining"
        process.send_signal(number)
        assert rest(process) == ["x", f"code:{128 + number}"]
        assert process.returncode == 128 + number


def test_a_second_signal_ends_a_process_whose_loop_is_blocked() -> None:
    """There is no orderly way any more."""
    with running("blocked") as process:
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE)
        assert process.returncode in (-signal.SIGTERM, -signal.SIGINT)


@pytest.mark.parametrize(
    ("case", "before"), [("slow start", ["B:-1", "B:stop:state"]), ("slow hook", [])], ids=["child", "hook"]
)
def test_a_signal_during_the_start_stops_what_has_started(case: str, before: list[str]) -> None:
    """A half-started tree ends in order, too; a hook that is not through is killed."""
    with running(case, until="starting") as process:
        process.send_signal(signal.SIGTERM)
        assert rest(process) == [*before, "A:prep_stop:state", "A:-1", "A:stop:prepared", "code:0"]


@pytest.mark.parametrize(
    ("case", "code", "last"),
    [
        ("keyboard interrupt", 0, ["A:-1", "A:prep_stop:state", "A:stop:prepared", "code:0"]),
        ("system exit", 0, ["A:-1", "restarted", "A:prep_stop:state", "A:-1", "A:stop:prepared", "code:0"]),
        ("gives up", 1, ["A:-1", "A:stop:state", "code:1"]),
        ("leaks", 1, ["code:1"]),
        ("requests stop", 0, ["A:prep_stop:state", "A:-1", "A:stop:prepared", "code:0"]),
        ("none", 0, ["code:0"]),
        ("in a thread", 0, ["refused", "code:0"]),
    ],
)
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_how_a_program_ends_by_itself(case: str, code: int, last: list[str], loop: str) -> None:
    """An interrupt in an actor stops the program; SystemExit is a crash like any other."""
    with running(case, loop, until="") as process:
        said = rest(process)
        assert said[-len(last) :] == last
        assert process.returncode == code


def test_a_start_that_fails_is_raised() -> None:
    """After what had started before it has been stopped."""
    with running("fails", until="") as process:
        out, err = process.communicate(timeout=PATIENCE)
        assert out.split() == ["A:+1", "B:stop:state", "A:prep_stop:state", "A:-1", "A:stop:prepared", "handlers:back"]
        assert "StartFailed" in err.splitlines()[-1]
        assert process.returncode == 1


def test_an_embedded_application_leaves_signals_alone() -> None:
    """Ctrl-C is the host's: it cancels the host's task, and the application ends on the way out."""
    with running("embedded") as process:
        process.send_signal(signal.SIGINT)
        assert rest(process) == ["A:prep_stop:state", "A:-1", "A:stop:prepared", "interrupted", "code:130"]


def test_an_interrupt_in_an_embedded_actor_reaches_the_host() -> None:
    """The block is left in order, and what is raised then is the interrupt."""
    with running("embedded interrupt") as process:
        assert rest(process) == ["A:-1", "A:prep_stop:state", "A:stop:prepared", "interrupted", "code:130"]
