"""
Runs the blocks of one page: a list of ``[kind, code, line]`` comes in on standard input as JSON.

The output is a list of ``{"printed": …, "error": …}``, one for each block up to the first that fails. Python blocks
may await at top level, as in a notebook; they share one module and one event loop. A simulator runs in a thread of
its own, so that blocks may also call ``asyncio.run``.
"""

from __future__ import annotations

import ast
import asyncio
import builtins
import contextlib
import inspect
import io
import json
import linecache
import subprocess
import sys
import threading
import traceback
import types
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, cast

import dspex
from dspex.simulator import Simulator

ADDRESS = "http://127.0.0.1:8808"
"""Where pages say that the reader's simulator listens; the versions behind it are the protocols'."""


@contextlib.contextmanager
def simulating() -> Iterator[Simulator]:
    """Run a simulator beside the page."""
    ready: list[Simulator] = []
    started, ended = threading.Event(), threading.Event()

    async def serve() -> None:
        async with Simulator() as simulator:
            ready.append(simulator)
            started.set()
            await asyncio.to_thread(ended.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    started.wait()
    try:
        yield ready[0]
    finally:
        ended.set()
        thread.join()


class PageRun:
    """One page's module, and the loop that its awaiting blocks share."""

    def __init__(self, name: str, simulator: Simulator, runner: asyncio.Runner) -> None:
        self._name = name
        self._simulator = simulator
        self._runner = runner
        self._module = types.ModuleType(name)
        self._module.__dict__.update(
            __builtins__=builtins,  # as every module that Python runs has; class statements look there from 3.14 on
            simulator=simulator,
            lm=dspex.LM("openai/rules-1", api_base=simulator.url, api_key="none"),
        )
        sys.modules[name] = self._module

    def run(self, kind: str, code: str, line: int) -> dict[str, str]:
        """Run one block and return what it printed and how it failed."""
        code = code.replace(ADDRESS, self._simulator.url.removesuffix("/v1"))
        if kind == "console":
            done = subprocess.run(code, shell=True, capture_output=True, text=True, timeout=30, check=False)
            return {"printed": done.stdout, "error": done.stderr if done.returncode else ""}
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                self._run_python(code, line)
        except (Exception, SystemExit):
            return {"printed": printed.getvalue(), "error": traceback.format_exc()}
        return {"printed": printed.getvalue(), "error": ""}

    def _run_python(self, code: str, line: int) -> None:
        source = "\n" * (line - 1) + code  # so that tracebacks name the lines of the page
        file = Path(f"{self._name}_{line}.py")
        file.write_text(source, encoding="utf-8")  # so that a metric's source can be read
        linecache.checkcache(str(file))
        compiled = compile(source, str(file.absolute()), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        if compiled.co_flags & inspect.CO_COROUTINE:
            function = types.FunctionType(compiled, self._module.__dict__)
            self._runner.run(cast("Coroutine[Any, Any, None]", function()))
        else:
            exec(compiled, self._module.__dict__)


def main() -> None:
    """Run the page whose name is the first argument."""
    results = []
    with simulating() as simulator, asyncio.Runner() as runner:
        page = PageRun(sys.argv[1], simulator, runner)
        for kind, code, line in json.load(sys.stdin):
            results.append(page.run(kind, code, line))
            if results[-1]["error"]:
                break
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
