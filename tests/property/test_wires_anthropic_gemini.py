"""The wires of Anthropic and Gemini: any split of a stream, any bytes, any request, and turns that go back."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.errors import LMError, RequestRejected
from dspex.protocols.content import (
    AudioPart,
    FilePart,
    ImagePart,
    MediaPart,
    Part,
    ReasoningPart,
    TextPart,
    ToolCall,
    ToolResult,
)
from dspex.protocols.lm import JsonObject, JsonSchema, LMDelta, LMRequest, LMResponse, Message, ToolSpec
from dspex.protocols.model import LMParams
from dspex.protocols.wire import Wire
from dspex.services.lm.wires.anthropic.wire import Anthropic
from dspex.services.lm.wires.gemini.wire import Gemini
from tests.support import anthropic_answers, gemini_answers

WIRES: dict[str, Wire] = {"anthropic": Anthropic(), "gemini": Gemini()}
MODELS = {"anthropic": "claude-sonnet-4-5", "gemini": "gemini-2.5-flash"}
both = pytest.mark.parametrize("name", WIRES)

texts = st.text(st.characters(codec="utf-8"), max_size=8)
some_text = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
arguments = st.dictionaries(texts, values, max_size=3)
counts = st.integers(0, 10**6)
Cut = Callable[[str], list[str]]
"""How a text comes in pieces."""


@st.composite
def cuts(draw: st.DrawFn) -> Cut:
    """Draw a way to cut texts, the same for all of one example."""
    widths = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))

    def cut(text: str) -> list[str]:
        pieces: list[str] = []
        while text:
            width = widths[len(pieces) % len(widths)]
            pieces.append(text[:width])
            text = text[width:]
        return pieces

    return cut


def split(data: bytes, places: list[int]) -> list[bytes]:
    bounds = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[one:two] for one, two in itertools.pairwise(bounds)]


def outcome(act: Callable[[], object]) -> object:
    """Return what came of it: the value, or the kind and words of the typed error; others are failures."""
    try:
        return act()
    except LMError as error:
        return type(error), str(error)


def streamed(wire: Wire, pieces: list[bytes]) -> tuple[list[LMDelta], LMResponse]:
    decoder = wire.decoder({})
    deltas = [delta for piece in pieces for delta in decoder.feed(piece)]
    return deltas, decoder.finish()


def unstreamed(wire: Wire, document: object) -> LMResponse:
    return wire.decode(200, {}, json.dumps(document).encode())


# --- answers, whole and as streams --------------------------------------------------------------------------

thinking = st.builds(lambda t, s: {"type": "thinking", "thinking": t, "signature": s}, texts, texts)
redacted = st.builds(lambda d: {"type": "redacted_thinking", "data": d}, some_text)
searches = st.builds(lambda i: {"type": "server_tool_use", "id": "s", "name": "web_search", "input": i}, arguments)
said = st.builds(lambda t: {"type": "text", "text": t}, some_text)
calls = st.builds(lambda n, i: {"type": "tool_use", "id": f"t{n}", "name": n, "input": i}, some_text, arguments)


@st.composite
def messages(draw: st.DrawFn) -> dict[str, Any]:
    """Draw an answer of Anthropic's: thoughts and searches anywhere, then a text, then calls."""
    content: list[dict[str, Any]] = []
    for _ in range(draw(st.integers(0, 3))):
        content.append(draw(thinking | redacted | searches))
        content += draw(st.lists(said, max_size=1)) + draw(st.lists(calls, max_size=2))
    reason = draw(st.sampled_from(["end_turn", "max_tokens", "tool_use", "pause_turn", "refusal"]))
    usage = {"input_tokens": draw(counts), "output_tokens": draw(counts), "cache_read_input_tokens": draw(counts)}
    return anthropic_answers.answer(*content, stop_reason=reason, usage=usage)


