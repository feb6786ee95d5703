"""Answers recorded from a server and played without it: no key, no socket, no secret in the file."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

import dspex
from dspex.protocols.scope import Delta
from dspex.simulator import Simulator
from dspex.testing import Cassette, cassette
from tests.support.programs import Ask

CANARY = "sk-canary-0123456789abcdef"
OPENAI = "https://api.openai.com/v1/chat/completions"


class Provider(httpx.AsyncBaseTransport):
    """A provider of OpenAI's protocol that never saw a socket."""

    def __init__(self, answer: Callable[[int], httpx.Response] | None = None) -> None:
        self.calls = 0
        self._answer = answer or (lambda number: said(f"answer {number}"))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.calls += 1
        assert request.headers["authorization"] == f"Bearer {CANARY}"
        return self._answer(self.calls)


def said(text: str, **headers: str) -> httpx.Response:
    message = {"role": "assistant", "content": text}
    body = {"choices": [{"message": message, "finish_reason": "stop"}], "usage": {"prompt_tokens": 3}, "model": "m"}
    return httpx.Response(200, json=body, headers={"x-request-id": "r1", **headers})


def lm(key: str | None = CANARY) -> dspex.LM:
    return dspex.LM("openai/gpt-x", api_key=key)


async def ask(tape: Cassette, *questions: str, key: str | None = CANARY) -> list[str]:
    async with dspex.App(lm(key), transport=tape, cache=None) as app:
        return [(await app.run(Ask(), question=each)).answer for each in questions]


@pytest.fixture(autouse=True)
def no_key_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


async def test_answers_are_played_without_a_key_in_the_order_they_came(tmp_path: Path) -> None:
    """The same question twice has two answers, and the third is not there."""
    file = tmp_path / "tapes" / "a.jsonl"
    assert await ask(cassette(file, through=Provider()), "Who?", "Why?", "Who?") == ["answer 1", "answer 2", "answer 3"]

    tape = cassette(file)
    assert await ask(tape, "Why?", "Who?", "Who?", key=None) == ["answer 2", "answer 1", "answer 3"]
    assert (tape.played, tape.recorded) == (3, 0)
    with pytest.raises(dspex.CassetteMiss, match="number 3 of its kind") as caught:
        await ask(tape, "Who?", key=None)
    assert (caught.value.file, caught.value.number) == (str(file), 3)


async def test_what_is_recorded_is_not_sent_again(tmp_path: Path) -> None:
    """A key at hand costs nothing where the answer is there; what is new is added."""
    file, provider = tmp_path / "a.jsonl", Provider()
    await ask(cassette(file, through=provider), "Who?")
    assert await ask(cassette(file, through=provider), "Who?", "Why?") == ["answer 1", "answer 2"]
    assert provider.calls == 2


async def test_strict_never_sends(tmp_path: Path) -> None:
    """In CI a changed prompt is a failed test, whatever keys are around; the message names file and request."""
    provider = Provider()
    with pytest.raises(dspex.CassetteMiss, match=r"a\.jsonl has no answer .*Why is it.*strict=True never records"):
        await ask(cassette(tmp_path / "a.jsonl", strict=True, through=provider), "Why is it?")
    assert provider.calls == 0


async def test_no_secret_reaches_the_file(tmp_path: Path) -> None:
    """Not from the request's headers, nor where the provider repeats the key, nor where the program does."""
    file = tmp_path / "a.jsonl"
    provider = Provider(lambda number: said(f"your key is {CANARY}", **{"set-cookie": CANARY, "x-request-id": CANARY}))
    answers = await ask(cassette(file, through=provider), f"Is {CANARY} a key?")

    assert answers == ["your key is [key]"]
    text = file.read_text()
    assert CANARY not in text
    assert "your key is [key]" in text
    assert set(json.loads(text.splitlines()[1])["headers"]) == {"content-type", "x-request-id"}


