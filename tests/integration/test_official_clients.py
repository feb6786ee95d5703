"""The providers' own clients take the simulator for the provider: answers, streams, tools, schemas, vectors, errors."""

import asyncio
import importlib
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from pydantic import BaseModel

from dspex.simulator import Fault, FaultKind, FaultPlan, Limits, Simulator

_SCHEMA = {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]}
_TEXT = "one two three"
_COLD = {"temperature": 0}  # Anthropic's client has no name for it, its protocol has


class Birds(BaseModel):
    """The schema of structured output."""

    color: str
    count: int


@pytest.fixture(scope="module")
def sdk() -> SimpleNamespace:
    """The clients' packages, which are slow to import, and only in this file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs, at import
        genai = importlib.import_module("google.genai")
        return SimpleNamespace(
            openai=importlib.import_module("openai"),
            anthropic=importlib.import_module("anthropic"),
            genai=genai,
            types=importlib.import_module("google.genai.types"),
            gemini_errors=importlib.import_module("google.genai.errors"),
        )


@pytest_asyncio.fixture
async def sim() -> AsyncIterator[Simulator]:
    """A simulator without faults."""
    async with Simulator(key="key") as running:
        yield running


@pytest_asyncio.fixture
async def openai(sdk: SimpleNamespace, sim: Simulator) -> AsyncIterator[Any]:
    """OpenAI's client, which does not retry."""
    async with sdk.openai.AsyncOpenAI(base_url=sim.urls["openai"], api_key="key", max_retries=0) as client:
        yield client


@pytest_asyncio.fixture
async def anthropic(sdk: SimpleNamespace, sim: Simulator) -> AsyncIterator[Any]:
    """Anthropic's client, which does not retry."""
    async with sdk.anthropic.AsyncAnthropic(base_url=sim.urls["anthropic"], api_key="key", max_retries=0) as client:
        yield client


@pytest_asyncio.fixture
async def gemini(sdk: SimpleNamespace, sim: Simulator) -> AsyncIterator[Any]:
    """Google's client, which does not retry."""
    once = sdk.types.HttpRetryOptions(attempts=1)
    options = sdk.types.HttpOptions(base_url=sim.urls["gemini"], retry_options=once)
    client = sdk.genai.Client(api_key="key", http_options=options)
    yield client.aio
    await client.aio.aclose()
    client.close()


def _user(text: str = _TEXT) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


# --- OpenAI, chat ---------------------------------------------------------------------------------------------


async def test_openai_chat_answers_and_streams_the_same(openai: Any) -> None:
    """Text, usage and finish reason; n choices, whole and in pieces."""
    asked = {"model": "m", "messages": _user(), "n": 2, "temperature": 0}
    whole = await openai.chat.completions.create(**asked)
    stream = await openai.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in stream]
    texts = ["", ""]
    for choice in (one for chunk in chunks for one in chunk.choices):
        texts[choice.index] += choice.delta.content or ""

    assert texts == [one.message.content for one in whole.choices] == [_TEXT, _TEXT]
    assert chunks[-1].usage == whole.usage
    assert [one.finish_reason for one in whole.choices] == ["stop", "stop"]
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens


async def test_openai_chat_calls_tools_and_reads_their_results(openai: Any) -> None:
    """A call, whole and accumulated by the client's own stream helper; then its result is the passage."""
    tools = [{"type": "function", "function": {"name": "search", "parameters": _SCHEMA}}]
    asked = {"model": "m", "messages": _user("search cats"), "tools": tools}
    whole = (await openai.chat.completions.create(**asked)).choices[0]
    async with openai.chat.completions.stream(**asked) as stream:
        streamed = (await stream.get_final_completion()).choices[0]
    call = whole.message.tool_calls[0]
    result = {"role": "tool", "tool_call_id": call.id, "content": "Cats | Cats are animals."}
    turns = [*_user("search cats"), whole.message.model_dump(exclude_none=True), result]
    answer = await openai.chat.completions.create(model="m", messages=turns, tools=tools, temperature=0)

    assert (call.function.name, call.function.arguments) == ("search", '{"query": "search cats"}')
    assert streamed.message.tool_calls[0].function.arguments == call.function.arguments
    assert whole.finish_reason == streamed.finish_reason == "tool_calls"
    assert answer.choices[0].message.content == "Cats are animals."


