"""``dspex serve`` as its own process: it answers, loads its program anew, and ends in order."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from dspex.app.cli import main

PROGRAM = """
import asyncio
from pathlib import Path

WORD = "first"


class Says:
    async def forward(self, wait: bool = False) -> str:
        if wait:
            print("waiting", flush=True)
            while not Path("go").exists():
                await asyncio.sleep(0.01)
        return WORD
"""


@contextmanager
def serving(folder: Path, *flags: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process, and its address."""
    (folder / "says.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "dspex", "serve", "says:Says", "--port", "0", *flags]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            assert "serves says:Says" in first, process.stderr.read() if process.stderr else ""
            yield process, first.split()[0]
        finally:
            process.kill()


def test_a_service_is_loaded_anew_and_drains(tmp_path: Path) -> None:
    """A request that runs at SIGTERM is answered with the program it began with; the exit code is 0."""
    with serving(tmp_path, "--linger", "0.2") as (process, url), httpx.Client(base_url=url) as client:
        assert client.post("/run", json={}).json() == "first"
        assert client.get("/health/ready").json() == {"ready": True}
        assert client.get("/openapi.json").json()["info"]["title"] == "Says"

        (tmp_path / "says.py").write_text("broken(")
        process.send_signal(signal.SIGHUP)
        assert process.stderr is not None
        assert "was not loaded anew, and stays as it was: SyntaxError" in process.stderr.readline()
        assert client.post("/run", json={}).json() == "first"

        answers: list[Any] = []
        waiting = threading.Thread(
            target=lambda: answers.append(httpx.post(f"{url}/run", json={"wait": True}, timeout=20))
        )
        waiting.start()
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        (tmp_path / "says.py").write_text(PROGRAM.replace("first", "the second"))
        process.send_signal(signal.SIGHUP)
        assert process.stderr.readline() == "dspex: says:Says was loaded anew\n"
        assert client.post("/run", json={}).json() == "the second"

        process.send_signal(signal.SIGTERM)
        # The signal and the question may come in one turn of its loop, in any order.
        while (ready := client.get("/health/ready")).status_code == 200:
            pass
        assert ready.status_code == 503
        (tmp_path / "go").touch()
        waiting.join(20)
        assert process.wait(20) == 0
        assert [(each.status_code, each.json()) for each in answers] == [(200, "first")]
        assert process.stderr.read() == ""


def test_ctrl_c_is_exit_code_130(tmp_path: Path) -> None:
    with serving(tmp_path) as (process, _):
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stderr is not None
        assert process.stderr.read() == ""


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["says:Absent"], "says has no 'Absent'"),
        (["says:Says", "--app", "says:Says"], "is not an App"),
        (["says:Says", "--app", "says:Says", "--lm", "openai/x"], "leave --lm"),
        (["says:Says", "--host", "256.1.1.1"], "cannot listen on 256.1.1.1"),
        (["says:Says", "--port", "70000"], "--port"),
        (["says:Says", "--port", "TAKEN"], "cannot listen on"),
    ],
)
def test_a_wrong_service_is_one_line(
    tmp_path: Path,
    flags: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "says.py").write_text(PROGRAM)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "says", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code = main(["serve", *[port if each == "TAKEN" else each for each in flags]])

    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err
    sys.modules.pop("says", None)
