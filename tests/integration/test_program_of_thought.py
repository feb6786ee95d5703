"""Programs that answer by code: in the real sandbox, and in one of the user's own."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex.errors import CodeFailed, MissingExtra
from dspex.programs import CodeRun, Interpreter
from dspex.testing import ScriptedLM, ScriptedScope
from tests.support.programs import living, until


@pytest.fixture(scope="module", autouse=True)
def warm() -> None:
    """Let the sandbox's own runtime open the sockets that it keeps for the life of the process."""
    asyncio.run(dspex.MontyInterpreter().run("1", {}))


def code(text: str, *, fenced: bool = True) -> dict[str, Any]:
    return {"reasoning": "r", "generated_code": f"```python\n{text}\n```" if fenced else text}


async def solve(*codes: Any, answer: Any = 42, **settings: Any) -> tuple[Any, ScriptedLM]:
    lm = ScriptedLM(
        {
            "code_generate": [codes[0]],
            "code_regenerate": list(codes[1:]),
            "generate_output": [{"reasoning": "r", "answer": answer}],
        }
    )
    program = dspex.ProgramOfThought("numbers: list[int] -> answer: int", **settings)
    async with dspex.App(lm=lm) as app:
        return await app.run(program, numbers=[20, 22]), lm


def rounds(prediction: object) -> list[str]:
    trajectory = dspex.details(prediction).trajectory
    assert trajectory is not None
    return [each.observation.text for each in trajectory]


@pytest.mark.parametrize("fenced", [True, False])
async def test_code_runs_on_the_inputs_and_its_output_is_what_is_answered_from(fenced: bool) -> None:
    """Printed text and the last line's value, of code with a fence and without."""
    prediction, lm = await solve(code("print('sum:')\nsum(numbers)", fenced=fenced))

    assert (prediction.answer, prediction.reasoning) == (42, "r")
    assert rounds(prediction) == ["sum:\n42"]
    assert "code_output: sum:\n42" in lm.requests[-1].prompt
    assert prediction.to_dict() == {"numbers": [20, 22], "answer": 42}


async def test_errors_are_fed_back_until_the_code_runs() -> None:
    """The model sees its code and the error."""
    prediction, lm = await solve(code("sum(number)"), code("def f(:"), code("sum(numbers)"))

    assert [each.partition(":")[0] for each in rounds(prediction)] == ["Error", "Error", "42"]
    assert "NameError" in lm.requests[1].prompt
    assert "sum(number)" in lm.requests[1].prompt


async def test_code_that_never_runs_is_a_typed_error() -> None:
    """With the last code and what was wrong with it."""
    with pytest.raises(CodeFailed, match="2 rounds") as caught:
        await solve(code("1 / 0"), code("1 / 0"), max_steps=2)
    assert caught.value.code == "1 / 0"
    assert "ZeroDivisionError" in caught.value.problem
    with pytest.raises(CodeFailed, match="no code"):
        await solve(code("", fenced=False), max_steps=1)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("open('/etc/passwd').read()", "PermissionError"),
        ("import os\nos.environ['HOME']", "Error"),
        ("import subprocess", "ModuleNotFoundError"),
        ("import socket", "ModuleNotFoundError"),
        ("[0] * 10**9", "memory limit"),
        ("while True: pass", "time limit"),
        ("def f(n): return f(n + 1)\nf(0)", "RecursionError"),
        ("while True: print('x' * 1000)", "Error"),
        ("import time\ntime.sleep(30)", "TimeoutError"),
        ("import asyncio\nasyncio.run(asyncio.sleep(30))", "TimeoutError"),
        ("import time\nwhile True: time.sleep(0.1)", "TimeoutError"),
        ("import time\ntime.time()", "not supported"),
        ("import time\ntime.monotonic()", "not supported"),
        ("import datetime\ndatetime.datetime.now()", "not supported"),
        ("from datetime import date\ndate.today()", "not supported"),
        ("x = []\nfor i in range(20_000): x = [x]\nx", "nested more than 100 deep"),
        ("2**200_000", "a whole number of some 60,000 digits"),
        ("[(1, 2)] * 60_000", "more than 100,000 parts"),
    ],
)
async def test_sandbox_lets_nothing_out_and_ends_what_does_not(text: str, problem: str) -> None:
    """No files, environment, processes, sockets or clock; bounded time, asleep as well, memory, depth and output."""
    ran = await dspex.MontyInterpreter(seconds=0.5, memory=20_000_000).run(text, {})

    assert ran.error is not None
    assert problem in ran.error


