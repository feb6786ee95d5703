"""``dspex top`` beside a running App: over its socket, in a real terminal, and what happens when one of them ends."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import re
import signal
import struct
import sys
import tempfile
import termios
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import dspex
from dspex.testing import ScriptedLM
from tests.support.programs import Ask, until

pytestmark = pytest.mark.allow_blocking("processes that start on the same two processors take what they need")


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where sockets are: short, and of this test alone."""
    with tempfile.TemporaryDirectory(prefix="dx-") as name:
        monkeypatch.setenv("XDG_RUNTIME_DIR", name)
        monkeypatch.setenv("TMPDIR", name)  # where else `dspex top` looks: Apps of other tests are there
        yield Path(name) / "dspex"


class Waits(dspex.Module):
    """Waits until it is cancelled."""

    async def forward(self) -> None:
        await asyncio.get_running_loop().create_future()


def watched(name: str = "shop") -> dspex.App:
    return dspex.App(ScriptedLM(lambda _: {"answer": "yes"}), watch=name)


async def top(*arguments: str, code: int = 0) -> tuple[str, str]:
    """Run it to its end, without a terminal."""
    command = [sys.executable, "-m", "dspex", "top", *arguments]
    pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*command, stdin=nothing, stdout=pipe, stderr=pipe)
    out, error = await process.communicate()
    assert process.returncode == code, (out, error)
    return out.decode(), error.decode()


def there(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir()]


class Screen:
    """A terminal with ``dspex top`` in it."""

    def __init__(self, ours: int, theirs: int, process: asyncio.subprocess.Process) -> None:
        self.ours = ours
        self.theirs = theirs
        self.process = process
        self.seen = ""

    def press(self, keys: str) -> None:
        self.seen = ""
        os.write(self.ours, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        self.seen = ""
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("4H", lines, columns, 0, 0))
        self.process.send_signal(signal.SIGWINCH)

    async def shows(self, text: str) -> str:
        """Wait until a picture holds a text; return all that was written since the last key."""
        await until(lambda: text in self.plain, f"{text!r} on the screen: {self.plain[-2000:]}", seconds=30.0)
        return self.plain

    @property
    def plain(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.seen)

    def take(self) -> None:
        try:
            self.seen += os.read(self.ours, 65_536).decode("utf-8", "replace")
        except (BlockingIOError, OSError):
            return


@asynccontextmanager
async def screen(*arguments: str, keys: bool = True, columns: int = 100) -> AsyncIterator[Screen]:
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 40, columns, 0, 0))
    command = [sys.executable, "-m", "dspex", "top", *arguments]
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=theirs if keys else asyncio.subprocess.DEVNULL,
        stdout=theirs,
        stderr=asyncio.subprocess.PIPE,
        env={**environment, "TERM": "xterm-256color"},
    )
    shown = Screen(ours, theirs, process)
    loop = asyncio.get_running_loop()
    loop.add_reader(ours, shown.take)
    try:
        yield shown
    finally:
        loop.remove_reader(ours)
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(ours)
        os.close(theirs)


# --- once ---------------------------------------------------------------------------------------------------


async def test_the_only_app_is_printed_once() -> None:
    async with watched() as app:
        await app.run(Ask(), question="one")
        out, _ = await top("--once", "--width", "100", "--view", "tree")

    assert f"shop (process {os.getpid()})" in out
    assert "done 1" in out
    assert "nothing was lost" in out
    assert "ledger" in out
    assert "\x1b" not in out


async def test_the_socket_does_what_it_is_asked_and_nothing_else(folder: Path) -> None:
    async with watched() as app:
        reader, writer = await asyncio.open_unix_connection(str(folder / there(folder)[0]), limit=2**20)

        async def tell(line: bytes) -> object:
            writer.write(line + b"\n")
            while True:
                told = json.loads(await reader.readline())
                if "acted" in told:
                    return told["acted"]

        def act(what: str, whom: str, how: str) -> bytes:
            return json.dumps({"act": {"what": what, "whom": whom, "how": how, "more": {}}}).encode()

        assert await tell(act("requests", "r9", "cancel")) == "request r9 has ended"
        assert await tell(act("jobs", "r9", "shout")) == "there is no job r9"
        assert await tell(act("files", "x", "remove")) == "nobody can remove files"
        for line in (b"{}", b"[]", b"nonsense", b'{"act": 3}', b'{"act": {"what": 1, "whom": 2, "how": 3, "more": 4}}'):
            assert await tell(line) == "this is not an act"
        request = app.start(Waits())
        assert await tell(act("requests", "r1", "cancel")) is None
        with pytest.raises(asyncio.CancelledError):
            await request.outcome()
        writer.write(b"x" * 100_000)  # without an end: nobody listens any more, and whoever looks still sees
        app.start(Waits()).cancel()
        while b"delta" not in await reader.readline():
            pass
        writer.close()


@pytest.mark.slow
async def test_the_snapshot_as_json() -> None:
    async with watched() as app:
        await app.run(Ask(), question="the words of a user")
        out, _ = await top("shop", "--json")

    told = json.loads(out)
    assert (told["version"], told["app"]["completed"], told["app"]["lost"]) == (1, 1, 0)
    assert "words of a user" not in out


