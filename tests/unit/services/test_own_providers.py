"""Providers of the user's own: what is checked early, and what a wire's own failures become."""

from __future__ import annotations

import json
import traceback
from array import array
from collections.abc import Callable, Mapping
from typing import Any, cast

import httpx
import pytest

import dspex
from dspex.errors import AuthFailed, ConfigError, LMError, RateLimited, RequestRejected, ResponseInvalid
from dspex.lm import (
    LM,
    Capabilities,
    ClientLimits,
    Completion,
    EmbedRequest,
    EmbedResponse,
    Headroom,
    LMDelta,
    LMRequest,
    LMResponse,
    Message,
    OpenAIChat,
    Provider,
    Secret,
    StreamDecoder,
    Usage,
    Wire,
    request_headers,
)
from dspex.services.lm.own_providers import CheckedEmbeddings, CheckedWire, with_own
from dspex.services.lm.providers import PROVIDERS
from tests.support.programs import Ask

CANARY = "key-4711"


class Decoder:
    def __init__(self) -> None:
        self.text = ""

    def feed(self, data: bytes) -> list[LMDelta]:
        self.text += data.decode()
        return [LMDelta(text=data.decode())]

    def finish(self) -> LMResponse:
        return LMResponse((Completion(self.text),), Usage(1, 1), "m")


class Plain:
    """Text in, text out."""

    def path(self, model_name: str, *, stream: bool) -> str:
        return f"/{model_name}"

    def capabilities(self, lm: LM) -> Capabilities:
        return Capabilities(streaming=True)

    def encode(self, model_name: str, request: LMRequest, *, stream: bool = False) -> bytes:
        return json.dumps([message.text for message in request.messages]).encode()

    def headers(self, key: Secret | None, *, idempotency_key: str, attempt: int) -> dict[str, str]:
        headers = request_headers(idempotency_key, attempt)
        if key is not None:
            headers["x-key"] = key.reveal()
        return headers

    def decode(self, status: int, headers: Mapping[str, str], body: bytes) -> LMResponse:
        if status == 429:
            raise RateLimited("slow down", status=429)
        return LMResponse((Completion(body.decode()),), Usage(1, 1), "m")

    def decoder(self, headers: Mapping[str, str]) -> StreamDecoder:
        return Decoder()

    def headroom(self, headers: Mapping[str, str], *, now: float) -> Headroom | None:
        return None


class Vectors:
    most_texts = 2
    most_bytes = 1_000

    def path(self, model_name: str) -> str:
        return "/vectors"

    def encode(self, model_name: str, request: EmbedRequest) -> bytes:
        return json.dumps(request.texts).encode()

    def decode(self, status: int, headers: Mapping[str, str], body: bytes, *, texts: int) -> EmbedResponse:
        return EmbedResponse(tuple(array("f", each) for each in json.loads(body)), Usage(1), "m")


class Broken(Plain):
    """Fails in every method, with the key in its words and frames."""

    def _fail(self, key: str = "") -> Any:
        raise KeyError(f"{key} is missing")

    path = capabilities = encode = decode = decoder = headroom = lambda self, *args, **named: self._fail()  # type: ignore[assignment]

    def headers(self, key: Secret | None, *, idempotency_key: str, attempt: int) -> dict[str, str]:
        revealed = key.reveal() if key is not None else ""
        self._fail(revealed)
        return {}


def app(wire: Any, handler: Any, **options: Any) -> dspex.App:
    provider = Provider("http://plain.test/v9/", wire, ("PLAIN_KEY",), embeddings=Vectors())
    transport = httpx.MockTransport(handler)
    return dspex.App(
        LM("plain/m-1", api_key=CANARY), providers={"plain": provider}, transport=transport, cache=None, **options
    )


ANSWER = "yes"


