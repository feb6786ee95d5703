"""Errors cross processes (Celery, multiprocessing): by their text and attributes, whatever they carry."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import dspex
from dspex.testing import BrokenOff, ScriptedLM

ONE_TRY = dspex.ClientLimits(retry=dspex.RetryPolicy(max_attempts=1))
ASK = dspex.Predict("question -> answer", adapter="chat")


def search(query: str) -> str:
    """Search."""
    return query


async def _run(script: Any, program: Any = ASK, **inputs: Any) -> None:
    async with dspex.App(ScriptedLM(script), cache=None, limits=ONE_TRY) as app:
        await app.run(program, **({"question": "q"} | inputs))


async def _evaluate() -> None:
    async with dspex.App(ScriptedLM(["garbage"] * 9), cache=None, limits=ONE_TRY) as app:
        await app.evaluate(ASK, [{"question": "q"}], lambda example, answer: 1.0)


async def _evaluate_half() -> None:
    script = [{"answer": "a"}, dspex.AuthFailed("no"), dspex.AuthFailed("no")]
    async with dspex.App(ScriptedLM(script), cache=None, limits=ONE_TRY) as app:
        await app.evaluate(ASK, [{"question": str(n)} for n in range(3)], lambda e, a: 1.0, max_concurrency=1)


async def _stream() -> None:
    script = [BrokenOff("[[ ## answer ## ]]\nhalf of it and more, so that a piece of it is told")]
    async with (
        dspex.App(ScriptedLM(script), cache=None, limits=ONE_TRY) as app,
        app.stream(ASK, question="q") as stream,
    ):
        await stream.result()


async def _killed() -> None:
    async def kill(request: Any) -> Any:
        for each in list(app.running_tree().runtime.processes.values()):
            if each.label.startswith("r1 "):
                each.receive_exit(dspex.runtime.KILL, None)
        return {"answer": "a"}

    app = dspex.App(ScriptedLM(kill), cache=None)
    async with app:
        await app.run(ASK, question="q")


CASES: dict[str, Callable[[], Awaitable[None]]] = {
    "unparsable": lambda: _run(["garbage"] * 9),
    "server": lambda: _run([dspex.ServerFailed("busy", status=500, retry_after=1.0)]),
    "refused": lambda: _run([dspex.ContentRefused("no", partial="half")]),
    "missing input": lambda: _run([], other=1),
    "rejected": lambda: _run([{"answer": "a"}] * 3, dspex.Retry(ASK, lambda inputs, answer: "never")),
    "evaluation": _evaluate,
    "half an evaluation": _evaluate_half,
    "stream": _stream,
    "killed": _killed,
}


@pytest.mark.parametrize("case", CASES)
async def test_an_error_is_pickled_and_copied(case: str) -> None:
    """With its class, text, and attributes as far as they are data."""
    with pytest.raises(dspex.DspexError) as caught:
        await CASES[case]()
    error = caught.value
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert vars(again).keys() == vars(error).keys()
    if isinstance(error, dspex.EvaluationError):
        partial: Any = pickle.loads(pickle.dumps(error)).partial
        assert str(partial) == str(error.partial)
    if isinstance(error, dspex.LMError):
        assert pickle.loads(pickle.dumps(error)).attempts == error.attempts
