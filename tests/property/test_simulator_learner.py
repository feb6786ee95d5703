"""The learner is total and pure: every body gets a reply or a typed error, and always the same one."""

import dataclasses
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dspex.simulator.dialects import OpenAIChatDialect
from dspex.simulator.dialects._checks import plain_schema
from dspex.simulator.learner import Body, answer, tokens

_PIECES = st.sampled_from(
    [
        "[[ ## passages ## ]]\n",
        "[[ ## answer ## ]]\n",
        "[[ ## completed ## ]]",
        "[1] json.dumps | Serialize.\n",
        "[2] os.getcwd | Return the Directory.\n",
        '["a | b", "c"]',
        '[{"title": "t", "text": "x"}]',
        "<answer>",
        "</answer>",
        '{"answer": "x"}',
        "`answer` (Literal['a', 'b'])\n",
        "{answer}    (exactly one of: a, b)\n",
        "(left out)",
        "\n\n",
        "12 apples, 1,000.5",
        "Some Words.",
    ]
)
_TEXTS = st.one_of(st.text(max_size=60), st.lists(_PIECES, max_size=8).map("".join))
_LEAVES: list[dict[str, object]] = [{"type": one} for one in ("string", "integer", "number", "boolean", "null")]
_SCHEMAS = st.recursive(
    st.sampled_from([*_LEAVES, {"enum": ["a", 1]}, {"enum": []}]),
    lambda inner: st.one_of(
        st.dictionaries(st.sampled_from("abc"), inner, max_size=3).map(
            lambda one: {"type": "object", "properties": one}
        ),
        inner.map(lambda one: {"type": "array", "items": one}),
        inner.map(lambda one: {"anyOf": [{"type": "null"}, one]}),
    ),
    max_leaves=6,
)
_TOOL = st.builds(lambda name, schema: {"name": name, "parameters": schema}, st.text(min_size=1), _SCHEMAS)
_BODIES = st.builds(
    lambda messages, schema, tools, temperature, seed, n, stop, limit: Body(
        messages=tuple(messages),
        schema=None if schema is None else plain_schema(schema),
        tools=tuple(tools),
        temperature=temperature,
        seed=seed,
        n=n,
        stop=tuple(stop),
        limit=limit,
    ),
    st.lists(st.tuples(st.sampled_from(["system", "user", "assistant", "tool"]), _TEXTS), min_size=1, max_size=7),
    st.none() | _SCHEMAS,
    st.lists(_TOOL, max_size=2),
    st.floats(0, 2),
    st.none() | st.integers(),
    st.integers(1, 3),
    st.lists(st.text(min_size=1, max_size=3), max_size=2),
    st.none() | st.integers(1, 20),
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_MEMBERS = st.sampled_from(
    ["model", "messages", "tools", "tool_choice", "response_format", "temperature", "seed", "n", "stop", "stream"]
)


@given(_BODIES)
def test_every_body_gets_a_reply_and_always_the_same(body: Body) -> None:
    """No prompt breaks the learner, a probability is one, and a limit is kept."""
    for index in range(body.n):
        reply = answer(body, index)

        assert reply == answer(body, index)
        assert 0 < reply.p <= 1
        assert reply.tokens == tokens(reply.text)
        assert body.limit is None or reply.tokens <= body.limit
        assert (reply.finish == "tool_calls") <= (reply.tool is not None)


@given(_BODIES, _SCHEMAS)
def test_a_reply_to_a_schema_is_an_object(body: Body, schema: dict[str, object]) -> None:
    """With a schema the reply parses as JSON, whatever the prompt was."""
    asked = dataclasses.replace(body, schema=plain_schema(schema), tools=(), stop=(), limit=None)

    assert isinstance(json.loads(answer(asked, 0).text), dict)


@given(st.binary(max_size=80) | _JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_get_an_answer_in_the_provider_s_form(body: bytes) -> None:
    """An invalid request is refused, with an error that says why."""
    response = OpenAIChatDialect().respond("/v1/chat/completions", body)

    assert response.status == 400
    assert json.loads(response.parts[0])["error"]["message"]


@given(st.dictionaries(_MEMBERS, _JSON, max_size=4), _TEXTS)
def test_any_member_is_taken_or_refused(members: dict[str, Any], text: str) -> None:
    """A valid body with any value in any member is answered or refused, never neither."""
    body = {"model": "m", "messages": [{"role": "user", "content": text}], **members}

    assert OpenAIChatDialect().respond("/v1/chat/completions", json.dumps(body).encode()).status in (200, 400)


@given(_TEXTS, st.booleans())
def test_a_stream_and_a_whole_reply_say_the_same(text: str, tagged: bool) -> None:
    """Streaming is a matter of the dialect: what is said does not depend on it."""
    body: dict[str, object] = {"model": "m", "messages": [{"role": "user", "content": text}]}
    path = "/v1/chat/completions"
    whole = json.loads(OpenAIChatDialect().respond(path, json.dumps(body).encode()).parts[0])
    parts = OpenAIChatDialect().respond(path, json.dumps({**body, "stream": True}).encode()).parts
    events = [json.loads(part.decode().removeprefix("data: ")) for part in parts[:-1]]

    said = "".join(event["choices"][0]["delta"].get("content") or "" for event in events)
    assert said == whole["choices"][0]["message"]["content"]