def anthropic_events(document: dict[str, Any], cut: Cut) -> bytes:
    block, start = anthropic_answers.block, anthropic_answers.start
    events = [start(**document["usage"]), {"type": "ping"}]
    for index, each in enumerate(document["content"]):
        kind = each["type"]
        if kind == "text":
            deltas = [{"type": "text_delta", "text": piece} for piece in cut(each["text"])]
            events += block(index, {**each, "text": ""}, deltas)
        elif kind == "thinking":
            deltas = [{"type": "thinking_delta", "thinking": piece} for piece in cut(each["thinking"])]
            deltas.append({"type": "signature_delta", "signature": each["signature"]})
            events += block(index, {"type": "thinking", "thinking": "", "signature": ""}, deltas)
        elif "input" in each:
            pieces = cut(json.dumps(each["input"]))
            events += block(
                index, {**each, "input": {}}, [{"type": "input_json_delta", "partial_json": each} for each in pieces]
            )
        else:
            events += block(index, each, [])
    return anthropic_answers.stream(*events, *anthropic_answers.end(document["stop_reason"], **document["usage"]))


@st.composite
def candidates(draw: st.DrawFn) -> dict[str, Any]:
    """Draw an answer of Gemini's: thoughts, signatures and code anywhere, then a text, then calls."""
    signature = st.lists(some_text, max_size=1).map(lambda found: {"thoughtSignature": found[0]} if found else {})
    thought = st.builds(lambda t, s: {"text": t, "thought": True, **s}, some_text, signature)
    code = st.builds(lambda t: {"executableCode": {"code": t}}, some_text)
    call = st.builds(lambda n, a, s: {"functionCall": {"name": n, "args": a}, **s}, some_text, arguments, signature)
    signed = st.builds(lambda t, s: {"text": t, "thoughtSignature": s}, some_text, some_text)
    parts: list[dict[str, Any]] = []
    for number in range(draw(st.integers(0, 3))):
        if number % 2 == 0:
            parts.append(draw(thought))
        else:
            parts.append(draw(code))
        parts += draw(st.lists(signed, max_size=1)) + draw(st.lists(call, max_size=2))
    if draw(st.booleans()):
        parts = [{"text": draw(some_text)}, *parts] if parts and "executableCode" in parts[0] else parts
    reason = draw(st.sampled_from(["STOP", "MAX_TOKENS", "SAFETY", "OTHER"]))
    usage = {"promptTokenCount": draw(counts), "candidatesTokenCount": draw(counts), "thoughtsTokenCount": draw(counts)}
    return gemini_answers.answer(*parts, finish=reason, usageMetadata=usage)


def gemini_events(document: dict[str, Any], cut: Cut) -> bytes:
    (candidate,) = document["candidates"]
    events: list[dict[str, Any]] = []
    for part in candidate["content"]["parts"]:
        pieces = cut(part["text"]) if "text" in part else [""]
        for piece in pieces[:-1]:
            rest = {"thought": True} if part.get("thought") else {}
            events.append(gemini_answers.piece({"text": piece, **rest}))
        events.append(gemini_answers.piece({**part, "text": pieces[-1]} if "text" in part else part))
    last = gemini_answers.piece(finish=candidate["finishReason"], usageMetadata=document["usageMetadata"])
    return gemini_answers.stream(*events, last)


DOCUMENTS = {"anthropic": messages(), "gemini": candidates()}
EVENTS = {"anthropic": anthropic_events, "gemini": gemini_events}
documents_of = st.sampled_from(sorted(WIRES)).flatmap(lambda name: st.tuples(st.just(name), DOCUMENTS[name]))


@given(documents_of, cuts(), st.lists(st.integers(0, 10**5), max_size=8))
def test_a_stream_says_what_the_whole_answer_says(
    found: tuple[str, dict[str, Any]], cut: Cut, places: list[int]
) -> None:
    """However the model's words and the connection's bytes are cut."""
    name, document = found
    wire, data = WIRES[name], EVENTS[name](document, cut)
    whole = outcome(lambda: unstreamed(wire, document))
    assert outcome(lambda: streamed(wire, split(data, places))[1]) == whole
    if not isinstance(whole, LMResponse):
        return

    deltas, _ = streamed(wire, split(data, places))
    (completion,) = whole.completions
    assert "".join(delta.text for delta in deltas) == completion.text
    assert "".join(delta.reasoning for delta in deltas) == "".join(part.text for part in completion.reasoning)
    for place, call in enumerate(completion.tool_calls):
        pieces = [delta for delta in deltas if delta.tool == place]
        assert json.loads("".join(delta.arguments for delta in pieces)) == call.arguments
        assert [delta.tool_name for delta in pieces if delta.tool_name] == [call.name]