async def test_a_program_runs_on_it() -> None:
    """Addresses, keys, retries, limits by name and embeddings are as with any other."""
    requests: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        if request.url.path == "/v9/vectors":
            return httpx.Response(200, json=[[1.0, 2.0]] * len(json.loads(request.content)))
        return httpx.Response(429 if len(requests) == 1 else 200, text=ANSWER)

    limits = {"plain/*": ClientLimits(max_in_flight=3)}
    async with app(Plain(), handler, limits=limits) as running:
        prediction = await running.run(Ask(), question="q")
        vectors = await running.run(dspex.Embed(LM("plain/m-2", api_key=CANARY)), texts=["a", "b", "c"])

    assert prediction.answer == "yes"
    assert [str(each.url) for each in requests[:2]] == ["http://plain.test/v9/m-1"] * 2
    assert requests[0].headers["x-key"] == CANARY
    assert len({each.headers["idempotency-key"] for each in requests[:2]}) == 1
    assert [list(each) for each in vectors] == [[1.0, 2.0]] * 3


async def test_its_answers_stream() -> None:
    async with (
        app(Plain(), lambda _: httpx.Response(200, text=ANSWER)) as running,
        running.stream(Ask(), question="q") as stream,
    ):
        text = "".join([delta.text async for delta in stream if isinstance(delta, dspex.Delta)])
        assert (await stream.result()).answer == text == "yes"


async def test_its_key_comes_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """And without one the message names it."""
    sent: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        sent.append(request.headers["x-key"])
        return httpx.Response(200, text=ANSWER)

    providers = {"plain": Provider("http://plain.test", Plain(), ("PLAIN_KEY",))}
    for value in ("from-environment", ""):
        monkeypatch.setenv("PLAIN_KEY", value)
        async with dspex.App("plain/m", providers=providers, transport=httpx.MockTransport(handler)) as running:
            if value:
                await running.run(Ask(), question="q")
            else:
                with pytest.raises(AuthFailed, match="no API key for plain: set PLAIN_KEY"):
                    await running.run(Ask(), question="q")
    assert sent == ["from-environment"]


def test_a_provider_of_ours_can_be_replaced() -> None:
    """For a company's own gateway before all of them."""
    own = with_own({"openai": Provider("http://gateway.test/openai", OpenAIChat())})

    assert own["openai"].base_url == "http://gateway.test/openai"
    assert own["groq"] is PROVIDERS["groq"]
    assert with_own({}) is PROVIDERS