async def test_openai_chat_fills_a_schema(openai: Any) -> None:
    """The client parses the answer into the model it was given."""
    said = await openai.chat.completions.parse(model="m", messages=_user("3 birds"), response_format=Birds)

    assert isinstance(said.choices[0].message.parsed, Birds)


async def test_openai_chat_is_cut_at_its_limit(openai: Any) -> None:
    """A token is four bytes; the finish reason says that it was cut."""
    said = await openai.chat.completions.create(model="m", messages=_user(), max_completion_tokens=1, temperature=0)

    assert (said.choices[0].message.content, said.choices[0].finish_reason) == ("one ", "length")


async def test_openai_chat_takes_pictures_it_does_not_see(openai: Any) -> None:
    """The answer is to the text, and a header counts the parts that were not seen."""
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    content = [{"type": "text", "text": _TEXT}, picture]
    raw = await openai.chat.completions.with_raw_response.create(
        model="m", messages=[{"role": "user", "content": content}], temperature=0
    )

    assert (await _parsed(raw)).choices[0].message.content == _TEXT
    assert raw.headers["x-simulator-unseen"].startswith("1 ")


async def _parsed(raw: Any) -> Any:
    parsed = raw.parse()
    return await parsed if asyncio.iscoroutine(parsed) else parsed


# --- OpenAI, responses, embeddings, models ----------------------------------------------------------------------


async def test_openai_responses_answer_and_stream_the_same(openai: Any) -> None:
    """The stream's events come in the documented order and add up to the whole response."""
    asked = {"model": "m", "input": _TEXT, "instructions": "Answer.", "temperature": 0}
    whole = await openai.responses.create(**asked)
    async with openai.responses.stream(**asked) as stream:
        events = [event async for event in stream]
        streamed = await stream.get_final_response()
    kinds = list(dict.fromkeys(event.type.removeprefix("response.") for event in events))

    assert whole.output_text == streamed.output_text == _TEXT
    assert whole.usage == streamed.usage
    assert whole.status == "completed"
    assert kinds[:4] == ["created", "in_progress", "output_item.added", "content_part.added"]
    assert kinds[4:] == ["output_text.delta", "output_text.done", "content_part.done", "output_item.done", "completed"]
    assert [event.sequence_number for event in events] == list(range(len(events)))


async def test_openai_responses_call_tools_and_read_their_results(openai: Any) -> None:
    """Items go back as they came, with the tool's output after them."""
    tools = [{"type": "function", "name": "search", "parameters": _SCHEMA, "strict": False}]
    asked: dict[str, Any] = {"model": "m", "input": _user("search cats"), "tools": tools, "temperature": 0}
    whole = (await openai.responses.create(**asked)).output[0]
    async with openai.responses.stream(**asked) as stream:
        streamed = (await stream.get_final_response()).output[0]
    result = {"type": "function_call_output", "call_id": whole.call_id, "output": "Cats | Cats are animals."}
    items = [*asked["input"], whole.model_dump(exclude_none=True), result]
    answer = await openai.responses.create(**{**asked, "input": items})

    assert (whole.type, whole.name, whole.arguments) == ("function_call", "search", '{"query": "search cats"}')
    assert (streamed.arguments, streamed.call_id) == (whole.arguments, streamed.id.replace("fc_", "call_"))
    assert answer.output_text == "Cats are animals."


