"""The hands of the engine: rows are run, texts written, vectors made, and every answer recorded before it counts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from dspex.errors import ConfigError, InternalError, MetricFailed, StateError
from dspex.evaluation import Metric, Row, RowRunner, Scored
from dspex.optimizers._answers import plain_spending
from dspex.optimizers._core import Item
from dspex.optimizers._writer import JobWriter
from dspex.optimizers.candidate import Candidate, Demo, Named, without_row
from dspex.optimizers.plans import Embed, Run, Train, Write
from dspex.programs import Embed as EmbedTexts
from dspex.programs import Example, Module, Predict, to_plain
from dspex.programs.portable import portable_fields
from dspex.protocols.executor import Failed, Ok
from dspex.protocols.lm import Usage
from dspex.protocols.money import Spending
from dspex.protocols.params import PredictorConfig
from dspex.protocols.scope import TraceStep

__all__ = ["Hands", "Trainer"]

Trainer = Callable[[Train, str], Awaitable[Mapping[str, object]]]
"""Does what a Train asks for, under the key of its answer, and returns the answer."""

PROGRAMS_KEPT = 256
"""Candidates whose programs are kept ready."""


class Hands:
    """
    Does items.

    Args:
        runner: Runs rows.
        writer: The journal.
        programs: The student under the empty name, and others.
        metric: Of the job; None scores every answer with 1.
        trainer: Trains models, where that is possible.
        named: Finds the models that candidates name.
    """

    def __init__(
        self,
        runner: RowRunner,
        writer: JobWriter,
        programs: Mapping[str, Module],
        metric: Metric | None,
        trainer: Trainer | None = None,
        named: Named | None = None,
    ) -> None:
        self._runner = runner
        self._writer = writer
        self._programs = programs
        self._metric = metric
        self._trainer = trainer
        self._named = named
        self._ready: OrderedDict[tuple[str, int, float | None], Module] = OrderedDict()
        self._own = {name: _demos_of(program) for name, program in programs.items()}
        self._written: set[str] = set()

    async def do(self, item: Item) -> Mapping[str, Mapping[str, object]]:
        """
        Do an item and return its answers by key; what is new has been recorded.

        Raises:
            LMError, ConfigError, AppClosed: Nothing can be done until somebody acts; nothing was recorded.
            JobBusy, OptimizationError: The journal belongs to another, or cannot be written.
        Cancellation: the request is stopped; an answer that has come is recorded all the same.
        """
        if item.reads:
            return await self._writer.read(item.reads)
        if item.tries and (known := await self._writer.find(item.key)) is not None:
            return {item.key: known}  # whoever was killed had handed it to the journal's thread
        telemetry = self._writer.telemetry
        if not telemetry.active:
            return await self._do(item)
        about = {"job": self._writer.job, "ask": type(item.ask).__name__.lower(), "plan": item.place[0]}
        with telemetry.within("dspex.plan.step", about):
            return await self._do(item)

    async def _do(self, item: Item) -> Mapping[str, Mapping[str, object]]:
        ask = item.ask
        if isinstance(ask, Run):
            assert item.row is not None
            await self._write_down(ask.candidate)
            evaluated = await self._run(ask, item.row)
            return {item.key: await self._writer.answer("evaluation", item.key, evaluated)}
        data: Mapping[str, object]
        if isinstance(ask, Write):
            data = await self._write(ask)
        elif isinstance(ask, Embed):
            data = await self._embed(ask)
        elif isinstance(ask, Train):
            data = await self._train(ask, item.key)
        else:
            raise InternalError(f"{type(ask).__name__} is not done by hand")
        return {item.key: await self._writer.answer("answer", item.key, data)}

    async def _write_down(self, candidate: Candidate) -> None:
        """Record what a candidate is before its first row is run, for whoever reads the journal later."""
        if candidate.key in self._written:
            return
        if not self._written:  # the first of all tells what the others are to be compared with
            own = {
                "candidate": Candidate().key,
                "_content": Candidate().plain(),
                "_own": _own_words(self._programs[""]),
            }
            await self._writer.append("proposed", own, Candidate().key)
        self._written |= {candidate.key, Candidate().key}
        data = {"candidate": candidate.key, "_content": candidate.plain()}
        await self._writer.append("proposed", data, candidate.key)

    # --- rows -----------------------------------------------------------------------------------------------

    async def _run(self, ask: Run, row: Row) -> dict[str, object]:
        about = {"row": row.index, "candidate": ask.candidate.key}
        try:
            program = self._program(ask, row)
        except StateError as error:  # a broken candidate fails alone
            return {**about, "score": None, "error": f"StateError: {error}", "failed": "candidate"}
        metric = self._metric if self._metric is not None and ask.scored else _any_answer
        outcome = await self._runner.score(program, row, metric)
        return {**about, **(_failure(outcome) if isinstance(outcome, Failed) else _success(program, outcome))}

    def _program(self, ask: Run, row: Row) -> Module:
        """Return the program for one row: without demonstrations that show it."""
        candidate = ask.candidate
        if candidate.program not in self._programs:
            raise StateError(f"there is no program {candidate.program!r}")
        own = self._own[candidate.program]
        if candidate.demos or own:
            fields = {name: to_plain(value) for name, value in row.example.items()}
            candidate = without_row(candidate, own, fields, row.inputs.keys())
        return self.program(candidate, ask.rollout, ask.temperature)

    def program(self, candidate: Candidate, rollout: int = 0, temperature: float | None = None) -> Module:
        """
        Return a candidate's program.

        Raises:
            StateError: It does not fit.
        """
        key = (candidate.key, rollout, temperature)
        known = self._ready.get(key)
        if known is None:
            known = candidate.applied(self._programs[candidate.program], self._named)
            if rollout:
                known = known.with_config(seed=rollout)
            if temperature is not None:
                known = known.with_config(temperature=temperature)
            self._ready[key] = known
            if len(self._ready) > PROGRAMS_KEPT:
                self._ready.popitem(last=False)
        return known

    # --- everything else ------------------------------------------------------------------------------------

    async def _write(self, ask: Write) -> dict[str, object]:
        config: PredictorConfig = {}
        if ask.rollout:
            config["seed"] = ask.rollout
        if ask.temperature is not None:
            config["temperature"] = ask.temperature
        predictor = Predict(ask.signature, lm=ask.lm, **config)
        outcome = await self._runner.run(predictor, dict(ask.inputs), ask.inputs)
        if isinstance(outcome, Failed):
            return {"outputs": {}, "error": _told(outcome.reason), **_spent(outcome)}
        fields = predictor.signature.fields
        values = {name: getattr(outcome.value, name) for name in fields if fields[name].role == "output"}
        return {"outputs": {name: to_plain(value) for name, value in values.items()}, "error": "", **_spent(outcome)}

    async def _embed(self, ask: Embed) -> dict[str, object]:
        outcome = await self._runner.run(EmbedTexts(ask.lm), {"texts": list(ask.texts)}, {})
        if isinstance(outcome, Failed):
            return {"_vectors": [], "error": _told(outcome.reason), **_spent(outcome)}
        return {"_vectors": [list(each) for each in outcome.value], "error": "", **_spent(outcome)}

    async def _train(self, ask: Train, key: str) -> Mapping[str, object]:
        if self._trainer is None:
            raise ConfigError("this App trains no models")
        return await self._trainer(ask, key)


def _demos_of(program: Module) -> dict[str, tuple[Demo, ...]]:
    state = program.dump_state()
    return {path: tuple(each["demos"]) for path, each in state.items() if path != "metadata" and each["demos"]}


# --- how answers are written down ---------------------------------------------------------------------------


def _any_answer(_example: Example, _prediction: object) -> bool:
    return True


def _success(program: Module, outcome: Scored) -> dict[str, object]:
    score = outcome.score
    trace, untaught = _calls(program, outcome.trace)
    told = {"score": score.value, "feedback": score.feedback, "parts": dict(score.parts), "error": ""}
    return {**told, **_spent(outcome), "_trace": trace, **({"untaught": untaught} if untaught else {})}


def _calls(program: Module, trace: Sequence[TraceStep]) -> tuple[list[list[object]], list[str]]:
    """Return the predictors' calls as demonstrations, and what of them has no form in which it could be taught."""
    calls: list[list[object]] = []
    untaught: list[str] = []
    predictors = program.predictors()
    for step in trace:
        if step.path not in predictors:
            continue
        try:
            signature = predictors[step.path].signature
            calls.append([step.path, portable_fields(signature, {**step.inputs, **step.outputs})])
        except TypeError as error:
            untaught.append(f"{step.path}: {error}")
    return calls, untaught


def _failure(outcome: Failed) -> dict[str, object]:
    kind = "metric" if isinstance(outcome.reason, MetricFailed) else "program"
    return {"score": None, "error": _told(outcome.reason), "failed": kind, **_spent(outcome)}


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _spent(outcome: Scored | Ok | Failed) -> dict[str, object]:
    totals = outcome.totals
    if totals is None:
        return {"seconds": 0.0}
    usage: Usage = totals.usage
    calls, tokens = totals.calls - totals.cached_calls, usage.input_tokens + usage.output_tokens
    known = totals.cost is not None
    spent = Spending(tokens=tokens, calls=calls, unpriced=0 if known else calls)
    if totals.cost is not None:
        spent = replace(spent, usd=totals.cost)
    names = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")
    return {
        "usage": {name: getattr(usage, name) for name in names},
        "seconds": totals.duration,
        "spent": plain_spending(spent),
    }


def _own_words(program: Module) -> dict[str, dict[str, object]]:
    """Return the instructions and demonstrations of a program by predictor path, for pages that show a difference."""
    state = {path: each for path, each in program.dump_state().items() if path != "metadata"}
    return {
        path: {"instructions": each["signature"]["instructions"], "demos": each["demos"]}
        for path, each in state.items()
    }
