"""Wrong addresses, as a new user meets them: real sockets, and messages that say what to write."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

import dspex
from dspex.services.lm.retry import RetryPolicy
from dspex.simulator import Simulator
from tests.support.transports import PEM

App = dspex.App
ASK = dspex.Predict("question -> answer")
ONCE = dspex.ClientLimits(retry=RetryPolicy(max_attempts=1))

HASTY = dspex.ClientLimits(retry=RetryPolicy(max_attempts=6, base=0.002, cap=0.002))

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def listening(handle: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Run a server and give its host and port."""

    async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handle(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(closing, "127.0.0.1", 0, ssl=tls)
    try:
        yield f"localhost:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()


def saying(data: bytes) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(data)
        await writer.drain()
        await reader.read()  # to its end

    return handle


async def told(
    api_base: str,
    *,
    model: str = "openai/m",
    key: str | None = None,
    limits: dspex.ClientLimits | None = None,
    timeouts: dspex.Timeouts | None = None,
) -> dspex.LMError:
    lm = dspex.LM(model, api_base=api_base, api_key=key)
    async with App(lm, cache=None, limits=limits, timeouts=timeouts) as app:
        with pytest.raises(dspex.LMError) as caught:
            await app.run(ASK, question="q")
    return caught.value


@pytest.mark.parametrize(
    ("model", "given", "meant"),
    [
        ("openai/m", "", "/v1"),
        ("openai/m", "/api", "/v1"),
        ("ollama/m", "/api", "/v1"),
        ("anthropic/m", "", "/v1"),
        ("gemini/m", "", "/v1beta"),
    ],
)
async def test_a_path_where_nothing_answers(model: str, given: str, meant: str) -> None:
    """The address asked, the likely mistake and the line to write; that line works."""
    async with Simulator() as simulator:
        root = simulator.url.removesuffix("/v1")
        error = await told(root + given, model=model, key="key")
        assert isinstance(error, dspex.errors.RequestRejected)
        assert f"The address asked was {root}{given}/" in str(error)
        assert f"did you mean api_base='{root}{meant}'?" in str(error)
        async with App(dspex.LM(model, api_base=root + meant, api_key="key")) as app:
            assert (await app.run(ASK, question="q")).answer


async def test_a_model_that_is_not_there_is_not_blamed_on_the_address() -> None:
    body = b'{"error": {"message": "model \\"m\\" not found, try pulling it first"}}'
    head = b"HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    async with listening(saying(head + body)) as where:
        error = await told(f"http://{where}/v1")
    assert "not found, try pulling it first" in str(error)
    assert "api_base" not in str(error)


async def test_https_at_an_http_port_that_answers() -> None:
    """It is told at once, and not asked six times."""
    async with listening(saying(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")) as where:
        error = await told(f"https://{where}/v1")
    assert isinstance(error, dspex.errors.TransportFailed)
    assert len(error.attempts) == 1
    assert "does not speak TLS" in str(error)
    assert str(error).endswith(f"write api_base='http://{where}/v1'")


async def test_https_at_an_http_port_that_waits_for_more() -> None:
    """Such a server says nothing to an offer of TLS: that was silence until the deadline."""
    done = asyncio.Event()

    async def waiting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()

    async with listening(waiting) as where:
        error = await told(f"https://{where}/v1", timeouts=dspex.Timeouts(connect=0.4))
        done.set()
    assert isinstance(error, dspex.errors.TransportFailed)
    assert len(error.attempts) == 1
    assert "said nothing to TLS" in str(error)
    assert f"The address asked was https://{where}/v1/chat/completions" in str(error)
    assert str(error).endswith(f"write api_base='http://{where}/v1'")


async def test_http_at_an_https_port(tmp_path: Path) -> None:
    """A bare TLS server closes the connection; one with manners says so."""
    file = tmp_path / "localhost.pem"
    file.write_text(PEM)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(file)
    async with listening(saying(b""), tls) as where:
        error = await told(f"http://{where}/v1")
    assert isinstance(error, dspex.errors.TransportFailed)
    assert "does not speak HTTP: it wants TLS" in str(error)
    assert str(error).endswith(f"write api_base='https://{where}/v1'")
    assert len(error.attempts) == 1
    assert not error.may_be_charged

    page = b"<h1>The plain HTTP request was sent to HTTPS port</h1>"
    head = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/html\r\ncontent-length: %d\r\n\r\n" % len(page)
    async with listening(saying(head + page)) as where:
        error = await told(f"http://{where}/v1")
    assert isinstance(error, dspex.errors.RequestRejected)
    assert str(error).endswith(f"write api_base='https://{where}/v1'")


async def test_a_tls_server_that_sends_an_alert_is_told_once_too() -> None:
    """Its alert is not HTTP; a server that wants a certificate of ours speaks TLS as well."""
    connections = 0

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """To the first, answer with an alert; with the others, speak TLS."""
        nonlocal connections
        connections += 1
        if (await reader.read(1))[:1] != b"\x16":
            writer.write(b"\x15\x03\x01\x00\x02\x02\x16")
            return
        writer.write(b"\x15\x03\x03\x00\x02\x02\x28")  # a fatal alert: handshake failure

    async with listening(relay) as where:
        error = await told(f"http://{where}/v1")
    assert str(error).endswith(f"write api_base='https://{where}/v1'")
    assert (len(error.attempts), connections) == (1, 2)


async def test_a_server_that_hangs_up_on_everything_is_not_said_to_want_tls() -> None:
    """It is asked again, for it may be starting; and it is offered TLS once, not after each try."""
    quick = dspex.ClientLimits(retry=RetryPolicy(max_attempts=3, base=0.0, cap=0.0))
    firsts: list[bytes] = []

    async def hanging_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        firsts.append(await reader.read(1))

    async with listening(hanging_up) as where:
        error = await told(f"http://{where}/v1", limits=quick)
    assert "it wants TLS" not in str(error)
    assert len(error.attempts) == 3
    assert firsts == [b"P", b"\x16", b"P", b"P"]


async def test_an_unknown_certificate_is_told_once(tmp_path: Path) -> None:
    file = tmp_path / "localhost.pem"
    file.write_text(PEM)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(file)
    async with listening(saying(b""), tls) as where:
        error = await told(f"https://{where}/v1")
    assert len(error.attempts) == 1
    assert "App(verify=…)" in str(error)


async def test_a_redirect_names_the_base_and_not_the_whole_path() -> None:
    answer = b"HTTP/1.1 308 Moved\r\nlocation: https://gw.example/x/v1/chat/completions\r\ncontent-length: 0\r\n\r\n"
    async with listening(saying(answer)) as where:
        error = await told(f"http://{where}/v1")
    assert str(error).endswith("write api_base='https://gw.example/x/v1'")


async def test_a_server_that_was_given_no_key_is_not_said_to_refuse_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that was given a key is."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    async with Simulator(key="sk-good") as simulator:
        without, wrong = await told(simulator.url), await told(simulator.url, key="sk-bad")
    for error in (without, wrong):
        assert isinstance(error, dspex.errors.AuthFailed)
        assert str(error).endswith("set OPENAI_API_KEY or give LM(..., api_key=...)")
    assert str(without).startswith(
        f"{simulator.url}/chat/completions wants an API key (401), and the request carried none"
    )
    assert str(wrong).startswith("the provider refused the API key (401")

    async with listening(saying(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 9\r\n\r\nForbidden")) as where:
        error = await told(f"http://{where}/v1")
    assert "refused the API key" not in str(error)
    assert f"the request to http://{where}/v1/chat/completions carried no API key" in str(error)


async def test_a_deadline_names_the_failure_that_used_it_up() -> None:
    """Attempts that failed are not hidden behind the time that they took."""
    lm = dspex.LM("openai/m", api_base="http://127.0.0.1:1/v1")

    class Stubborn(dspex.Module):
        def __init__(self) -> None:
            self.ask = ASK

        async def forward(self) -> None:
            with contextlib.suppress(dspex.LMError):
                await self.ask(question="q")
            await asyncio.Event().wait()

    async with App(lm, cache=None, limits=ONCE, deadline=0.5) as app:
        with pytest.raises(
            dspex.DeadlineExceeded, match=r"the last attempt: http://127.0.0.1:1 refused the connection"
        ):
            await app.run(Stubborn())


async def test_a_deadline_names_the_server_that_was_silent() -> None:
    """Who waits for two minutes wants to know for whom."""
    async with listening(saying(b"")) as where:
        lm = dspex.LM("openai/m", api_base=f"http://{where}/v1")
        async with App(lm, cache=None, deadline=0.5) as app:
            with pytest.raises(dspex.DeadlineExceeded, match=rf"{where} had not answered in whole after \d\.\d+ s"):
                await app.run(ASK, question="q")


LINUX = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full queue refuses")


def fill(stack: contextlib.ExitStack, listener: socket.socket) -> None:
    """Fill the queue of a listener that takes nobody: Linux then drops whoever else comes, as a firewall does."""
    for _ in range(4):
        waiting = stack.enter_context(socket.socket())
        waiting.setblocking(False)
        waiting.connect_ex(listener.getsockname())


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as opened:
        yield opened


@pytest.fixture
def listener(stack: contextlib.ExitStack) -> socket.socket:
    found = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
    found.setblocking(False)
    return found


def silent_app(listener: socket.socket) -> dspex.App:
    lm = dspex.LM("openai/m", api_base=f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
    return App(lm, cache=None, limits=HASTY, timeouts=dspex.Timeouts(connect=0.05))


@LINUX
async def test_an_address_that_swallows_connections_is_told_after_two(
    stack: contextlib.ExitStack, listener: socket.socket
) -> None:
    """Each costs the whole time to connect: where nobody was ever heard two are paid, by all calls together."""
    fill(stack, listener)
    async with silent_app(listener) as app:
        found = await asyncio.gather(*(app.run(ASK, question=str(i)) for i in range(4)), return_exceptions=True)
        with pytest.raises(dspex.errors.TransportFailed) as caught:
            await app.run(ASK, question="later")

    assert [type(each) for each in found] == [dspex.errors.TransportFailed] * 4
    assert sorted(len(each.attempts) for each in found if isinstance(each, dspex.LMError)) == [1, 1, 1, 2]
    assert len(caught.value.attempts) == 1
    where = f"http://127.0.0.1:{listener.getsockname()[1]}"
    assert str(caught.value).startswith(f"no connection to {where} within 0.05 s: nothing answers there. Is api_base")


@LINUX
async def test_a_host_that_was_heard_and_vanished_is_asked_three_times(
    stack: contextlib.ExitStack, listener: socket.socket
) -> None:
    """It may be starting anew: so each call may find it back after its first try."""
    body = b'{"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}]}'
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
    loop = asyncio.get_running_loop()

    async def answer_one() -> None:
        taken, _ = await loop.sock_accept(listener)
        with taken:
            await loop.sock_recv(taken, 2**16)
            await loop.sock_sendall(taken, head % len(body) + body)

    async with silent_app(listener) as app:
        answered, _ = await asyncio.gather(app.run(ASK, question="first"), answer_one())
        fill(stack, listener)
        tries = []
        for number in range(2):
            with pytest.raises(dspex.errors.TransportFailed) as caught:
                await app.run(ASK, question=str(number))
            tries.append(len(caught.value.attempts))

    assert answered.answer == "yes"
    assert tries == [3, 2]