async def test_openai_responses_fill_a_schema_and_end_at_a_limit(openai: Any) -> None:
    """Parsed into a model; and incomplete when the limit cut it."""
    said = await openai.responses.parse(model="m", input="3 birds", text_format=Birds)
    cut = await openai.responses.create(model="m", input=_TEXT, max_output_tokens=1, temperature=0)

    assert isinstance(said.output_parsed, Birds)
    assert (cut.status, cut.incomplete_details.reason, cut.output_text) == ("incomplete", "max_output_tokens", "one ")


async def test_openai_responses_keep_nothing(sdk: SimpleNamespace, openai: Any) -> None:
    """A reference to an earlier response is refused in the provider's words."""
    with pytest.raises(sdk.openai.BadRequestError) as caught:
        await openai.responses.create(model="m", input="x", previous_response_id="resp_1")
    with pytest.raises(sdk.openai.NotFoundError):
        await openai.responses.retrieve("resp_1")

    assert caught.value.code == "previous_response_not_found"


async def test_openai_embeddings_come_in_both_encodings(openai: Any) -> None:
    """The client asks for base64 by itself; similar texts are nearer than others."""
    texts = ["cats chase mice", "a cat chases a mouse", "stock prices fell"]
    packed = await openai.embeddings.create(model="m", input=texts)
    plain = await openai.embeddings.create(model="m", input=texts, encoding_format="float")
    one, like, other = (item.embedding for item in packed.data)

    assert len(one) == 1536
    assert packed.usage == plain.usage
    for left, right in zip(packed.data, plain.data, strict=True):
        assert left.embedding == pytest.approx(right.embedding, abs=1e-6)
    assert _dot(one, like) > 0.5 > abs(_dot(one, other))


def _dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


# --- Anthropic ------------------------------------------------------------------------------------------------


async def test_anthropic_answers_and_streams_the_same(anthropic: Any) -> None:
    """Blocks, stop reason and usage; the client's helper adds the events up."""
    asked = {"model": "m", "max_tokens": 100, "system": "Answer.", "messages": _user(), "extra_body": _COLD}
    whole = await anthropic.messages.create(**asked)
    async with anthropic.messages.stream(**asked) as stream:
        texts = [text async for text in stream.text_stream]
        streamed = await stream.get_final_message()

    assert whole.content[0].text == streamed.content[0].text == "".join(texts) == _TEXT
    assert whole.stop_reason == streamed.stop_reason == "end_turn"
    assert (whole.usage.input_tokens, whole.usage.output_tokens) == (5, 4)
    assert (streamed.usage.input_tokens, streamed.usage.output_tokens) == (5, 4)
    assert len(texts) > 1


async def test_anthropic_calls_tools_and_reads_their_results(anthropic: Any) -> None:
    """The input is an object, in a stream too."""
    tools = [{"name": "search", "input_schema": _SCHEMA}]
    asked: dict[str, Any] = {"model": "m", "max_tokens": 100, "messages": _user("search cats"), "tools": tools}
    whole = await anthropic.messages.create(**asked)
    async with anthropic.messages.stream(**asked) as stream:
        streamed = await stream.get_final_message()
    call = whole.content[0]
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "Cats | Cats are animals."}
    block = call.model_dump(include={"type", "id", "name", "input"})
    turns = [*asked["messages"], {"role": "assistant", "content": [block]}, {"role": "user", "content": [result]}]
    answer = await anthropic.messages.create(**{**asked, "messages": turns, "extra_body": _COLD})

    assert (call.name, call.input) == ("search", {"query": "search cats"})
    assert streamed.content[0].input == call.input
    assert whole.stop_reason == streamed.stop_reason == "tool_use"
    assert answer.content[0].text == "Cats are animals."


