"""Programs of the operating system as actors: how they start, what they say, and how they end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from dspex.errors import OsProcessFailed, SpecError, StartFailed, UnknownMessage
from dspex.runtime import (
    KILLED,
    NORMAL,
    SHUTDOWN,
    ActorRef,
    Backoff,
    ChildSpec,
    Crashed,
    GetOsProcess,
    OsProcess,
    OsProcessInfo,
    Runtime,
    Supervisor,
    tree,
)
from dspex.runtime._os_output import LINES_A_SECOND
from dspex.testing import VirtualClock
from tests.support.programs import until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")

FOREVER = "echo up; exec tail -f /dev/null"
STUBBORN = "trap '' TERM; tail -f /dev/null & echo $!; while :; do wait; done"
"""Ignores SIGTERM, and so does what it starts, whose process id it says."""


def shell(script: str, **options: Any) -> OsProcess:
    return OsProcess(["/bin/sh", "-c", script], **options)


def running(script: str = FOREVER, **options: Any) -> OsProcess:
    """A program that has said something when it counts as started."""
    return shell(script, ready_line=r"(?P<address>.+)", **options)


@pytest.fixture
async def runtime(clock: VirtualClock) -> AsyncIterator[Runtime]:
    """One whose time moves only when a test moves it: a jump would not wait for what real programs do."""
    runtime = Runtime(clock=clock)
    runtime.open()
    yield runtime
    await runtime.close()
    assert not runtime.processes
    assert clock.pending == 0


async def info_of(ref: ActorRef) -> OsProcessInfo:
    return await ref.call(GetOsProcess())


def is_there(pid: int) -> bool:
    """True when the system still knows the process, as a zombie too."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def failure_of(error: StartFailed) -> OsProcessFailed:
    assert isinstance(error.__cause__, OsProcessFailed)
    return error.__cause__


def crash_of(reason: object) -> OsProcessFailed:
    assert isinstance(reason, Crashed)
    assert isinstance(reason.error, OsProcessFailed)
    return reason.error


# --- starting -----------------------------------------------------------------------------------------------


async def test_a_line_says_that_it_is_ready_and_where(runtime: Runtime) -> None:
    """The start waits for the line, on whichever stream it comes."""
    program = shell("echo warming up; echo listening on http://here:1 >&2; exec tail -f /dev/null",
                    ready_line=r"listening on (?P<address>\S+)")  # fmt: skip
    ref = await runtime.start(program)

    found = await info_of(ref)
    assert found.address == "http://here:1"
    assert found.port is None
    assert is_there(found.pid)
    assert tree(ref._process).note == f"pid {found.pid}"


async def test_it_is_asked_until_it_says_yes(runtime: Runtime, clock: VirtualClock) -> None:
    """A refusal and an error mean not yet; who asks is told the port."""
    asked: list[OsProcessInfo] = []

    async def answers(info: OsProcessInfo) -> bool:
        asked.append(info)
        if len(asked) == 1:
            raise ConnectionRefusedError
        return len(asked) > 2

    starting = asyncio.ensure_future(runtime.start(shell("exec tail -f /dev/null", port=0, ready=answers)))
    for count, pause in ((1, 0.02), (2, 0.04)):
        await until(lambda count=count: len(asked) == count and clock.pending == 2)  # type: ignore[misc]  # a default binds it
        await clock.advance(pause)
    ref = await starting

    found = await info_of(ref)
    assert asked == [found] * 3
    assert found.address == f"127.0.0.1:{found.port}"
    assert tree(ref._process).note == f"pid {found.pid}, port {found.port}"


async def test_the_port_stands_in_the_arguments(runtime: Runtime) -> None:
    program = OsProcess(
        ["/bin/sh", "-c", 'echo "$@"; exec tail -f /dev/null', "sh", "--port={port}", "{other}"],
        port=8123,
        ready_line="(.*)",
        ready=yes,
    )
    ref = await runtime.start(program)

    assert program._output is not None
    assert program._output.last == ("--port=8123 {other}",)
    assert (await info_of(ref)).address == "127.0.0.1:8123"


async def yes(_: OsProcessInfo) -> bool:
    return True


async def test_it_runs_where_and_with_what_it_is_told(runtime: Runtime, tmp_path: Path) -> None:
    ref = await runtime.start(
        running('echo "$ONLY$HOME in $(pwd -P)"; exec tail -f /dev/null', env={"ONLY": "this"}, cwd=tmp_path)
    )

    assert (await info_of(ref)).address == f"this in {os.path.realpath(tmp_path)}"  # noqa: ASYNC240 - a test


