"""Contenders in processes of their own, taking turns, so that whatever else the machine does hits all of them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from benchmarks._erlang import command_of, compiled
from benchmarks._report import Turn
from benchmarks._row import Group

__all__ = ["ContenderFailed", "profile", "race", "trace_path"]

ROOT = Path(__file__).resolve().parents[1]


class ContenderFailed(RuntimeError):
    """A contender's process ended; it has said why on standard error."""

    def __init__(self, name: str, code: int | None) -> None:
        super().__init__(f"{name} ended with code {code}")


class _Child:
    """A child process that answers lines with lines."""

    def __init__(self, name: str, command: list[str], *, environment: dict[str, str]) -> None:
        self.name = name
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment,
        )

    def ask(self, line: str = "") -> str:
        """Send a line, if it is one, and return the next line of output."""
        if line:
            with contextlib.suppress(BrokenPipeError):
                self._stdin.write(line + "\n")
                self._stdin.flush()
        answer = cast("IO[str]", self._process.stdout).readline()
        if not answer:
            raise ContenderFailed(self.name, self._process.wait())
        return answer

    @property
    def _stdin(self) -> IO[str]:
        return cast("IO[str]", self._process.stdin)

    def close(self) -> None:
        """Close its input and wait; kill it when it does not end."""
        with contextlib.suppress(BrokenPipeError):
            self._stdin.close()
        try:
            self._process.wait(20.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        cast("IO[str]", self._process.stdout).close()


def race(
    group: Group, *, rounds: int, starts: int, seconds: float, operations: int | None = None
) -> Iterator[dict[str, Turn]]:
    """
    Run a group's contenders in alternation and yield each round: what one operation cost each of them.

    Args:
        group: The contenders.
        rounds: Turns of each contender in each of its processes.
        starts: The number of fresh starts of every process: memory layout and hash seed differ between processes.
        seconds: About how long a turn takes.
        operations: The number of operations of a turn instead.
    """
    for _ in range(starts):
        with contextlib.ExitStack() as stack:
            children = _open_all(stack, group.contenders, server=group.server)
            for child in children.values():
                child.ask(f"calibrate {seconds}" if operations is None else f"operations {operations}")
            for number in range(rounds):
                names = group.contenders if number % 2 == 0 else group.contenders[::-1]
                yield {name: Turn(**json.loads(children[name].ask("turn"))) for name in names}


def profile(name: str, *, server: bool, seconds: float, operations: int | None = None) -> None:
    """Have one contender write to standard error where its time goes."""
    with contextlib.ExitStack() as stack:
        child = _open_all(stack, (name,), server=server)[name]
        child.ask(f"calibrate {seconds}" if operations is None else f"operations {operations}")
        child.ask("profile")


def trace_path() -> None:
    """Print how one warm Predict travels from ``app.run`` to the socket and back."""
    with contextlib.ExitStack() as stack:
        url = _open(stack, "benchmarks._server", environment=dict(os.environ)).ask().strip()
        subprocess.run([sys.executable, "-m", "benchmarks._path", url], check=True, cwd=ROOT)


def _open_all(stack: contextlib.ExitStack, names: tuple[str, ...], *, server: bool) -> dict[str, _Child]:
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    # DSPy keeps its disk cache out of the user's home, and takes its price list from its own package.
    environment = {**os.environ, "DSPY_CACHEDIR": folder, "LITELLM_LOCAL_MODEL_COST_MAP": "true"}
    url = _open(stack, "benchmarks._server", environment=environment).ask().strip() if server else ""
    beams = compiled(Path(folder)) if any(name.endswith("@beam") for name in names) else None
    children = {}
    for name in names:
        if name.endswith("@beam"):
            assert beams is not None
            child = _Child(name, command_of(name, beams), environment=environment)
            stack.callback(child.close)
            children[name] = child
        else:
            children[name] = _open(stack, "benchmarks._worker", name, url, environment=environment)
    return children


def _open(stack: contextlib.ExitStack, module: str, *arguments: str, environment: dict[str, str]) -> _Child:
    command = [sys.executable, "-m", module, *arguments]
    child = _Child(" ".join((module, *arguments)), command, environment=environment)
    stack.callback(child.close)
    return child
