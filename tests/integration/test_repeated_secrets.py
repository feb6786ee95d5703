"""A key that a server repeats, and what else a server may say that is not fit for a terminal."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dspex
from dspex.protocols.lm import LMDelta
from dspex.protocols.printable import printable
from dspex.services.lm.redact import REDACTED, DeltaRedactor, Redactor
from dspex.testing import cassette
from tests.support.transports import Server, serving

KEY = "sk-very/secret+0123456789abcdef"
ASK = dspex.Predict("question -> answer", adapter="chat")
ONE_TRY = dspex.ClientLimits(retry=dspex.RetryPolicy(max_attempts=1))
FORMS: dict[str, Callable[[str], str]] = {
    "plain": lambda key: key,
    "bearer": lambda key: f"Authorization: Bearer {key}",
    "address": lambda key: f"https://x.org/?key={quote(key, safe='')}&x",
    "small address": lambda key: quote(key, safe="").replace("%2F", "%2f").replace("%2B", "%2b"),
    "base64": lambda key: base64.b64encode(key.encode()).decode(),
    "basic": lambda key: base64.b64encode(f"u:{key}".encode()).decode(),
    "basic of two": lambda key: base64.b64encode(f"us:{key}:x".encode()).decode(),
    "base64 of addresses": lambda key: base64.urlsafe_b64encode(f"Bearer {key}".encode()).decode(),
}
forms = pytest.mark.parametrize("form", FORMS)


def body(text: str) -> bytes:
    message = {"role": "assistant", "content": f"[[ ## answer ## ]]\n{text}\n\n[[ ## completed ## ]]"}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    return json.dumps(
        {"choices": [choice], "model": "m", "usage": {"prompt_tokens": 1, "completion_tokens": 1}}
    ).encode()


def answers(content: bytes, status: int = 200) -> Any:
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n".encode()
    return lambda peer: peer.transport.write(head + content)


def home(server: Server) -> str:
    return server.url.removesuffix("/chat/completions")


def files(folder: Path) -> str:
    return "".join(each.read_bytes().decode("latin1") for each in folder.iterdir())


def holds(key: str, text: str) -> bool:
    """True when any ten characters of the key can be read, as they are or in base64."""
    coded = [base64.b64encode(b"\0" * n + key.encode()).decode()[8:-8] for n in range(3)]
    return any(each[at : at + 10] in text for each in (key, *coded) for at in range(len(each) - 9))


@forms
@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 429, 500])
async def test_errors_do_not_tell_it(form: str, status: int) -> None:
    """Neither message, repr, code nor attempts, and no event."""
    told: list[object] = []
    said = {"error": {"message": "x" * 150 + FORMS[form](KEY), "code": FORMS[form](KEY), "type": "t"}}
    async with serving(answers(json.dumps(said).encode(), status)) as server:
        lm = dspex.LM("openai/m", api_base=home(server), api_key=KEY)
        app = dspex.App(lm, cache=None, limits=ONE_TRY)
        app.telemetry.attach("", lambda *event: told.append(event))
        async with app:
            with pytest.raises(dspex.LMError) as caught:
                await app.run(ASK, question="q")
    error = caught.value
    for text in (str(error), repr(error), repr(error.attempts), repr(vars(error)), repr(told)):
        assert not holds(KEY, text), text


@forms
@pytest.mark.parametrize("stream", [False, True])
async def test_answers_do_not_keep_it(form: str, stream: bool, tmp_path: Path) -> None:
    """Neither the prediction, the cache, a journal nor a cassette."""
    async with serving(answers(body(f"the key is {FORMS[form](KEY)} indeed"))) as server:
        lm = dspex.LM("openai/m", api_base=home(server), api_key=KEY)
        recorder = cassette(tmp_path / "c.jsonl")
        app = dspex.App(lm, cache=tmp_path / "cache.db", transport=recorder)
        async with app:
            if stream:
                async with app.stream(ASK, question="q") as pieces:
                    text = "".join([each.text async for each in pieces if isinstance(each, dspex.Delta)])
                    answer = await pieces.result()
                    assert text == answer.answer
            else:
                answer = await app.run(ASK, question="q")
            async with app.map(ASK, [{"id": 1, "question": "q"}], journal=tmp_path / "rows.db") as rows:
                assert [type(each) async for each in rows] == [dspex.Ok]
            shown = dspex.details(answer).explain() + repr(dspex.details(answer).results)
    assert answer.answer.startswith("the key is ")
    assert answer.answer.endswith(" indeed")
    assert REDACTED in answer.answer
    for text in (answer.answer, shown, files(tmp_path)):
        assert not holds(KEY, text)


async def test_what_json_escapes_is_found() -> None:
    """Any character may stand as its number."""
    escaped = "".join(f"\\u{ord(each):04x}" for each in KEY)
    async with serving(answers(body("PLACE").replace(b"PLACE", escaped.encode()))) as server:
        lm = dspex.LM("openai/m", api_base=home(server), api_key=KEY)
        async with dspex.App(lm, cache=None) as app:
            assert (await app.run(ASK, question="q")).answer == REDACTED


async def test_what_the_server_masked_stays() -> None:
    """It tells the user which key it was."""
    said = {"error": {"message": "Incorrect key: sk-ve***cdef", "code": "x"}}
    async with serving(answers(json.dumps(said).encode(), 400)) as server:
        lm = dspex.LM("openai/m", api_base=home(server), api_key=KEY)
        async with dspex.App(lm, cache=None, limits=ONE_TRY) as app:
            with pytest.raises(dspex.LMError, match=r"sk-ve\*\*\*cdef"):
                await app.run(ASK, question="q")


async def test_credentials_in_headers_are_secrets_and_other_headers_are_words() -> None:
    """A tenant's name may be said."""
    headers = {"x-auth-token": "token-of-the-gateway", "x-tenant": "the-company"}
    async with serving(answers(body("token-of-the-gateway of the-company"))) as server:
        lm = dspex.LM("openai/m", api_base=home(server), api_key="none", headers=headers)
        async with dspex.App(lm, cache=None) as app:
            assert (await app.run(ASK, question="none")).answer == f"{REDACTED} of the-company"


