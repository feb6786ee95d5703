"""The simulator's fine-tuning, by OpenAI's own client: files, jobs, events, failures, and models that have learned."""

import asyncio
import importlib
import json
import warnings
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from dspex.simulator import Fault, FaultKind, FaultPlan, Simulator, SimulatorProcess, TrainingPlan

SYSTEM = "Say where the bird lives."
BIRDS = [f"{('heron', 'finch')[n % 2]} {n}" for n in range(12)]


@pytest.fixture(scope="module")
def sdk() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs, at import
        return importlib.import_module("openai")


@pytest_asyncio.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator(key="key") as running:
        yield running


@pytest_asyncio.fixture
async def client(sdk: Any, sim: Simulator) -> AsyncIterator[Any]:
    async with sdk.AsyncOpenAI(base_url=sim.url, api_key="key", max_retries=0) as client:
        yield client


def example(bird: str) -> dict[str, Any]:
    where = "at the lake" if "heron" in bird else "in the wood"
    turns = [("system", SYSTEM), ("user", f"Where does {bird} live?"), ("assistant", where)]
    return {"messages": [{"role": role, "content": text} for role, text in turns]}


def lines(examples: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(each) + "\n" for each in examples).encode()


async def submitted(client: Any, data: bytes, **options: Any) -> Any:
    file = await client.files.create(file=("birds.jsonl", data), purpose="fine-tune")
    assert (file.filename, file.bytes) == ("birds.jsonl", len(data))
    return await client.fine_tuning.jobs.create(model="rules-1", training_file=file.id, **options)


async def ended(client: Any, job: Any) -> Any:
    while job.status not in ("succeeded", "failed", "cancelled"):
        job = await client.fine_tuning.jobs.retrieve(job.id)
    return job


async def test_a_trained_model_answers_as_it_was_shown(client: Any, sim: Simulator) -> None:
    method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}}
    job = await submitted(client, lines(list(map(example, BIRDS))), suffix="birds", seed=7, method=method)
    assert (job.status, job.fine_tuned_model, job.seed) == ("validating_files", None, 7)
    job = await ended(client, job)

    assert job.status == "succeeded"
    assert job.fine_tuned_model.startswith("ft:rules-1:simulator:birds:")
    text = "".join(part["content"] for bird in BIRDS for part in example(bird)["messages"])
    assert 2 * len(text) / 4 <= job.trained_tokens <= 2 * (len(text) / 4 + 3 * len(BIRDS))
    asked = example("finch 77")["messages"][:2]
    said = {}
    for model in ("rules-1", job.fine_tuned_model):
        answer = await client.chat.completions.create(model=model, messages=asked, temperature=0)
        said[model] = (answer.choices[0].message.content, answer.usage.prompt_tokens)
    assert said[job.fine_tuned_model][0] == "in the wood" != said["rules-1"][0]
    assert said[job.fine_tuned_model][1] == said["rules-1"][1], "what it was shown is not in the prompt"
    told = [event async for event in client.fine_tuning.jobs.list_events(job.id)]
    assert told[0].message == "The job has successfully completed"
    assert told[-1].message == f"Created fine-tuning job: {job.id}"
    assert [run.status for run in sim.trainings()] == ["succeeded"]


async def test_jobs_are_listed_newest_first_and_found_by_their_metadata(client: Any) -> None:
    data = lines(list(map(example, BIRDS)))
    jobs = [await submitted(client, data, metadata={"mark": str(n % 2)}) for n in range(5)]

    listed = [job.id async for job in client.fine_tuning.jobs.list(limit=2)]
    found = [job.id async for job in client.fine_tuning.jobs.list(metadata={"mark": "1"}, limit=1)]

    assert listed == [job.id for job in reversed(jobs)]
    assert found == [jobs[3].id, jobs[1].id]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"no json\n" * 12, "Line 1"),
        (lines(list(map(example, BIRDS[:3]))), "3 example"),
        (lines([{"messages": [{"role": "user", "content": "alone"}]}] * 12), "must be from the assistant"),
    ],
)
async def test_a_file_that_cannot_be_learned_from_fails_the_job(client: Any, data: bytes, words: str) -> None:
    job = await ended(client, await submitted(client, data))

    assert (job.status, job.error.code, job.fine_tuned_model) == ("failed", "invalid_training_file", None)
    assert words in job.error.message


