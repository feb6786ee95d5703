"""``dspex demo --local`` as a user starts it, with the simulator as the server that is there already."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dspex.app.demo.local.story import YOURS
from dspex.simulator import SimulatorThread


def demo(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "dspex", "demo", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**kept, "TMPDIR": str(folder), **environment},
        check=False,
    )


def test_it_tells_the_whole_story(tmp_path: Path) -> None:
    """Estimated first, all answered while services die, learned, and said for what it is."""
    with SimulatorThread() as simulator:
        done = demo(tmp_path, "--local", "--api-base", simulator.url)

    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"60 messages, asked, learned and asked again, will take about", done.stdout)
    assert "60 of 60 answered" in done.stdout
    assert re.search(r"killed (cache|lm/\S+), back in", done.stdout)
    table = re.findall(r"^   (no demonstrations|bootstrapped) +(\d+) % +\d+ to \d+ %$", done.stdout, flags=re.MULTILINE)
    assert [name for name, _ in table] == ["no demonstrations", "bootstrapped"]
    [gain] = re.findall(r"The demonstrations: a gain, \+(\d+) points \(95 % interval \+", done.stdout)
    assert abs(int(gain) - (int(table[1][1]) - int(table[0][1]))) <= 1  # each is rounded
    assert re.search(r"\d+ messages better, \d+ worse, p [=<] \d\.\d+", done.stdout)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--local", "--gguf", "/no/such.gguf"], "--gguf /no/such.gguf: No such file or directory"),
        (["--local", "--api-base", "http://127.0.0.1:9/v1"], "--api-base http://127.0.0.1:9/v1: "),
        (["--local", "--lm", "openai/x"], "leave --lm out"),
        (["--gguf", "x"], "--gguf needs --local"),
    ],
)
def test_a_wrong_flag_is_one_line(tmp_path: Path, arguments: list[str], why: str) -> None:
    done = demo(tmp_path, *arguments)

    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert why in done.stderr


def test_packages_that_cannot_be_had_are_one_line(tmp_path: Path) -> None:
    """A fetch is announced first; nothing is left in the cache folder."""
    index = tmp_path / "index"
    index.mkdir()
    done = demo(
        tmp_path, "--local", XDG_CACHE_HOME=str(tmp_path / "cache"), PIP_NO_INDEX="1", PIP_FIND_LINKS=str(index),
        PIP_CONFIG_FILE="/dev/null",
    )  # fmt: skip

    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "xllamacpp cannot be had from the package index" in done.stderr
    assert "This fetches a llama.cpp server" in done.stdout
    assert [each for each in (tmp_path / "cache").rglob("*") if each.is_file()] == []


def test_a_server_without_models_is_one_line(tmp_path: Path) -> None:
    with SimulatorThread() as simulator:
        done = demo(tmp_path, "--local", "--api-base", simulator.url.replace("/v1", "/v2"))

    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "it answers 404 where its models should be" in done.stderr


def test_the_code_at_the_end_runs(tmp_path: Path) -> None:
    """With the simulator in the place of llama.cpp."""
    server = '["llama-server", "-m", "mine.gguf", "--port", "8080"],'
    simulator = f'["{sys.executable}", "-c", "{_WAITS}"],'
    with SimulatorThread() as there:
        code = YOURS.replace(server, simulator).replace("http://127.0.0.1:8080/v1", there.url)
        assert there.url in code
        assert simulator in code
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
        )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()


_WAITS = "import signal; signal.pause()"