@given(st.lists(st.text("sk-ab1") | st.just("sk-ab1sk-ab1"), max_size=8))
async def test_pieces_of_a_stream_say_what_the_whole_says(pieces: list[str]) -> None:
    """Wherever a secret is cut, and whatever looks like its beginning."""
    redactor = Redactor(["sk-ab1sk-ab1"])
    seen: list[str] = []

    async def take(delta: LMDelta) -> None:
        seen.append(delta.text)

    redacted = DeltaRedactor(redactor, take)
    for each in pieces:
        await redacted.take(LMDelta(text=each))
    await redacted.finish()
    assert "sk-ab1sk-ab1" not in "".join(seen)
    whole = "".join(pieces)
    if "sk-ab1sk-ab1" not in whole:
        assert "".join(seen) == whole


@pytest.mark.parametrize(
    "bad", ["\x1b[2J\x1b]0;title\x07", "line\nFAKE 2026 ok", "\u202eevil", "\x9b31m", "\r", "\u2028", "\x00"]
)
async def test_providers_cannot_write_on_a_terminal(bad: str) -> None:
    """An error's message is one line of visible characters; what explains a call has lines of its own alone."""
    said = {"error": {"message": f"because {bad}", "code": f"c{bad}"}}
    async with serving(answers(json.dumps(said).encode(), 400)) as server:
        lm = dspex.LM("openai/m", api_base=home(server), api_key=KEY)
        async with dspex.App(lm, cache=None, limits=ONE_TRY) as app:
            with pytest.raises(dspex.LMError, match="because") as caught:
                await app.run(ASK, question="q")
    error = caught.value
    for text in (str(error), str(error.code), "".join(str(each) for each in error.attempts)):
        assert text == printable(text)
    async with serving(answers(body(f"a{bad}b"))) as server:
        lm = dspex.LM("openai/m", api_base=home(server), api_key=KEY)
        async with dspex.App(lm, cache=None) as app:
            answer = await app.run(ASK, question="q")
    shown = dspex.details(answer).explain()
    assert shown == printable(shown, keep="\n\t")
    assert answer.answer == f"a{bad}b"


@given(st.text())
def test_printable_text_is_printable(text: str) -> None:
    """Letters of every script stay."""
    found = printable(text)
    assert all(each.isprintable() or each not in text or ord(each) > 0x9F for each in found)
    assert printable(found) == found
    assert printable("naïve 漢字 😀 עברית") == "naïve 漢字 😀 עברית"