async def test_a_job_is_cancelled_once(sdk: Any, client: Any) -> None:
    job = await submitted(client, lines(list(map(example, BIRDS))))
    cancelled = await client.fine_tuning.jobs.cancel(job.id)

    assert cancelled.status == "cancelled"
    with pytest.raises(sdk.BadRequestError, match="already completed"):
        await client.fine_tuning.jobs.cancel(job.id)
    with pytest.raises(sdk.NotFoundError, match="ftjob-none"):
        await client.fine_tuning.jobs.retrieve("ftjob-none")
    with pytest.raises(sdk.NotFoundError, match="does not exist"):
        await client.chat.completions.create(model="ft:rules-1:simulator::none", messages=example("a")["messages"][:2])
    with pytest.raises(sdk.BadRequestError, match="does not exist"):
        await client.fine_tuning.jobs.create(model="rules-1", training_file="file-none")


async def test_trainings_fail_and_are_slow_on_request(sdk: Any) -> None:
    async with (
        Simulator(training=TrainingPlan(looks=50, fails="the loss has diverged")) as sim,
        sdk.AsyncOpenAI(base_url=sim.url, api_key="key", max_retries=0) as client,
    ):
        job = await ended(client, await submitted(client, lines(list(map(example, BIRDS)))))

    assert (job.status, job.error.message) == ("failed", "the loss has diverged")
    assert sim.trainings()[0].looks == 50


async def test_a_refused_request_has_submitted_nothing_and_a_lost_answer_has(sdk: Any) -> None:
    faults = FaultPlan(
        script={"/v1/fine_tuning/jobs": (Fault(kind=FaultKind.SERVER_ERROR), Fault(kind=FaultKind.RESET))}
    )
    async with (
        Simulator(faults=faults) as sim,
        sdk.AsyncOpenAI(base_url=sim.url, api_key="key", max_retries=0) as client,
    ):
        with pytest.raises(sdk.InternalServerError):
            await submitted(client, lines(list(map(example, BIRDS))))
        assert sim.trainings() == ()
        with pytest.raises(sdk.APIConnectionError):
            await submitted(client, lines(list(map(example, BIRDS))))
        assert len(sim.trainings()) == 1


async def test_a_process_tells_its_trainings(sdk: Any) -> None:
    async with SimulatorProcess(training=TrainingPlan(looks=2)) as sim:
        async with sdk.AsyncOpenAI(base_url=sim.url, api_key="key", max_retries=0) as client:
            job = await submitted(client, lines(list(map(example, BIRDS))))
            await sim.set_training(TrainingPlan(looks=1))
            job = await client.fine_tuning.jobs.retrieve(job.id)
        (run,) = await sim.trainings()

    assert (run.id, run.status, run.looks) == (job.id, "succeeded", 1)


@pytest.mark.parametrize("values", [{"looks": 0}, {"looks": True}, {"fails": 3}])
def test_a_plan_that_makes_no_sense_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="training plan"):
        TrainingPlan(**values)


@pytest.mark.parametrize(
    ("path", "kind", "body"),
    [
        ("/v1/files", "text/plain", b"x"),
        ("/v1/files", "multipart/form-data; boundary=b", b'--b\r\ncontent-disposition: form-data; name="a"\r\n\r\n'),
        ("/v1/fine_tuning/jobs", "application/json", b"[]"),
        ("/v1/fine_tuning/jobs", "application/json", b'{"model": 3}'),
    ],
)
async def test_any_bytes_get_an_error_in_the_provider_s_form(sim: Simulator, path: str, kind: str, body: bytes) -> None:
    address = sim.url.removeprefix("http://").removesuffix("/v1")
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer key\r\ncontent-type: {kind}\r\n"
    writer.write(f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body)
    answer = await reader.read()
    writer.close()

    assert answer.startswith(b"HTTP/1.1 400")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["type"] == "invalid_request_error"