@given(documents_of, cuts(), st.integers(0, 10**5))
def test_a_stream_cut_off_is_an_error_or_the_whole_answer(
    found: tuple[str, dict[str, Any]], cut: Cut, place: int
) -> None:
    """Half an answer never passes for one."""
    name, document = found
    wire, data = WIRES[name], EVENTS[name](document, cut)
    kept = data[: place % (len(data) + 1)]
    result = outcome(lambda: streamed(wire, [kept])[1])

    assert not isinstance(result, LMResponse) or result.completions == unstreamed(wire, document).completions


@given(messages())
def test_an_anthropic_turn_goes_back_as_it_came(document: dict[str, Any]) -> None:
    """Every block at its place, thoughts with their signatures."""
    content = document["content"]
    result = outcome(lambda: unstreamed(WIRES["anthropic"], document))
    if isinstance(result, LMResponse):
        (completion,) = result.completions
        asked = LMRequest((Message("user", "?"), completion.turn()))
        sent = json.loads(WIRES["anthropic"].encode(MODELS["anthropic"], asked))["messages"]
        back = sent[1]["content"] if len(sent) > 1 else []
        assert back == content


@given(candidates())
def test_a_gemini_turn_goes_back_as_it_came(document: dict[str, Any]) -> None:
    """Every part at its place, with its signature."""
    parts = document["candidates"][0]["content"]["parts"]
    result = outcome(lambda: unstreamed(WIRES["gemini"], document))
    if isinstance(result, LMResponse):
        (completion,) = result.completions
        asked = LMRequest((Message("user", "?"), completion.turn()))
        sent = json.loads(WIRES["gemini"].encode(MODELS["gemini"], asked))["contents"]
        assert (sent[1]["parts"] if len(sent) > 1 else []) == parts


# --- anything at all ----------------------------------------------------------------------------------------