async def test_anthropic_fills_a_schema_and_stops(anthropic: Any) -> None:
    """Parsed into a model; stopped by a sequence or by the limit, and it says which."""
    asked: dict[str, Any] = {"model": "m", "max_tokens": 100, "messages": _user(), "extra_body": _COLD}
    parsed = await anthropic.messages.parse(**{**asked, "messages": _user("3 birds")}, output_format=Birds)
    stopped = await anthropic.messages.create(**asked, stop_sequences=[" three", "x"])
    cut = await anthropic.messages.create(**{**asked, "max_tokens": 1})

    assert isinstance(parsed.parsed_output, Birds)
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", " three")
    assert stopped.content[0].text == "one two"
    assert (cut.stop_reason, cut.content[0].text) == ("max_tokens", "one ")


# --- Gemini ---------------------------------------------------------------------------------------------------


async def test_gemini_answers_and_streams_the_same(sdk: SimpleNamespace, gemini: Any) -> None:
    """Text, finish reason and usage; the last piece says that it was the last."""
    config = sdk.types.GenerateContentConfig(system_instruction="Answer.", temperature=0)
    asked = {"model": "m", "contents": _TEXT, "config": config}
    whole = await gemini.models.generate_content(**asked)
    pieces = [piece async for piece in await gemini.models.generate_content_stream(**asked)]

    assert whole.text == "".join(piece.text for piece in pieces) == _TEXT
    assert whole.candidates[0].finish_reason == pieces[-1].candidates[0].finish_reason == "STOP"
    assert whole.usage_metadata == pieces[-1].usage_metadata
    assert whole.usage_metadata.total_token_count == 9


async def test_gemini_calls_functions_and_reads_their_results(sdk: SimpleNamespace, gemini: Any) -> None:
    """Whole and in a stream; then the function's result is the passage."""
    types = sdk.types
    declared = types.FunctionDeclaration(name="search", parameters_json_schema=_SCHEMA)
    config = types.GenerateContentConfig(tools=[types.Tool(function_declarations=[declared])], temperature=0)
    asked: dict[str, Any] = {"model": "m", "contents": "search cats", "config": config}
    whole = await gemini.models.generate_content(**asked)
    pieces = [piece async for piece in await gemini.models.generate_content_stream(**asked)]
    response = types.Part.from_function_response(name="search", response={"result": "Cats | Cats are animals."})
    turns = [
        types.Content(role="user", parts=[types.Part(text="search cats")]),
        whole.candidates[0].content,
        types.Content(role="user", parts=[response]),
    ]
    answer = await gemini.models.generate_content(**{**asked, "contents": turns})

    assert [(call.name, call.args) for call in whole.function_calls] == [("search", {"query": "search cats"})]
    assert [call.args for piece in pieces for call in piece.function_calls or ()] == [{"query": "search cats"}]
    assert answer.text == "Cats are animals."


async def test_gemini_fills_a_schema_counts_and_embeds(sdk: SimpleNamespace, gemini: Any) -> None:
    """Parsed into a model; several candidates; vectors as long as they were asked for."""
    form = {"response_mime_type": "application/json", "response_schema": Birds}
    parsed = await gemini.models.generate_content(model="m", contents="3 birds", config=form)
    several = await gemini.models.generate_content(model="m", contents=_TEXT, config={"candidate_count": 3})
    counted = await gemini.models.count_tokens(model="m", contents=_TEXT)
    embedded = await gemini.models.embed_content(
        model="gemini-embedding-001", contents=["cats", "dogs"], config={"output_dimensionality": 8}
    )

    assert isinstance(parsed.parsed, Birds)
    assert [one.index or 0 for one in several.candidates] == [0, 1, 2]
    assert counted.total_tokens == 4
    assert [len(one.values) for one in embedded.embeddings] == [8, 8]


async def test_each_client_lists_the_models(openai: Any, anthropic: Any, gemini: Any) -> None:
    """Three providers, three forms, at addresses of which two are the same."""
    listed = [
        [one.id async for one in openai.models.list()],
        [one.id async for one in anthropic.models.list()],
        [one.name async for one in await gemini.models.list()],
    ]

    assert listed == [["rules-1"], ["rules-1"], ["models/rules-1", "models/stems-1"]]