@pytest.mark.parametrize(
    ("providers", "message"),
    [
        ({"a/b": Provider("http://x", Plain())}, "small letters, digits"),
        ({"": Provider("http://x", Plain())}, "small letters, digits"),
        ({"a": Plain()}, r"is not a dspex\.lm\.Provider"),
        ({"a": Provider("http://x", Plain)}, "lacks methods of dspex.lm.Wire"),  # type: ignore[arg-type]  # a class
        ({"a": Provider("http://x", Vectors())}, "lacks methods of dspex.lm.Wire"),  # type: ignore[arg-type]
        ({"a": Provider("http://x", Plain(), embeddings=Plain())}, "lacks methods of dspex.lm.Emb"),  # type: ignore[arg-type]
        ({"a": Provider("localhost", Plain())}, "must begin with http"),
        ({"a": Provider("http://me:pw@x", Plain())}, "user name or password"),
        ({"a": Provider("http://x", Plain(), "KEY")}, "tuple of names"),  # type: ignore[arg-type]
    ],
)
def test_a_provider_that_cannot_be_one_is_a_config_error(providers: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dspex.App(providers=providers)


def test_an_unknown_one_says_how_to_add_it() -> None:
    with pytest.raises(ConfigError, match=r"App\(providers="):
        dspex.App("acme/m")
    with pytest.raises(ConfigError, match=r"needs the address of its server: LM\(\.\.\., api_base="):
        dspex.App("acme/m", providers={"acme": Provider("", Plain())})


class TestFailures:
    """A wire's own exception is the typed error of the step that it failed in."""

    wire = CheckedWire(cast("Wire", Broken()))

    def test_what_it_cannot_write_is_rejected(self) -> None:
        request = LMRequest((Message("user", "q"),))
        for call in (lambda: self.wire.path("m", stream=False), lambda: self.wire.encode("m", request)):
            with pytest.raises(RequestRejected, match="the wire Broken failed to write the request: KeyError"):
                call()

    def test_what_it_cannot_read_is_invalid(self) -> None:
        for call in (lambda: self.wire.decode(200, {}, b""), lambda: self.wire.decoder({})):
            with pytest.raises(ResponseInvalid, match="failed to read the answer: KeyError"):
                call()

    def test_its_headers_never_tell_the_key(self) -> None:
        """Neither in words, nor in a cause, nor in the variables of a frame."""
        with pytest.raises(AuthFailed, match="the wire Broken: it failed to make the headers: KeyError") as caught:
            self.wire.headers(Secret(CANARY), idempotency_key="c", attempt=1)

        told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
        assert caught.value.__cause__ is caught.value.__context__ is None
        assert CANARY not in "".join(told.format())

    def test_the_rest(self) -> None:
        assert self.wire.headroom({}, now=0.0) is None
        with pytest.raises(ConfigError, match="failed to say what 'plain/m' can do"):
            self.wire.capabilities(LM("plain/m"))
        assert "Broken" in repr(self.wire)

    def test_a_record_s_capabilities_go_before_the_wire_s(self) -> None:
        can = CheckedWire(Plain()).capabilities(LM("plain/m", capabilities={"tools": True, "streaming": False}))
        assert (can.tools, can.streaming) == (True, False)

    @pytest.mark.parametrize(
        ("method", "returned", "error"),
        [
            ("path", "no-slash", RequestRejected),
            ("path", "/a b", RequestRejected),
            ("path", "/\r\nx: y", RequestRejected),
            ("path", None, RequestRejected),
            ("encode", "text", RequestRejected),
            ("headers", {"x-key": "a\r\nb"}, AuthFailed),
            ("headers", {1: "a"}, AuthFailed),
            ("headers", None, AuthFailed),
            ("decode", None, ResponseInvalid),
            ("decode", LMResponse((), Usage(), "m"), ResponseInvalid),
        ],
    )
    def test_what_is_of_the_wrong_type_goes_no_further(self, method: str, returned: Any, error: type[LMError]) -> None:
        wire = CheckedWire(type("Odd", (Plain,), {method: lambda self, *args, **named: returned})())
        calls: dict[str, Callable[[], object]] = {
            "path": lambda: wire.path("m", stream=False),
            "encode": lambda: wire.encode("m", LMRequest(())),
            "headers": lambda: wire.headers(None, idempotency_key="c", attempt=1),
            "decode": lambda: wire.decode(200, {}, b""),
        }
        with pytest.raises(error):
            calls[method]()

    def test_a_stream_s_failures_are_typed_too(self) -> None:
        class Odd(Plain):
            def decoder(self, headers: Mapping[str, str]) -> StreamDecoder:
                return Decoder()

        decoder = CheckedWire(Odd()).decoder({})
        with pytest.raises(ResponseInvalid, match="UnicodeDecodeError"):
            decoder.feed(b"\xff")
        never: Any = type("Never", (), {"finish": lambda self: None, "feed": lambda self, data: None})()
        odd = CheckedWire(type("Odder", (Plain,), {"decoder": lambda self, headers: never})()).decoder({})
        with pytest.raises(ResponseInvalid, match="returned NoneType"):
            odd.finish()
        with pytest.raises(ResponseInvalid, match="TypeError"):
            odd.feed(b"x")

    def test_vectors_are_counted(self) -> None:
        wire = CheckedEmbeddings(Vectors())
        assert len(wire.decode(200, {}, b"[[1.0]]", texts=1).vectors) == 1
        with pytest.raises(ResponseInvalid, match="read 1 vectors for 2 texts"):
            wire.decode(200, {}, b"[[1.0]]", texts=2)
        with pytest.raises(ResponseInvalid, match="JSONDecodeError"):
            wire.decode(200, {}, b"[", texts=1)
        broken = CheckedEmbeddings(
            type("B", (Vectors,), {"path": lambda self, model: "x", "encode": lambda self, *args: 1 / 0})()
        )
        with pytest.raises(RequestRejected, match="is not one"):
            broken.path("m")
        with pytest.raises(RequestRejected, match="ZeroDivisionError"):
            broken.encode("m", EmbedRequest(("a",)))