async def test_output_is_cut() -> None:
    """A model is not drowned in what it printed."""
    ran = await dspex.MontyInterpreter().run("print('x' * 50_000)", {})

    assert "cut off after 10,000" in ran.output
    assert len(ran.output) < 10_100


def _children() -> set[str]:
    """Return the live processes that this one has started."""
    found = set()
    for folder in Path("/proc").iterdir():
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
        except (OSError, ValueError):
            continue  # no process, or one that has just ended
        if parent == str(os.getpid()) and state != "Z":
            found.add(folder.name)
    return found


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="counts processes by /proc")
async def test_cancelled_request_ends_the_worker_process() -> None:
    """Code that never ends is stopped with its request."""
    before = _children()
    lm = ScriptedLM({"code_generate": [code("while True: pass")]})
    async with dspex.App(lm=lm) as app:
        request = app.start(dspex.ProgramOfThought("numbers: list[int] -> answer: int"), numbers=[1])
        await until(lambda: _children() - before, "the worker process")
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        await until(lambda: not _children() - before, "its end")


class Slow:
    """An interpreter of the user's own, which is killed the first time."""

    def __init__(self) -> None:
        self.runs: list[Mapping[str, Any]] = []

    async def run(self, code: str, variables: Mapping[str, Any]) -> CodeRun:
        self.runs.append(variables)
        if len(self.runs) == 1:
            await asyncio.get_running_loop().create_future()
        return CodeRun(code.upper())


async def test_killed_run_is_repeated_and_interpreters_are_exchangeable() -> None:
    """Code in a sandbox has no effects: its step may run again."""
    slow = Slow()
    assert isinstance(slow, Interpreter)
    lm = ScriptedLM({"code_generate": [code("x")], "generate_output": [{"reasoning": "r", "answer": 1}]})
    async with dspex.App(lm=lm) as app:
        program = dspex.ProgramOfThought("numbers: list[int] -> answer: int", interpreter=slow)
        request = app.start(program, numbers=[1])
        await until(lambda: slow.runs, "the first run")
        [step] = living(app.runtime, "code")
        step.ref.kill()
        prediction = await request

    assert rounds(prediction) == ["X"]
    assert slow.runs == [{"numbers": [1]}] * 2


async def test_predictors_are_found_by_the_names_that_dspy_saves() -> None:
    """Three, each with the fields in DSPy's order."""
    program = dspex.ProgramOfThought("q -> a", interpreter=Slow())

    assert {path: list(each.signature.fields) for path, each in program.predictors().items()} == {
        "code_generate.predict": ["q", "reasoning", "generated_code"],
        "code_regenerate.predict": ["q", "previous_code", "error", "reasoning", "generated_code"],
        "generate_output.predict": ["q", "final_generated_code", "code_output", "reasoning", "a"],
    }
    scope = ScriptedScope()
    with pytest.raises(dspex.MissingInput):
        await scope.run(program, question="x")
    assert scope.asked == []


def test_missing_extra_is_told_at_construction(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a model is paid to write code that nobody can run; there is no unsafe default."""
    monkeypatch.setitem(sys.modules, "pydantic_monty", None)

    with pytest.raises(MissingExtra, match=r"dspex\[sandbox\]"):
        dspex.ProgramOfThought("q -> a")
    dspex.ProgramOfThought("q -> a", interpreter=Slow())


@pytest.mark.parametrize("arguments", [{"seconds": 0}, {"memory": -1}])
def test_limits_must_make_sense(arguments: Mapping[str, Any]) -> None:
    """No limit means no sandbox."""
    with pytest.raises(ValueError, match="positive"):
        dspex.MontyInterpreter(**arguments)
    with pytest.raises(ValueError, match="max_steps"):
        dspex.ProgramOfThought("q -> a", max_steps=0)