# --- errors ---------------------------------------------------------------------------------------------------

_OPENAI = {
    FaultKind.RATE_LIMIT: ("RateLimitError", 429, "rate_limit_exceeded"),
    FaultKind.SLOW_DOWN: ("RateLimitError", 429, "slow_down"),
    FaultKind.QUOTA: ("RateLimitError", 429, "insufficient_quota"),
    FaultKind.BILLING: ("RateLimitError", 429, "credit_balance_exhausted"),
    FaultKind.OVERLOADED: ("InternalServerError", 503, "server_is_overloaded"),
    FaultKind.SERVER_ERROR: ("InternalServerError", 500, None),
    FaultKind.UNAUTHORIZED: ("AuthenticationError", 401, "invalid_api_key"),
    FaultKind.FORBIDDEN: ("PermissionDeniedError", 403, "permission_denied"),
    FaultKind.CONTEXT: ("BadRequestError", 400, "context_length_exceeded"),
}
_ANTHROPIC = {
    FaultKind.RATE_LIMIT: (429, "rate_limit_error"),
    FaultKind.QUOTA: (402, "billing_error"),
    FaultKind.OVERLOADED: (529, "overloaded_error"),
    FaultKind.SERVER_ERROR: (500, "api_error"),
    FaultKind.TIMEOUT: (504, "timeout_error"),
    FaultKind.UNAUTHORIZED: (401, "authentication_error"),
    FaultKind.FORBIDDEN: (403, "permission_error"),
    FaultKind.CONTEXT: (400, "invalid_request_error"),
}
_GEMINI = {
    FaultKind.RATE_LIMIT: (429, "RESOURCE_EXHAUSTED"),
    FaultKind.QUOTA: (429, "RESOURCE_EXHAUSTED"),
    FaultKind.BILLING: (402, "FAILED_PRECONDITION"),
    FaultKind.OVERLOADED: (503, "UNAVAILABLE"),
    FaultKind.SERVER_ERROR: (500, "INTERNAL"),
    FaultKind.TIMEOUT: (504, "DEADLINE_EXCEEDED"),
    FaultKind.UNAUTHORIZED: (400, "INVALID_ARGUMENT"),
    FaultKind.FORBIDDEN: (403, "PERMISSION_DENIED"),
}


def _always(kind: FaultKind) -> FaultPlan:
    return FaultPlan(shares={kind: 1.0}, retry_after=2.5)


async def test_openai_raises_its_own_errors(sdk: SimpleNamespace, sim: Simulator, openai: Any) -> None:
    """Class, status and code, from the chat and the responses dialect."""
    asked: list[Callable[[], Awaitable[Any]]] = [
        lambda: openai.chat.completions.create(model="m", messages=_user()),
        lambda: openai.responses.create(model="m", input=_TEXT),
    ]
    for kind, (name, status, code) in _OPENAI.items():
        sim.set_faults(_always(kind))
        for ask in asked:
            with pytest.raises(getattr(sdk.openai, name)) as caught:
                await ask()
            assert (caught.value.status_code, caught.value.code) == (status, code)
            assert caught.value.request_id.startswith("req_")


async def test_anthropic_raises_its_own_errors(sdk: SimpleNamespace, sim: Simulator, anthropic: Any) -> None:
    """Status and type; a 429 says in whole seconds how long to wait."""
    for kind, (status, type_) in _ANTHROPIC.items():
        sim.set_faults(_always(kind))
        with pytest.raises(sdk.anthropic.APIStatusError) as caught:
            await anthropic.messages.create(model="m", max_tokens=9, messages=_user())
        assert (caught.value.status_code, caught.value.body["error"]["type"]) == (status, type_)
        assert caught.value.request_id.startswith("req_")
        assert ("retry-after" in caught.value.response.headers) == (status in (429, 529))