@st.composite
def spoiled(draw: st.DrawFn) -> tuple[str, Any]:
    """Draw a golden answer or event in which some values are something else."""
    name = draw(st.sampled_from(sorted(WIRES)))
    golden = {
        "anthropic": [anthropic_answers.RICH, *anthropic_answers.RICH_STREAM, anthropic_answers.problem("api_error")],
        "gemini": [gemini_answers.RICH, *gemini_answers.RICH_STREAM, gemini_answers.problem(429, "X", {"reason": "Y"})],
    }[name]
    document = json.loads(json.dumps(draw(st.sampled_from(golden))))
    for _ in range(draw(st.integers(1, 3))):
        spot = document
        while True:
            keys = list(spot) if isinstance(spot, dict) else list(range(len(spot)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(spot[key], (dict, list)) and draw(st.booleans()):
                spot = spot[key]
                continue
            spot[key] = draw(values)
            break
    return name, document


def check_answer(name: str, body: bytes, status: int) -> None:
    result = outcome(lambda: WIRES[name].decode(status, {}, body))
    assert isinstance(result, (LMResponse, tuple))
    if status >= 300:
        assert isinstance(result, tuple)


statuses = st.sampled_from([200, 200, 201, 302, 400, 401, 404, 429, 500, 529])


@given(spoiled(), statuses)
def test_a_spoiled_answer_is_read_or_a_typed_error(found: tuple[str, Any], status: int) -> None:
    """Whole, and as every event of a stream."""
    name, document = found
    check_answer(name, json.dumps(document).encode(), status)

    golden = anthropic_answers.RICH_STREAM if name == "anthropic" else gemini_answers.RICH_STREAM
    rendered = [f"data: {json.dumps(each)}\n\n".encode() for each in golden]
    for place in (1, len(rendered) // 2, len(rendered) - 1):
        events = [*rendered[:place], f"data: {json.dumps(document)}\n\n".encode(), *rendered[place:]]
        assert isinstance(outcome(lambda events=events: streamed(WIRES[name], events)[1]), (LMResponse, tuple))  # type: ignore[misc]  # a default argument has no type


@both
@given(body=st.binary(max_size=60) | values.map(lambda value: json.dumps(value).encode()), status=statuses)
def test_any_bytes_are_read_or_a_typed_error(name: str, body: bytes, status: int) -> None:
    """A wire never fails in another way."""
    check_answer(name, body, status)
    lines = b"data: " + body + b"\n\n"
    for data in (body, lines):
        assert isinstance(outcome(lambda data=data: streamed(WIRES[name], [data])[1]), (LMResponse, tuple))  # type: ignore[misc]  # a default argument has no type


@both
@pytest.mark.parametrize("depth", [400, 900, 1500, 100_000])
def test_nesting_without_end_is_a_typed_error(name: str, depth: int) -> None:
    """Neither reading nor writing it again overflows."""
    call = {"type": "tool_use", "functionCall": {"args": None}, "input": None}
    document = {"content": [call], "candidates": [{"content": {"parts": [call]}}]}
    nested = json.dumps(document).replace("null", "[" * depth + "]" * depth).encode()
    check_answer(name, nested, 200)
    assert isinstance(outcome(lambda: streamed(WIRES[name], [b"data: " + nested + b"\n\n"])), (LMResponse, tuple))


broken_text = st.text(max_size=6)  # lone surrogates too
kinds = st.sampled_from(["", "image/png", "application/pdf", "text/plain", "audio/wav", "x"])
addresses = st.sampled_from(["https://example.com/a", "data:image/png;base64,eA==", "data:,x", "data:;base64,%%", "x"])
json_like = st.dictionaries(broken_text, values | st.floats(), max_size=2)


def media(kind: type[MediaPart]) -> st.SearchStrategy[MediaPart]:
    return st.builds(lambda t, d: kind(t, data=d), kinds, st.binary(max_size=5)) | st.builds(
        lambda t, u: kind(t, url=u), kinds, addresses
    )


pictures: st.SearchStrategy[Any] = media(ImagePart) | media(FilePart)
notes = st.dictionaries(
    st.sampled_from(["block", "part", "thought", "thoughtSignature", "at", "x"]), values | json_like
)
parts: st.SearchStrategy[Part] = st.one_of(
    st.builds(TextPart, broken_text),
    pictures,
    st.builds(ReasoningPart, broken_text, st.sampled_from(["", "anthropic", "gemini"]), notes),
    st.builds(ToolCall, broken_text, broken_text, st.none() | json_like, broken_text, json_like | notes),
    st.builds(
        ToolResult,
        broken_text,
        broken_text,
        broken_text | st.lists(st.builds(TextPart, broken_text) | pictures, max_size=2).map(tuple),
        st.booleans(),
    ),
    media(AudioPart),
)
turns = st.builds(
    Message,
    st.sampled_from(["system", "user", "assistant", "tool"]),
    broken_text | st.lists(parts, max_size=3).map(tuple),
    st.sampled_from([None, None, "5m", "1h"]),
)
params = st.builds(
    LMParams,
    temperature=st.none() | st.floats(),
    max_tokens=st.none() | st.integers(),
    top_p=st.none() | st.floats(),
    stop=st.lists(broken_text, max_size=2).map(tuple),
    n=st.sampled_from([1, 1, 2]),
    seed=st.none() | st.integers(),
    reasoning=st.sampled_from([None, None, "none", "minimal", "high", "4096", "9" * 30, "²", "x"]),
    logprobs=st.sampled_from([None, None, 0, 3]),
    parallel_tool_calls=st.none() | st.booleans(),
    extra_body=st.dictionaries(
        st.sampled_from(["tools", "generationConfig", "output_config", "x"]), values | json_like
    ),
)
tools = st.builds(ToolSpec, broken_text, broken_text, json_like)
requests = st.builds(
    LMRequest,
    st.lists(turns, max_size=4).map(tuple),
    params,
    st.lists(tools, max_size=2).map(tuple),
    st.sampled_from(["auto", "none", "required", "x"]),
    st.none() | st.just(JsonObject()) | st.builds(JsonSchema, broken_text, json_like),
)
names = st.sampled_from(
    [
        "claude-sonnet-4-5",
        "claude-opus-5",
        "claude-3-haiku",
        "gemini-3-pro",
        "gemini-2.5-pro",
        "gemini-1.5-pro",
        "x",
        "",
    ]
)


@both
@given(asked=requests, model=names, stream=st.booleans())
def test_any_request_is_written_or_rejected(name: str, asked: LMRequest, model: str, stream: bool) -> None:
    """The written body is JSON; a value that cannot be is refused before anything is sent."""
    wire = WIRES[name]
    assert wire.path(model, stream=stream).startswith("/")
    try:
        body = wire.encode(model, asked, stream=stream)
    except RequestRejected:
        return

    assert isinstance(json.loads(body), dict)