@pytest.mark.slow
async def test_an_app_that_was_not_asked_to_is_not_there() -> None:
    async with dspex.App(ScriptedLM(lambda _: {"answer": "yes"})):
        _, error = await top("--once", code=2)
    assert error.startswith("dspex: no App can be watched: App(watch=True) or DSPEX_WATCH=1")
    assert error.count("\n") == 1


@pytest.mark.slow
async def test_of_several_one_has_to_be_chosen() -> None:
    async with watched("shop"), watched("bank"):
        out, _ = await top("--once", code=1)
        assert [line.split()[1] for line in out.splitlines()[:2]] == ["bank", "shop"]
        chosen, _ = await top("bank", "--once")
        assert "bank (process" in chosen
        _, error = await top("mill", "--once", code=2)
        assert "no App 'mill' can be watched; there is bank (process" in error


@pytest.mark.slow
async def test_the_socket_goes_with_its_app_and_comes_back_with_its_actor(folder: Path) -> None:
    async with watched() as app:
        (name,) = there(folder)
        ref = app.runtime.whereis("watch")
        assert ref is not None
        ref.kill()
        await until(lambda: (now := app.runtime.whereis("watch")) is not None and now.pid != ref.pid)
        out, _ = await top("--once")
        assert "Nothing is in flight." in out
        assert there(folder) == [name]
    assert there(folder) == []


@pytest.mark.slow
async def test_a_page_is_looked_at_by_its_address() -> None:
    pytest.importorskip("uvicorn")
    token = "a-token-of-enough-letters"
    page = dspex.Dashboard("127.0.0.1:0", token=token)
    async with dspex.App(ScriptedLM(lambda _: {"answer": "yes"}), dashboard=page) as app:
        address = app.dashboard_url
        out, _ = await top(address, "--once", "--view", "tree")
        assert "dashboard" in out
        _, error = await top(address.partition("#")[0], "--once", code=2)
    assert "needs its token" in error


# --- in a terminal ------------------------------------------------------------------------------------------


async def test_keys_choose_what_is_shown_and_the_terminal_is_given_back() -> None:
    async with watched() as app, screen("shop") as shown:
        before = termios.tcgetattr(shown.theirs)
        await shown.shows("Nothing is in flight.")
        shown.press("2")
        await shown.shows("No actor has died")
        ref = app.runtime.whereis("cache")
        assert ref is not None
        ref.kill()
        await shown.shows("cache")
        await shown.shows("cache died and was restarted")
        shown.press("jj")
        await shown.shows("r restart  z suspend")
        shown.press("r")
        await shown.shows("restart cache?")
        shown.press("y")
        await shown.shows("restart cache: done")
        await shown.shows("cache 2x died")
        request = app.start(Waits())
        shown.press("1")
        await shown.shows("Waits")
        shown.press("j")
        await shown.shows("c cancel")
        shown.press("c")
        await shown.shows("cancel request r1?")
        shown.press("n")  # whatever breaks something off is asked before
        await shown.shows("c cancel")
        assert not request.done
        shown.press("cy")
        await shown.shows("cancel request r1: done")
        with pytest.raises(asyncio.CancelledError):
            await request.outcome()
        shown.resize(60, 30)
        await shown.shows("cache 2x died")
        shown.press("p")
        await shown.shows("paused")
        shown.press("q")
        assert await shown.process.wait() == 0
        await shown.shows("")
        assert "\x1b[?1049l" in shown.seen
        assert termios.tcgetattr(shown.theirs)[3] == before[3]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
async def test_a_signal_ends_it_and_the_terminal_is_given_back(number: int, code: int) -> None:
    async with watched(), screen() as shown:
        await shown.shows("Nothing is in flight.")
        shown.process.send_signal(number)
        assert await shown.process.wait() == code
        await until(lambda: "\x1b[?1049l" in shown.seen)
        assert termios.tcgetattr(shown.theirs)[3] & termios.ECHO


@pytest.mark.slow
async def test_without_anybody_to_press_keys_it_shows_all_the_same() -> None:
    async with watched(), screen(keys=False) as shown:
        await shown.shows("Nothing is in flight.")
        shown.process.terminate()
        assert await shown.process.wait() == 0


@pytest.mark.slow
async def test_an_app_that_ends_is_told_and_the_next_of_its_name_is_found() -> None:
    async with watched():
        shown_in = screen("shop")
        shown = await shown_in.__aenter__()
        await shown.shows("live")
    try:
        await shown.shows("it has ended; this was the last of it")
        shown.seen = ""
        async with watched():
            await shown.shows("live")
        shown.press("q")
        assert await shown.process.wait() == 0
    finally:
        await shown_in.__aexit__(None, None, None)


# --- recording ----------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_recording_is_bounded_json_lines_and_writes_over_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    app = watched()
    await app.start()
    recording = asyncio.ensure_future(top("shop", "--record", str(path)))
    await until(lambda: path.exists() and path.stat().st_size > 1000, seconds=30.0)
    await app.run(Ask(), question="one")
    await app.aclose()
    out, _ = await recording

    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0] == {"dspex": "trace", "version": 1, "title": f"shop (process {os.getpid()})"}
    assert lines[1]["snapshot"]["version"] == 1
    assert f"{path.stat().st_size} bytes" in out
    assert path.stat().st_mode & 0o777 == 0o600

    other = tmp_path / "mine.txt"
    other.write_text("mine")
    async with watched():
        _, error = await top("shop", "--record", str(other), code=2)
    assert "it is not a recording" in error
    assert other.read_text() == "mine"