async def test_gemini_raises_its_own_errors(sdk: SimpleNamespace, sim: Simulator, gemini: Any) -> None:
    """Code and status; how long to wait, and that a day's quota is spent, stand in the details."""
    details: dict[FaultKind, list[Any]] = {}
    for kind, (code, status) in _GEMINI.items():
        sim.set_faults(_always(kind))
        with pytest.raises(sdk.gemini_errors.APIError) as caught:
            await gemini.models.generate_content(model="m", contents=_TEXT)
        assert (caught.value.code, caught.value.status) == (code, status)
        details[kind] = caught.value.details["error"].get("details", [])

    (minute, wait), (day, trap) = details[FaultKind.RATE_LIMIT], details[FaultKind.QUOTA]
    assert (wait["retryDelay"], trap["retryDelay"]) == ("2.5s", "23s")
    assert "PerMinute" in minute["violations"][0]["quotaId"]
    assert "PerDay" in day["violations"][0]["quotaId"]


async def _keep(got: list[object], stream: AsyncIterator[object]) -> None:
    async for one in stream:
        got += [one]


async def test_a_stream_that_fails_raises_in_each_client(
    sdk: SimpleNamespace, sim: Simulator, openai: Any, anthropic: Any, gemini: Any
) -> None:
    """The error comes after status 200 and some of the text."""
    sim.set_faults(_always(FaultKind.STREAM_ERROR))
    got: list[object] = []
    with pytest.raises(sdk.openai.APIError, match="overloaded"):
        await _keep(got, await openai.chat.completions.create(model="m", messages=_user(), stream=True))
    events = [event async for event in await openai.responses.create(model="m", input=_TEXT, stream=True)]
    with pytest.raises(sdk.anthropic.APIStatusError, match="overloaded"):
        await _keep(got, await anthropic.messages.create(model="m", max_tokens=9, messages=_user(), stream=True))
    with pytest.raises(sdk.gemini_errors.ServerError, match="overloaded"):
        await _keep(got, await gemini.models.generate_content_stream(model="m", contents=_TEXT))

    assert len(got) >= 3
    assert (events[-1].type, events[-1].code) == ("error", "server_is_overloaded")


async def test_policies_refuse_in_each_provider_s_way(sim: Simulator, openai: Any, anthropic: Any, gemini: Any) -> None:
    """A refusal has status 200; what was filtered says so."""
    seen: list[tuple[object, ...]] = []
    for kind in (FaultKind.REFUSAL, FaultKind.FILTERED):
        sim.set_faults(_always(kind))
        chat = (await openai.chat.completions.create(model="m", messages=_user())).choices[0]
        response = await openai.responses.create(model="m", input=_TEXT)
        message = await anthropic.messages.create(model="m", max_tokens=9, messages=_user())
        content = await gemini.models.generate_content(model="m", contents=_TEXT)
        part = response.output[0].content[0].type
        blocked = content.prompt_feedback and content.prompt_feedback.block_reason.value
        reason = content.candidates[0].finish_reason.value if content.candidates else None
        seen.append((chat.finish_reason, bool(chat.message.refusal), part, response.status))
        seen.append((message.stop_reason, blocked, reason))

    assert seen == [
        ("stop", True, "refusal", "completed"),
        ("refusal", "SAFETY", None),
        ("content_filter", False, "output_text", "incomplete"),
        ("refusal", None, "SAFETY"),
    ]


async def test_bytes_may_be_cut_anywhere(sim: Simulator, openai: Any, anthropic: Any, gemini: Any) -> None:
    """Inside characters, lines and events: each client puts them together again."""
    sim.set_faults(_always(FaultKind.SPLIT))
    text = "größer 日本 🙂"
    chat = await openai.chat.completions.create(model="m", messages=_user(text), temperature=0, stream=True)
    said = "".join([one.choices[0].delta.content or "" async for one in chat if one.choices])
    asked = {"model": "m", "max_tokens": 99, "messages": _user(text), "extra_body": _COLD}
    async with anthropic.messages.stream(**asked) as stream:
        message = await stream.get_final_text()
    pieces = await gemini.models.generate_content_stream(model="m", contents=text, config={"temperature": 0})

    assert said == message == "".join([piece.text async for piece in pieces]) == text