async def test_key_across_the_pieces_of_a_stream_does_not_reach_the_file(tmp_path: Path) -> None:
    """Then the stream is kept as one piece."""

    async def pieces() -> AsyncIterator[bytes]:
        for each in (f'data: {{"choices":[{{"delta":{{"content":"{CANARY[:9]}', f'{CANARY[9:]}"}}}}]}}\n\n'):
            yield each.encode()

    file = tmp_path / "a.jsonl"
    head = {"content-type": "text/event-stream"}
    tape = cassette(file, through=Provider(lambda number: httpx.Response(200, headers=head, content=pieces())))
    request = httpx.Request("POST", OPENAI, headers={"authorization": f"Bearer {CANARY}"}, content=b"{}")
    response = await tape.handle_async_request(request)
    assert CANARY.encode() in await response.aread()
    assert len(json.loads(file.read_text().splitlines()[1])["answer"]) == 1
    assert CANARY[9:] not in file.read_text()


async def test_file_does_not_depend_on_the_order_of_the_calls(tmp_path: Path) -> None:
    """Recording again shows in a diff what has changed, and nothing else."""
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    same = Provider(lambda number: said("Ada"))
    await ask(cassette(one, through=same), "Who?", "Why?", "How?")
    await ask(cassette(two, through=same), "How?", "Who?", "Why?")
    assert one.read_bytes() == two.read_bytes()


async def test_failures_that_pass_are_handed_on_and_not_recorded(tmp_path: Path) -> None:
    """A recorded rate limit would make every play wait."""

    def answer(number: int) -> httpx.Response:
        busy = httpx.Response(429, json={"error": {"message": "slow"}}, headers={"retry-after": "0"})
        return busy if number == 1 else said("Ada")

    file = tmp_path / "a.jsonl"
    assert await ask(cassette(file, through=Provider(answer)), "Who?") == ["Ada"]
    assert await ask(cassette(file, strict=True), "Who?") == ["Ada"]
    refused = Provider(lambda number: httpx.Response(401, json={"error": {"message": f"bad key {CANARY[:6]}…"}}))
    with pytest.raises(dspex.AuthFailed):
        await ask(cassette(file, through=refused), "Why?")
    assert len(file.read_text().splitlines()) == 2


async def test_refusal_of_the_request_is_recorded(tmp_path: Path) -> None:
    """A prompt that is too long is too long tomorrow."""
    file = tmp_path / "a.jsonl"
    error = {"error": {"message": "too long", "code": "context_length_exceeded"}}
    for through in (Provider(lambda number: httpx.Response(400, json=error)), None):
        tape = cassette(file, strict=through is None, through=through)
        with pytest.raises(dspex.ContextTooLong):
            await ask(tape, "Who?")
    assert len(file.read_text().splitlines()) == 2


async def test_stream_is_played_in_its_pieces_from_a_real_socket(tmp_path: Path) -> None:
    """Recorded from a server at one port, played when there is none."""
    file = tmp_path / "a.jsonl"
    question = "What is ünïcode 🦋 good for in a long answer of many words?"

    async def read(model: dspex.LM) -> list[str]:
        app = dspex.App(model, transport=cassette(file), cache=None)
        async with app, app.stream(Ask(), question=question) as stream:
            pieces = [each.text async for each in stream if isinstance(each, Delta)]
            answer = (await stream.result()).answer
        assert "".join(pieces).strip() == answer
        return [answer, *pieces]

    async with Simulator() as simulator:
        recorded = await read(dspex.LM("openai/rules-1", api_base=simulator.url, api_key="none"))
    played = await read(dspex.LM("openai/rules-1", api_base="http://127.0.0.1:9/v1"))

    assert played == recorded
    assert len(played) > 3
    assert len(json.loads(file.read_text().splitlines()[1])["answer"]) > 3


async def test_stream_that_is_left_early_is_not_recorded(tmp_path: Path) -> None:
    """Half an answer would be played as a whole one."""
    file = tmp_path / "a.jsonl"
    async with Simulator() as simulator:
        model = dspex.LM("openai/rules-1", api_base=simulator.url, api_key="none")
        tape = cassette(file)
        async with dspex.App(model, transport=tape, cache=None) as app:
            async with app.stream(Ask(), question="one two three four five six seven " * 200) as stream:
                await anext(stream)
            assert not file.exists()
            await app.run(Ask(), question="one two three")
    assert (tape.recorded, len(file.read_text().splitlines())) == (1, 2)