async def test_too_slow_a_start_fails_with_what_it_said(runtime: Runtime, clock: VirtualClock) -> None:
    """The last refusal is the cause; nothing is left running."""

    async def refuses(_: OsProcessInfo) -> bool:
        raise ConnectionRefusedError("not yet")

    program = running("echo loading; exec tail -f /dev/null", ready=refuses, start_timeout=5.0)
    starting = asyncio.ensure_future(runtime.start(program, label="server"))
    await until(lambda: program._failure)
    assert program.describe().endswith(", starting")
    await clock.advance(5.0)
    with pytest.raises(StartFailed) as caught:
        await starting

    failed = failure_of(caught.value)
    assert str(failed) == "sh was not ready within 5 s; it wrote: loading"
    assert (failed.program, failed.code, failed.lines) == ("sh", None, ("loading",))
    assert isinstance(failed.__cause__, ConnectionRefusedError)
    assert program._child is not None
    assert program._child.pid is not None
    assert not is_there(program._child.pid)


async def test_an_end_before_it_is_ready_is_a_failed_start(runtime: Runtime) -> None:
    with pytest.raises(StartFailed) as caught:
        await runtime.start(shell("echo no such model >&2; exit 3", ready_line="ready"))

    failed = failure_of(caught.value)
    assert str(failed) == "sh ended with exit code 3 before it was ready; it wrote: no such model"
    assert failed.code == 3


async def test_an_end_just_when_it_would_be_ready_is_a_failed_start(runtime: Runtime) -> None:
    """The answer comes in the very tick in which the end is known."""

    async def late(_: OsProcessInfo) -> bool:
        await program._ended.wait()
        return True

    program = shell("exit 0", ready=late)
    with pytest.raises(StartFailed) as caught:
        await runtime.start(program)

    assert failure_of(caught.value).code == 0


@pytest.mark.parametrize(
    ("argv", "cwd"),
    [
        pytest.param(["/no/such/program"], None, id="missing"),
        pytest.param([__file__], None, id="not executable"),
        pytest.param(["/"], None, id="a folder"),
        pytest.param(["sh", "a\0b"], None, id="a zero byte"),
        pytest.param(["sh"], "/no/such/folder", id="no such folder"),
    ],
)
async def test_a_program_that_cannot_run_fails_its_start(
    runtime: Runtime, argv: Sequence[str], cwd: str | None
) -> None:
    with pytest.raises(StartFailed) as caught:
        await runtime.start(OsProcess(argv, cwd=cwd))

    assert "cannot be started" in str(failure_of(caught.value))


@pytest.mark.parametrize(
    ("argv", "options", "field"),
    [
        ("ls -l", {}, "argv"),
        (b"ls", {}, "argv"),
        ([], {}, "argv"),
        (["ls", 1], {}, "argv"),
        (7, {}, "argv"),
        (["ls"], {"port": -1}, "port"),
        (["ls"], {"port": "80"}, "port"),
        (["ls"], {"port": True}, "port"),
        (["ls"], {"ready": "yes"}, "ready"),
        (["ls"], {"ready_line": "("}, "ready_line"),
        (["ls"], {"ready_line": 1}, "ready_line"),
        (["ls"], {"start_timeout": -1}, "start_timeout"),
        (["ls"], {"stop_timeout": "soon"}, "stop_timeout"),
    ],
)
def test_a_wrong_argument_is_refused_when_it_is_written_down(argv: Any, options: dict[str, Any], field: str) -> None:
    with pytest.raises(SpecError) as caught:
        OsProcess(argv, **options)

    assert caught.value.field == field


# --- its words ----------------------------------------------------------------------------------------------