async def test_a_wrong_key_opens_nothing(sdk: SimpleNamespace, sim: Simulator) -> None:
    """Each provider says it in its own way."""
    async with sdk.openai.AsyncOpenAI(base_url=sim.urls["openai"], api_key="x", max_retries=0) as client:
        with pytest.raises(sdk.openai.AuthenticationError):
            await client.models.list()
    async with sdk.anthropic.AsyncAnthropic(base_url=sim.urls["anthropic"], api_key="x", max_retries=0) as client:
        with pytest.raises(sdk.anthropic.AuthenticationError):
            await client.messages.create(model="m", max_tokens=9, messages=_user())

    assert sim.requests == {"rejected": 2}


async def test_limits_are_told_and_kept(sdk: SimpleNamespace) -> None:
    """Headers count down; the request too many is refused with the true time to wait."""
    async with Simulator(limits=Limits(rpm=2, tpm=1000), clock=lambda: 0.0) as sim:
        url = sim.urls["anthropic"]
        async with sdk.anthropic.AsyncAnthropic(base_url=url, api_key="a", max_retries=0) as client:
            asked = {"model": "m", "max_tokens": 9, "messages": _user()}
            raw = [await client.messages.with_raw_response.create(**asked) for _ in range(2)]
            with pytest.raises(sdk.anthropic.RateLimitError) as caught:
                await client.messages.create(**asked)
        async with sdk.openai.AsyncOpenAI(base_url=sim.urls["openai"], api_key="b", max_retries=0) as other:
            told = await other.chat.completions.with_raw_response.create(model="m", messages=_user())

    assert [one.headers["anthropic-ratelimit-requests-remaining"] for one in raw] == ["1", "0"]
    assert [one.headers["anthropic-ratelimit-tokens-remaining"] for one in raw] == ["992", "984"]
    assert caught.value.response.headers["retry-after"] == "30"
    assert (told.headers["x-ratelimit-remaining-requests"], told.headers["x-ratelimit-reset-requests"]) == ("1", "30s")
    assert sim.requests == {"ok": 3, "limited": 1}


async def test_the_clients_own_retries_are_judged(sdk: SimpleNamespace, sim: Simulator) -> None:
    """OpenAI's client waits as it is asked to, numbers its attempts, and is found well behaved."""
    path = "/v1/chat/completions"
    busy = Fault(kind=FaultKind.RATE_LIMIT, retry_after=0.05, retry_form="milliseconds")
    sim.set_faults(FaultPlan(script={path: (busy, Fault(kind=FaultKind.RESET))}))
    async with sdk.openai.AsyncOpenAI(base_url=sim.urls["openai"], api_key="key", max_retries=2) as client:
        await client.chat.completions.create(model="m", messages=_user())
    report = sim.judge()

    assert [one.attempt for one in sim.arrivals()] == [0, 1, 2]
    assert (report.calls, report.answered, report.extra_load, report.reconnected) == (1, 1, 2.0, 1)
    report.assert_resilient(max_extra_load=2.0)


async def test_azure_s_client_takes_it_for_a_resource(sdk: SimpleNamespace, sim: Simulator) -> None:
    """Which it asks by deployment and version, with the key in a header of its own."""
    version = "2024-10-21"
    client = sdk.openai.AsyncAzureOpenAI(azure_endpoint=sim.urls["azure"], api_key="key", api_version=version)
    async with client:
        answer = await client.chat.completions.create(model="mine", messages=[{"role": "user", "content": _TEXT}])
        vectors = await client.embeddings.create(model="mine", input=["a text"])

    assert answer.choices[0].message.content
    assert len(vectors.data[0].embedding) == 1536
    assert {each.path.split("/")[3] for each in sim.arrivals()} == {"mine"}
