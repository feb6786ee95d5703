"""Large answers are read in a thread: the loop goes on, and the answer is the same."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dspex
from dspex.services.lm.retry import RetryPolicy
from dspex.services.lm.wires._json import LARGE, parse
from tests.support.transports import Answer, say, serving


def completion(text: str, **more: Any) -> Answer:
    choice = {"message": {"content": text}, "finish_reason": "stop"}
    body = json.dumps({"choices": [choice], **more}).encode()
    return say(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def decoding_threads() -> int:
    return sum(each.name.startswith("dspex-decode") for each in threading.enumerate())


async def test_a_large_answer_is_read_in_a_thread_and_a_small_one_is_not() -> None:
    """The thread ends with the App."""
    long = "word " * (LARGE // 5)
    async with serving(completion("short"), completion(long)) as server:
        lm = dspex.LM("openai/m", api_base=server.url.partition("/chat")[0], api_key="k")
        async with dspex.App(lm) as app:
            assert (await app.run(dspex.Predict("question -> answer"), question="1")).answer == "short"
            assert decoding_threads() == 0
            assert (await app.run(dspex.Predict("question -> answer"), question="2")).answer == long.strip()
            assert decoding_threads() == 1
        assert decoding_threads() == 0


@pytest.mark.parametrize("body", [b"[" * LARGE, b"x" * LARGE, b'{"choices": [1' + b" " * LARGE])
async def test_a_large_answer_that_is_not_json_is_the_same_error(body: bytes) -> None:
    """And no crash of the thread."""
    data = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    async with serving(say(data)) as server:
        lm = dspex.LM("openai/m", api_base=server.url.partition("/chat")[0], api_key="k")
        async with dspex.App(lm, limits=dspex.ClientLimits(retry=RetryPolicy(max_attempts=1))) as app:
            with pytest.raises(dspex.ResponseInvalid):
                await app.run(dspex.Predict("question -> answer"), question="1")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(value=JSON)
def test_large_texts_have_the_same_values(value: Any) -> None:
    """Whatever it is, followed by spaces that make it large; types included."""
    text = json.dumps(value)
    large = parse(text + " " * LARGE)

    assert large == parse(text) == value
    assert kinds(large) == kinds(value)


def kinds(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: kinds(each) for key, each in value.items()}
    return [kinds(each) for each in value] if isinstance(value, list) else type(value)