async def test_its_output_is_logged_line_by_line(runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    """Both streams, what is not text, a line that is too long, and one that never ends."""
    caplog.set_level(logging.INFO, "dspex.os_process")
    script = r"echo 100 %s; printf '\377\n' >&2; head -c 9999 /dev/zero | tr '\0' x; printf '\r\nlast'"
    ref = await runtime.start(shell(script), label="server")

    assert await ref.wait_exit() == NORMAL
    said = sorted((record.__dict__["stream"], record.getMessage()) for record in caplog.records)
    assert said == [
        ("stderr", "server: \\xff"),
        ("stdout", "server: 100 %s"),
        ("stdout", "server: last"),
        ("stdout", f"server: {'x' * 4096} …"),
    ]


async def test_a_flood_holds_nobody_up(runtime: Runtime, clock: VirtualClock, caplog: pytest.LogCaptureFixture) -> None:
    """The program writes all it has; some of it is logged, the rest counted, its end remembered."""
    caplog.set_level(logging.INFO, "dspex.os_process")
    program = shell("yes | head -n 3000000; echo the end; exit 1")
    ref = await runtime.start(program, label="server")

    assert crash_of(await ref.wait_exit()).lines[-1] == "the end"
    *lines, dropped = [record.getMessage() for record in caplog.records if record.name == "dspex.os_process"]
    assert len(lines) == LINES_A_SECOND
    assert dropped == f"server: {3_000_001 - LINES_A_SECOND} more lines, too many to log"


async def test_a_false_alarm_of_the_loop_reads_nothing(runtime: Runtime) -> None:
    """A loop may say that there is something to read where there is nothing."""
    program = running()
    ref = await runtime.start(program)
    assert program._child is not None
    for stream in program._child._streams:
        stream._read()

    assert ref.alive
    assert len(program._child._streams) == 2


async def test_its_input_is_empty(runtime: Runtime) -> None:
    ref = await runtime.start(OsProcess(["/bin/cat"]))

    assert await ref.wait_exit() == NORMAL


# --- its end ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "code", "how"),
    [
        ("exit 3", 3, "sh ended with exit code 3"),
        ("kill -KILL $$", -9, "sh was ended by SIGKILL"),
        ("kill -40 $$", -40, "sh was ended by signal 40"),
    ],
)
async def test_a_bad_end_is_a_crash_that_says_how(runtime: Runtime, script: str, code: int, how: str) -> None:
    ref = await runtime.start(shell(f"echo at work; {script}"))

    failed = crash_of(await ref.wait_exit())
    assert str(failed) == f"{how}; it wrote: at work"
    assert failed.code == code


async def test_a_normal_exit_is_what_the_owner_says(runtime: Runtime) -> None:
    ref = await runtime.start(shell("exit 3", normal_exits=(3, 4)))

    assert await ref.wait_exit() == NORMAL


async def test_a_supervisor_starts_it_again(runtime: Runtime, clock: VirtualClock) -> None:
    """Who calls by name meanwhile is answered by the successor."""
    await runtime.start(Supervisor([ChildSpec("it", running, name="it")], backoff=Backoff()))
    first: OsProcessInfo = await runtime.named("it").call(GetOsProcess())
    old = runtime.whereis("it")
    assert old is not None

    os.kill(first.pid, signal.SIGKILL)
    assert crash_of(await old.wait_exit()).code == -signal.SIGKILL
    calling = asyncio.ensure_future(runtime.named("it").call(GetOsProcess(), timeout=None))
    await until(lambda: clock.pending)
    await clock.advance(1.0)
    second = await calling
    assert second.pid != first.pid
    assert is_there(second.pid)
    assert not is_there(first.pid)


