"""A model trained at its provider, over real HTTP: one submission whatever happens, a verdict, exact money."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex.optimizers import Better, BetterTogether, BootstrapFinetune, Candidate
from dspex.optimizers.candidate import named_among
from dspex.simulator import Fault, FaultKind, FaultPlan, Simulator, TrainingPlan
from tests.support.compiling import Titles, rows, same_title, simulated, tuner

ROWS, HOLD = 10, 6
KEY = "sk-very-secret-key-of-a-user"
PRICES = {"openai/*": dspex.Price(1, 1)}


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator(training=TrainingPlan(looks=2)) as running:
        yield running


async def compiled(app: dspex.App, optimizer: BootstrapFinetune | None = None, **options: Any) -> dspex.Job[Titles]:
    given = {"trainset": rows(ROWS), "holdset": rows(ROWS + HOLD)[ROWS:], "job": "tuned", **options}
    return await app.compile(Titles(), optimizer or tuner(), **given)


async def followed(job: dspex.Job[Any]) -> list[dspex.JobEvent]:
    async with job.events() as following:
        return [event async for event in following]


def steps(events: list[dspex.JobEvent]) -> list[str]:
    found = [event.data["step"] for event in events if event.kind == "training"]
    return [each for each in found if each != "told"]


async def test_the_trained_model_is_judged_and_handed_out(sim: Simulator, tmp_path: Path) -> None:
    async with simulated(sim.url, tmp_path) as app:
        job = await compiled(app)
        events = await followed(job)
        program = await job.result()
        after = await app.evaluate(program, rows(ROWS + HOLD)[ROWS:], same_title)

    (run,) = sim.trainings()
    assert isinstance(job.verdict, Better)
    assert (job.verdict.before, job.verdict.after, after.score) == (0, 1, 1)
    lm = program.answer.predict.lm
    assert isinstance(lm, dspex.LM)
    assert (lm.model, lm.api_base) == (f"openai/{run.trained_model}", sim.url)
    assert program.answer.predict.demos == ()
    assert steps(events) == ["begun", "uploaded", "submitted"]
    told = [event.data["told"] for event in events if event.kind == "training" and event.data["step"] == "told"]
    assert told[0] == f"Created fine-tuning job: {run.id}"
    assert told[-1] == "The job has successfully completed"
    assert (run.epochs, run.seed, run.suffix, run.model) == (3, 0, "dspex", "rules")
    assert [role for role, _ in run.examples[0]] == ["system", "user", "assistant"]
    assert len(run.examples) == ROWS
    progress = [event.data for event in events if event.kind == "progress"]
    assert (progress[-1]["found"], progress[-1]["trained"]) == (ROWS, 1)


def files_below(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def test_the_saved_program_names_the_trained_model_and_no_file_holds_the_key(tmp_path: Path) -> None:
    async with Simulator(key=KEY, training=TrainingPlan(looks=1)) as sim:
        lm = dspex.LM("openai/rules", api_base=sim.url, api_key=KEY, temperature=0.0)
        async with dspex.App(lm, home=tmp_path / "home", cache=None) as app:
            job = await compiled(app)
            events = await followed(job)
            (await job.result()).save(tmp_path / "program.json")
            await job.save_html(tmp_path / "page.html")
            again = Titles().load(tmp_path / "program.json", allow_api_base=True)
        (run,) = sim.trainings()

    assert KEY not in str([event.data for event in events])
    files = files_below(tmp_path)
    assert len(files) >= 3
    assert [path.name for path, data in files.items() if KEY.encode() in data] == []
    loaded = again.answer.predict.lm
    assert isinstance(loaded, dspex.LM)
    assert loaded.model == f"openai/{run.trained_model}"


async def test_the_same_job_again_asks_nobody(sim: Simulator, tmp_path: Path) -> None:
    for _ in range(2):
        async with simulated(sim.url, tmp_path) as app:
            job = await compiled(app)
            state = (await job.result()).dump_state()
            arrived = len(sim.arrivals())

    assert len(sim.trainings()) == 1
    assert state["answer.predict"]["lm"]["model"].startswith("openai/ft:rules:")
    assert len(sim.arrivals()) == arrived


async def test_another_job_takes_up_the_same_training(sim: Simulator, tmp_path: Path) -> None:
    """A journal that is lost, or another name: what is paid for is not paid for again."""
    async with simulated(sim.url, tmp_path) as app:
        await (await compiled(app)).result()
        events = await followed(await compiled(app, job="another"))

    assert len(sim.trainings()) == 1
    assert steps(events) == ["submitted"]


KILLED_AT = [
    "begun",
    pytest.param("uploaded", marks=pytest.mark.slow),
    "submitted",
    pytest.param("told", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("step", KILLED_AT)
async def test_a_killed_search_finds_its_training_again(sim: Simulator, tmp_path: Path, step: str) -> None:
    kills = 0

    def on_event(name: str, numbers: object, facts: Mapping[str, Any]) -> None:
        nonlocal kills
        event = facts["event"]
        if event.kind == "training" and event.data["step"] == step and not kills:
            kills += 1
            runtime = app.running_tree().runtime
            next(
                each for each in runtime.processes.values() if each.label == "search of tuned" and each.alive
            ).ref.kill()

    async with simulated(sim.url, tmp_path) as app:
        app.telemetry.attach("dspex.job.event", on_event)
        job = await compiled(app)
        events = await followed(job)
        await job.result()

    assert kills == 1
    assert len(sim.trainings()) == 1
    assert isinstance(job.verdict, Better)
    assert steps(events) == ["begun", "uploaded", "submitted"]


@pytest.mark.slow
async def test_outages_are_waited_for_and_a_lost_answer_submits_nothing_twice(tmp_path: Path) -> None:
    """The first look for the training fails, then the upload, then the answer to the submission is lost."""
    refused, lost = Fault(kind=FaultKind.OVERLOADED, retry_after=0.01), Fault(kind=FaultKind.RESET)
    script = {
        "/v1/files": (refused, Fault(kind=FaultKind.HTML), lost),
        "/v1/fine_tuning/jobs": (refused, Fault(), lost, Fault(kind=FaultKind.MALFORMED)),
    }
    async with Simulator(faults=FaultPlan(script=script)) as sim, simulated(sim.url, tmp_path) as app:
        job = await compiled(app)
        events = await followed(job)
        await job.result()

    assert len(sim.trainings()) == 1
    assert sum(event.kind == "paused" for event in events) >= 5
    assert steps(events) == ["begun", "uploaded", "submitted"]
    assert isinstance(job.verdict, Better)


@pytest.mark.slow
async def test_a_provider_that_is_down_while_it_trains_is_waited_for(tmp_path: Path) -> None:
    async with Simulator(training=TrainingPlan(looks=3)) as sim, simulated(sim.url, tmp_path) as app:
        job = await compiled(app)
        async with job.events() as following:
            async for event in following:
                if event.kind == "training" and event.data["step"] == "submitted":
                    down = Fault(kind=FaultKind.SERVER_ERROR)
                    path = f"/v1/fine_tuning/jobs/{event.data['training']}"
                    sim.set_faults(FaultPlan(script={path: (down, Fault(kind=FaultKind.HTML), down)}))
        await job.result()

    assert isinstance(job.verdict, Better)
    assert len(sim.trainings()) == 1


async def test_a_training_that_fails_says_the_provider_s_words_and_is_not_paid_again(tmp_path: Path) -> None:
    plan = TrainingPlan(looks=2, fails="the loss has diverged")
    async with Simulator(training=plan) as sim, simulated(sim.url, tmp_path) as app:
        for _ in range(2):
            with pytest.raises(dspex.TrainingFailed, match="the loss has diverged") as caught:
                await (await compiled(app)).result()
            assert sim.trainings()[0].id in caught.value.problem
        assert len(sim.trainings()) == 1
        with pytest.raises(dspex.TrainingFailed):
            await (await compiled(app, job="another")).result()
        assert len(sim.trainings()) == 2


async def test_a_file_that_the_provider_does_not_take_fails_the_training(sim: Simulator, tmp_path: Path) -> None:
    async with simulated(sim.url, tmp_path) as app:
        with pytest.raises(dspex.TrainingFailed, match="must have at least 10 examples"):
            await (await compiled(app, trainset=rows(4))).result()


async def test_a_refusal_is_the_job_s_error_and_nothing_is_recorded(tmp_path: Path) -> None:
    faults = FaultPlan(script={"/v1/files": (Fault(kind=FaultKind.UNAUTHORIZED), Fault(kind=FaultKind.INVALID))})
    async with Simulator(faults=faults) as sim, simulated(sim.url, tmp_path) as app:
        with pytest.raises(dspex.AuthFailed):
            await (await compiled(app)).result()
        with pytest.raises(dspex.RequestRejected, match="The request is wrong"):
            await (await compiled(app)).result()
        await (await compiled(app)).result()

        assert len(sim.trainings()) == 1


# --- cancelling ---------------------------------------------------------------------------------------------


async def cancelled_once_submitted(app: dspex.App, *, training: bool) -> None:
    job = await compiled(app)
    async with job.events() as following:
        async for event in following:
            if event.kind == "training" and event.data["step"] == "told":
                job.cancel(training=training)
    with pytest.raises(dspex.JobCancelled):
        await job.result()


async def test_a_cancelled_job_leaves_its_training_and_finds_it_again(tmp_path: Path) -> None:
    async with Simulator(training=TrainingPlan(looks=10**6)) as sim, simulated(sim.url, tmp_path) as app:
        await cancelled_once_submitted(app, training=False)
        assert [run.status for run in sim.trainings()] == ["running"]
        sim.set_training(TrainingPlan(looks=1))
        await (await compiled(app)).result()

        assert [run.status for run in sim.trainings()] == ["succeeded"]


async def test_a_training_is_cancelled_with_its_job_and_submitted_anew(tmp_path: Path) -> None:
    async with Simulator(training=TrainingPlan(looks=10**6)) as sim, simulated(sim.url, tmp_path) as app:
        await cancelled_once_submitted(app, training=True)
        assert [run.status for run in sim.trainings()] == ["cancelled"]
        sim.set_training(TrainingPlan(looks=1))
        await (await compiled(app)).result()

        assert [run.status for run in sim.trainings()] == ["cancelled", "succeeded"]


async def test_a_training_that_somebody_else_cancels_has_failed(tmp_path: Path) -> None:
    async with Simulator(training=TrainingPlan(looks=10**6)) as sim, simulated(sim.url, tmp_path) as app:
        job = await compiled(app)
        async with job.events() as following:
            async for event in following:
                if event.kind == "training" and event.data["step"] == "submitted":
                    sim.trainings()[0].status = "cancelled"
        with pytest.raises(dspex.TrainingFailed, match="cancelled"):
            await job.result()


# --- money --------------------------------------------------------------------------------------------------


async def test_dollars_need_a_price_before_anything_is_paid(sim: Simulator, tmp_path: Path) -> None:
    async with simulated(sim.url, tmp_path, prices=PRICES) as app:
        with pytest.raises(dspex.ConfigError, match="price="):
            await compiled(app.options(budget=dspex.Budget(usd=5)))  # type: ignore[arg-type]  # a view compiles, too
    async with simulated(sim.url, tmp_path, prices=PRICES, budget=dspex.Budget(usd=5)) as app:
        with pytest.raises(dspex.ConfigError, match="price="):
            await compiled(app)
    assert sim.arrivals() == ()


async def test_a_training_is_paid_by_its_tokens(sim: Simulator, tmp_path: Path) -> None:
    async with simulated(sim.url, tmp_path, prices=PRICES, budget=dspex.Budget(usd=50)) as app:
        job = await compiled(app, tuner(price=25))
        events = await followed(job)
        await job.result()
        spent = app.running_tree().book.root.spent
        reserved = app.running_tree().book.root.reserved

    (run,) = sim.trainings()
    assert run.trained_tokens is not None
    (paid,) = [event.data["spent"] for event in events if event.kind == "answer"]
    assert Decimal(paid["usd"]) == Decimal(25) * run.trained_tokens / 1_000_000
    assert (paid["tokens"], paid["unpriced"]) == (run.trained_tokens, 0)
    others = sum((Decimal(event.data["spent"]["usd"]) for event in events if event.kind == "evaluation"), Decimal(0))
    assert spent.usd == others + Decimal(paid["usd"])
    assert reserved.usd == 0
    assert isinstance(job.verdict, Better)


async def test_a_training_that_the_budget_does_not_allow_is_not_submitted(sim: Simulator, tmp_path: Path) -> None:
    async with simulated(sim.url, tmp_path, prices=PRICES) as app:
        view = app.options(budget=dspex.Budget(usd=1))
        job = await compiled(view, tuner(price=10_000))  # type: ignore[arg-type]
        program = await job.result()

    assert sim.trainings() == ()
    assert program.answer.predict.lm is None
    assert not isinstance(job.verdict, Better)


# --- what is trained ----------------------------------------------------------------------------------------


class Twice(dspex.Module):
    def __init__(self) -> None:
        self.first = dspex.Predict("passages: list[str], question -> answer")
        self.second = dspex.Predict("question, draft -> answer")

    async def forward(self, passages: list[str], question: str) -> object:
        draft = await self.first(passages=passages, question=question)
        return await self.second(question=question, draft=draft.answer)


@pytest.mark.parametrize(("multitask", "sizes"), [(True, [2 * ROWS]), (False, [ROWS, ROWS])])
async def test_one_model_for_all_predictors_or_one_for_each(
    sim: Simulator, tmp_path: Path, multitask: bool, sizes: list[int]
) -> None:
    async with simulated(sim.url, tmp_path) as app:
        optimizer = BootstrapFinetune(None, multitask=multitask, look_every=0.01)
        job = await app.compile(Twice(), optimizer, trainset=rows(ROWS), holdset=[], job="twice")
        program = await job.result()

    runs = sim.trainings()
    assert [len(run.examples) for run in runs] == sizes
    models = [each.lm.model for each in program.predictors().values() if isinstance(each.lm, dspex.LM)]
    assert models == [f"openai/{runs[0].trained_model}", f"openai/{runs[-1].trained_model}"]


async def test_weights_and_prompts_are_trained_one_after_the_other(sim: Simulator, tmp_path: Path) -> None:
    prompts = dspex.BootstrapFewShot(same_title, max_bootstrapped_demos=2, max_labeled_demos=0)
    async with simulated(sim.url, tmp_path) as app:
        optimizer = BetterTogether(same_title, [tuner(), prompts])
        job = await app.compile(
            Titles(), optimizer, trainset=rows(ROWS), holdset=rows(ROWS + HOLD)[ROWS:], job="together"
        )
        program = await job.result()

    (run,) = sim.trainings()
    assert isinstance(job.verdict, Better)
    assert isinstance(program.answer.predict.lm, dspex.LM)
    assert program.answer.predict.lm.model == f"openai/{run.trained_model}"


async def test_without_a_good_run_there_is_nothing_to_learn_from(sim: Simulator, tmp_path: Path) -> None:
    async with simulated(sim.url, tmp_path) as app:
        with pytest.raises(dspex.NoCandidate, match="of 10 rows none scored 1 or more"):
            await (await compiled(app, BootstrapFinetune(same_title))).result()
    assert sim.trainings() == ()


async def test_models_that_cannot_be_trained_are_named(tmp_path: Path) -> None:
    pool = dspex.LMPool(("openai/a", "openai/b"))
    async with Simulator() as sim, simulated(sim.url, tmp_path) as app:
        with pytest.raises(dspex.ConfigError, match="a pool cannot be trained"):
            await app.compile(Titles().with_lm(pool), tuner(), trainset=rows(2))
    other = dspex.LM("anthropic/claude", api_base=sim.url, api_key="x")
    async with Simulator() as sim, simulated(sim.url, tmp_path, lms={"other": other}) as app:
        with pytest.raises(dspex.ConfigError, match="no training at the provider of 'anthropic/claude'"):
            await app.compile(Titles().with_lm("other"), tuner(), trainset=rows(12), job="other")
        with pytest.raises(dspex.ConfigError, match="no training at the provider of 'anthropic/claude'"):
            both = BetterTogether(same_title, [tuner(), dspex.BootstrapFewShot(same_title)])
            await app.options(lm="other").compile(Titles(), both, trainset=rows(12), job="both")
        assert sim.arrivals() == ()


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": 0},
        {"look_every": 0},
        {"suffix": "é"},
        {"price": -1},
        {"price": "much"},
        {"hyperparameters": {"seed": 1}},
    ],
)
def test_arguments_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(dspex.ConfigError):
        BootstrapFinetune(None, **options)


def test_a_model_of_the_same_provider_is_asked_as_the_predictor_s_own() -> None:
    own = dspex.LM("openai/small", api_base="http://here/v1", api_key="k", temperature=0.5)
    named = named_among({"default": own, "fast": dspex.LM("openai/fast")}, None)

    for base in (None, own, "default"):
        found = named(base, "openai/ft:small")
        assert isinstance(found, dspex.LM)
        assert (found.model, found.api_base, found.api_key) == ("openai/ft:small", "http://here/v1", own.api_key)
        assert found.params.temperature == 0.5
    assert named(None, "fast") == "fast"
    assert named(None, "anthropic/claude") == "anthropic/claude"
    assert named(dspex.LMPool((own,)), "openai/ft:small") == "openai/ft:small"
    (path,) = dspex.Predict("a -> b").predictors()
    program = Candidate(lms={path: "openai/ft:small"}).applied(dspex.Predict("a -> b"))
    assert isinstance(program, dspex.Predict)
    assert program.lm == "openai/ft:small"


def test_what_does_not_change_the_result_is_no_other_job() -> None:
    def content(**options: Any) -> str:
        return json.dumps({name: str(each) for name, each in BootstrapFinetune(None, **options).options().items()})

    assert content() == content(price=3, look_every=60)
    assert content() != content(epochs=4)