async def test_calls_at_the_same_time_each_keep_their_answer(tmp_path: Path) -> None:
    """Recording and playing under load."""
    file = tmp_path / "a.jsonl"
    questions = [{"question": f"Who wrote number {number % 10}?"} for number in range(30)]
    for _ in range(2):
        tape = cassette(file, through=Provider(lambda number: said("Ada")))
        async with dspex.App(lm(), transport=tape, cache=None) as app, app.map(Ask(), questions) as results:
            assert [result.value.answer async for result in results if isinstance(result, dspex.Ok)] == ["Ada"] * 30
    assert (tape.played, tape.recorded) == (30, 0)


SAID = "Ada"
ANTHROPIC = {"type": "message", "content": [{"type": "text", "text": SAID}], "stop_reason": "end_turn", "model": "m"}
GEMINI = {"candidates": [{"content": {"parts": [{"text": SAID}]}, "finishReason": "STOP"}]}


@pytest.mark.parametrize(
    ("model", "header", "answer"),
    [("anthropic/m", "x-api-key", ANTHROPIC), ("gemini/m", "x-goog-api-key", GEMINI)],
)
async def test_keys_in_other_headers(
    model: str, header: str, answer: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every provider of a protocol of its own is recorded with its key, and played without."""
    for name in ("ANTHROPIC_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.delenv(name, raising=False)

    def provide(request: httpx.Request) -> httpx.Response:
        assert request.headers[header] == CANARY
        return httpx.Response(200, json={**answer, "note": CANARY})

    file = tmp_path / "a.jsonl"
    for key, through in ((CANARY, httpx.MockTransport(provide)), (None, None)):
        tape = cassette(file, strict=key is None, through=through)
        async with dspex.App(dspex.LM(model, api_key=key), transport=tape, cache=None) as app:
            assert (await app.run(Ask(), question="Who?")).answer == "Ada"
    assert CANARY not in file.read_text()


async def test_other_bodies_and_networks_that_fail(tmp_path: Path) -> None:
    """Bytes that are not text survive; a network that fails leaves nothing."""
    file = tmp_path / "a.jsonl"
    request = httpx.Request("POST", OPENAI, headers={"authorization": f"Bearer {CANARY}"}, content=b"\xff\xfe")

    def refuse(number: int) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with pytest.raises(httpx.ConnectError):
        await cassette(file, through=Provider(refuse)).handle_async_request(request)
    with pytest.raises(httpx.ConnectError):
        away = httpx.Request("POST", "http://127.0.0.1:9/", headers={"api-key": CANARY})
        await cassette(file).handle_async_request(away)
    assert not file.exists()
    raw = b"\x00\xff" * 9
    first = await cassette(
        file, through=Provider(lambda number: httpx.Response(200, content=raw))
    ).handle_async_request(request)
    assert await first.aread() == raw
    again = await cassette(file, strict=True).handle_async_request(request)
    assert (again.status_code, await again.aread()) == (200, raw)


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[1]", '{"dspex_cassette": 2}', '{"dspex_cassette": 1}\n{"request": 1}', "no json"],
)
def test_file_that_is_no_cassette_is_refused(tmp_path: Path, text: str) -> None:
    """With its name, when the App is made and not in the middle of a test."""
    file = tmp_path / "a.jsonl"
    file.write_text(text)
    with pytest.raises(dspex.ConfigError, match=r"a\.jsonl"):
        cassette(file)


async def test_app_without_a_cassette_still_wants_a_key() -> None:
    """Only a transport that says so does without."""
    async with dspex.App(lm(None)) as app:
        with pytest.raises(dspex.AuthFailed, match="OPENAI_API_KEY"):
            await app.run(Ask(), question="Who?")