async def test_stopping_is_polite_first(runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    """SIGTERM is heard and answered; what it says then is still read."""
    caplog.set_level(logging.INFO, "dspex.os_process")
    ref = await runtime.start(running("trap 'echo bye; exit 5' TERM; echo up; tail -f /dev/null & wait"))
    pid = (await info_of(ref)).pid
    await ref.stop()

    assert ref.exit_reason == NORMAL
    assert caplog.messages[-1].endswith(": bye")
    assert not is_there(pid)


async def test_who_ignores_sigterm_is_killed_with_all_it_has_started(
    runtime: Runtime, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """SIGKILL comes when the time is over, not before."""
    ref = await runtime.start(running(STUBBORN, stop_timeout=3.0))
    found = await info_of(ref)
    stopping = asyncio.ensure_future(ref.stop(SHUTDOWN, timeout=None))
    await until(lambda: tree(ref._process).note.endswith(", stopping"))
    await clock.advance(2.9)
    assert (is_there(found.pid), is_there(int(found.address))) == (True, True)
    await clock.advance(0.2)
    await stopping

    assert ref.exit_reason == SHUTDOWN
    assert "did not end within 3 s of SIGTERM: killed" in caplog.messages[-1]
    assert not is_there(found.pid)
    await until(lambda: not alive(int(found.address)))


def alive(pid: int) -> bool:
    """True when a process that somebody else has to reap still runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_a_kill_of_the_actor_kills_the_program(runtime: Runtime) -> None:
    """Not even a zombie is left when the actor is dead."""
    ref = await runtime.start(running(STUBBORN))
    found = await info_of(ref)
    ref.kill()

    assert await ref.wait_exit() == KILLED
    assert not is_there(found.pid)
    await until(lambda: not alive(int(found.address)))


async def test_a_kill_while_it_stops_waits_no_longer(runtime: Runtime) -> None:
    ref = await runtime.start(running(STUBBORN))
    found = await info_of(ref)
    ref.exit(SHUTDOWN)
    await until(lambda: tree(ref._process).note.endswith(", stopping"))
    ref.kill()

    assert await ref.wait_exit() == KILLED
    assert not is_there(found.pid)


async def test_what_a_program_leaves_behind_ends_with_it(runtime: Runtime) -> None:
    program = running("tail -f /dev/null & echo $!")
    ref = await runtime.start(program)
    assert await ref.wait_exit() == NORMAL

    assert program._output is not None
    [left] = program._output.last
    await until(lambda: not alive(int(left)))


async def test_somebody_out_of_reach_who_holds_the_pipe_does_not_hold_the_end_up(
    runtime: Runtime, clock: VirtualClock
) -> None:
    """A daemon has left the group: its output is waited for a second, then closed."""
    escapes = (
        "import os, signal, sys\n"
        "if os.fork() == 0:\n"
        "    os.setsid(); print(os.getpid(), flush=True); signal.pause()\n"
        "sys.stdin.read()\n"
        "signal.pause()"
    )
    program = OsProcess([sys.executable, "-c", escapes], ready_line=r"(?P<address>\d+)")
    ref = await runtime.start(program)
    found = await info_of(ref)
    try:
        os.kill(found.pid, signal.SIGTERM)
        assert program._child is not None
        await until(lambda: program._child is not None and program._child.code is not None)
        assert ref.alive
        await clock.advance(1.0)
        assert crash_of(await ref.wait_exit()).code == -signal.SIGTERM
        assert alive(int(found.address))
    finally:
        os.kill(int(found.address), signal.SIGKILL)


# --- in the middle of a start -------------------------------------------------------------------------------


async def test_a_cancelled_start_leaves_nothing(runtime: Runtime) -> None:
    program = shell(FOREVER, ready_line="never")
    starting = asyncio.ensure_future(runtime.start(program))
    await until(lambda: program._output is not None and program._output.last == ("up",))
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting

    assert program._child is not None
    assert program._child.pid is not None
    assert not is_there(program._child.pid)


async def test_a_kill_before_anything_is_read_leaves_nothing(runtime: Runtime) -> None:
    """The program has been started in this very turn; its pipes are not connected yet."""
    program = shell(FOREVER, ready_line="never")
    process = runtime.spawn(program)
    await until(lambda: program._child is not None and program._child.pid is not None)
    process.ref.kill()

    assert await process.ref.wait_exit() == KILLED
    assert program._child is not None
    assert program._child.pid is not None
    assert not is_there(program._child.pid)


# --- messages -----------------------------------------------------------------------------------------------


async def test_what_it_does_not_understand_ends_nothing(runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    ref = await runtime.start(running())
    with pytest.raises(UnknownMessage, match="what are you"):
        await ref.call("what are you?")
    ref.cast("this")
    ref.send("that")
    found = await info_of(ref)

    assert is_there(found.pid)
    events = [vars(record).get("event") for record in caplog.records]
    assert events == ["unexpected message"] * 3


# --- nobody left to look after it ---------------------------------------------------------------------------

PARENT = """
import asyncio, sys
from dspex.runtime import OsProcess, Runtime

async def main():
    async with Runtime() as runtime:
        script = "trap '' TERM HUP INT; exec 3>$0; tail -f /dev/null >&3 & echo up; while :; do wait; done"
        await runtime.start(OsProcess(["/bin/sh", "-c", script, sys.argv[1]], ready_line="up"))
        print("up", flush=True)
        await asyncio.Event().wait()

if sys.argv[2] == "uvloop":
    import uvloop
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
asyncio.run(main())
"""


async def test_a_parent_that_is_killed_leaves_no_orphan(tmp_path: Path) -> None:
    """Child and grandchild hold a FIFO open for writing: it ends when the last of them is gone."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    name = "uvloop" if "uvloop" in type(asyncio.get_running_loop()).__module__ else "asyncio"
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(fifo), name, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    opened = asyncio.ensure_future(asyncio.to_thread(fifo.open, "rb"))
    assert await parent.stdout.readline() == b"up\n"
    with await opened as held:
        parent.kill()
        await parent.wait()
        assert await asyncio.to_thread(held.read) == b""
