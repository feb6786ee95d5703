"""The wire of trainings: any bytes are an answer or a typed error, and the form of an upload holds what was given."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.errors import AuthFailed, LMError, RateLimited, RequestRejected, ResponseInvalid, ServerFailed
from dspex.protocols.training import TrainingOrder, TrainingWire
from dspex.services.lm.wires.fine_tuning import OpenAIFineTuning
from dspex.simulator.training import FineTuning

WIRE = OpenAIFineTuning()
READERS: list[Callable[[int, dict[str, str], bytes], object]] = [
    WIRE.read_upload,
    WIRE.read_job,
    WIRE.read_jobs,
    WIRE.read_events,
]
names = st.sampled_from(
    ["id", "status", "data", "has_more", "fine_tuned_model", "trained_tokens", "error", "metadata", "message", "dspex"]
)
values = st.sampled_from(
    ["succeeded", "failed", "running", "ftjob-1", "a b", "", 7, -1, 2**70, 0.5, True, None]
) | st.text(max_size=4)
answers = st.recursive(
    values,
    lambda inner: st.dictionaries(names, inner, max_size=6) | st.lists(inner, max_size=3),
    max_leaves=8,
)
bodies = st.binary(max_size=30) | answers.map(lambda each: json.dumps(each).encode())
statuses = st.sampled_from([200, 201, 204, 301, 400, 401, 403, 404, 409, 429, 500, 503])


@given(st.sampled_from(READERS), statuses, bodies)
def test_any_bytes_are_an_answer_or_a_typed_error(
    read: Callable[[int, dict[str, str], bytes], object], status: int, body: bytes
) -> None:
    found, error = None, None
    try:
        found = read(status, {}, body)
    except LMError as raised:
        error = raised

    assert error is not None or 200 <= status < 300
    assert len(str(error)) < 1_500
    assert len(str(found)) < 200_000


lines = st.lists(st.dictionaries(st.text(max_size=6), st.text(max_size=20), max_size=3), max_size=5)


@given(lines)
def test_an_upload_is_read_as_it_was_written(given_lines: list[dict[str, str]]) -> None:
    """Lines hold any text, and also what looks like the border of a form."""
    given_lines = [*given_lines, {"border": "\r\n--dspex-0\r\n"}]
    call = WIRE.upload("birds.jsonl", given_lines)
    provider = FineTuning()
    answer = provider.act("POST", f"/v1{call.path}", {"content-type": call.content_type}, call.body)

    assert WIRE.read_upload(answer.status, {}, answer.parts[0]).startswith("file-")
    ((name, data),) = provider._files.values()
    assert name == "birds.jsonl"
    assert [json.loads(line) for line in data.decode().splitlines() if line] == given_lines


def test_the_order_is_written_in_the_provider_s_words() -> None:
    options = {"epochs": 2, "seed": 5, "suffix": "birds", "batch_size": 8}
    call = WIRE.submit(TrainingOrder("gpt-4.1-mini", "file-1", "mark-1", options))

    assert (call.method, call.path) == ("POST", "/fine_tuning/jobs")
    assert json.loads(call.body) == {
        "model": "gpt-4.1-mini",
        "training_file": "file-1",
        "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 8}}},
        "metadata": {"dspex": "mark-1"},
        "seed": 5,
        "suffix": "birds",
    }
    assert isinstance(WIRE, TrainingWire)


def test_names_of_the_provider_stay_inside_their_part_of_an_address() -> None:
    assert WIRE.look("../files?x").path == "/fine_tuning/jobs/..%2Ffiles%3Fx"


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, AuthFailed), (400, RequestRejected), (429, RateLimited), (503, ServerFailed), (200, ResponseInvalid)],
)
def test_refusals_are_the_errors_of_every_other_call(status: int, error: type[LMError]) -> None:
    body = json.dumps({"error": {"message": "no", "type": "x", "code": None}}).encode()
    with pytest.raises(error):
        WIRE.read_job(status, {}, body)


def test_what_cannot_be_json_is_refused_before_it_is_sent() -> None:
    for bad in (float("nan"), {1, 2}, "\ud800"):
        with pytest.raises(RequestRejected, match="nothing was sent"):
            WIRE.upload("a.jsonl", [{"a": bad}])


def test_a_job_is_read() -> None:
    told = {
        "id": "ftjob-1",
        "status": "succeeded",
        "fine_tuned_model": "ft:m:org:s:1",
        "trained_tokens": 70,
        "metadata": {"dspex": "mark"},
        "error": {"code": None, "message": None, "param": None},
    }
    found = WIRE.read_job(200, {}, json.dumps(told).encode())
    failed = WIRE.read_job(
        200, {}, json.dumps({"id": "1", "status": "failed", "error": {"message": "bad\x1b[2J"}}).encode()
    )

    assert (found.id, found.status, found.model, found.trained_tokens, found.mark) == (
        *("ftjob-1", "succeeded", "ft:m:org:s:1"),
        *(70, "mark"),
    )
    assert (failed.status, failed.told) == ("failed", "bad\\x1b[2J")
    assert WIRE.read_job(200, {}, b'{"id": "1", "status": "paused"}').status == "under way"
    with pytest.raises(ResponseInvalid, match="fine_tuned_model"):
        WIRE.read_job(200, {}, b'{"id": "1", "status": "succeeded"}')
