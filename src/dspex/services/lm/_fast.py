"""The transport of the extra ``fast``: a client session of aiohttp."""

from __future__ import annotations

import functools
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextvars import Context, ContextVar
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

import httpx

from dspex.errors import MissingExtra, TransportFailed
from dspex.services.lm._clean_context import in_context
from dspex.services.lm._failures import failure_of, transport_failed
from dspex.services.lm._http import HttpReply, Timeouts, label_of, reply_of

if TYPE_CHECKING:
    import aiohttp
    import yarl

__all__ = ["FastTransport"]

_reused: Final[ContextVar[bool]] = ContextVar("dspex.services.lm.reused", default=False)
"""Whether this exchange's connection had served before; each exchange has a context of its own."""


_PIECE: Final = 2**18


class _Pieces:
    """A large body in pieces: aiohttp refuses, by a warning, to send one at a stretch."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._body), _PIECE):
            yield self._body[start : start + _PIECE]


class FastTransport:
    """
    aiohttp's client; needs the extra ``fast``.

    Args:
        timeouts: For posts that bring none of their own.
        verify: False accepts any certificate; a context decides for itself.
        max_idle_seconds: How long a connection may idle.

    Raises:
        MissingExtra: The extra is not installed.
    """

    def __init__(
        self,
        *,
        timeouts: Timeouts | None = None,
        verify: ssl.SSLContext | bool = True,
        max_idle_seconds: float = 60.0,
    ) -> None:
        try:
            import aiohttp
        except ImportError as error:
            raise MissingExtra("fast", "the fast transport") from error
        self._timeouts = timeouts or Timeouts()
        self._protocols: WeakSet[Any] = WeakSet()  # aiohttp does not export the class
        self._failures = (httpx.DecodingError, aiohttp.ClientError, OSError)
        self._disconnected = aiohttp.ServerDisconnectedError
        context = verify
        if not isinstance(context, ssl.SSLContext):
            context = httpx.create_ssl_context(verify=context, trust_env=False)
        connector = _connector_class(self._protocols)

        def session() -> aiohttp.ClientSession:
            return aiohttp.ClientSession(
                connector=connector(limit=0, ssl=context, keepalive_timeout=max_idle_seconds),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"accept-encoding": "identity"},
                auto_decompress=False,
            )

        self._new_session = session
        self._session: aiohttp.ClientSession | None = None  # opened in the loop that first posts
        self._targets: dict[str, tuple[yarl.URL, str]] = {}
        self._closed = False
        self.stale_retries = 0

    @property
    def open_connections(self) -> int:
        """Sockets open now, idle ones included."""
        return sum(protocol.is_connected() for protocol in self._protocols)

    async def post(
        self,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        timeouts: Timeouts | None = None,
        on_resend: Callable[[], object] | None = None,
    ) -> HttpReply:
        """
        Send one request and return the whole answer, whatever its status.

        A kept-alive connection that the server closed before a byte of the answer came is replaced once.

        Raises:
            TransportFailed: No complete answer came; aiohttp's error is the cause.
        Cancellation: closes the socket; the server sees it at once.
        """
        target, label = self._targets.get(url) or self._target(url)
        timeouts = timeouts or self._timeouts
        while True:
            if self._closed:
                raise TransportFailed(f"the transport to {label} is closed")
            context = Context()
            try:
                return await in_context(self._exchange(target, headers, body, _client_timeout(timeouts)), context)
            except self._failures as error:
                if not self._was_stale(error, context):
                    raise transport_failed(error, label, timeouts.phases()) from error
                self.stale_retries += 1
                if on_resend is not None:
                    on_resend()

    async def aclose(self) -> None:
        """
        Close every connection; exchanges under way fail.

        Cancellation: the connections are closed all the same.
        """
        self._closed = True
        for protocol in list(self._protocols):
            protocol.abort()
        if self._session is not None:
            await self._session.close()

    def _target(self, url: str) -> tuple[yarl.URL, str]:
        """Parse an address, and remember it: there are few."""
        import yarl

        parsed = httpx.URL(url)  # as every transport reads it
        target = self._targets[url] = (yarl.URL(str(parsed)), label_of(parsed))
        return target

    async def _exchange(
        self, target: yarl.URL, headers: Mapping[str, str], body: bytes, timeout: aiohttp.ClientTimeout
    ) -> HttpReply:
        session = self._session
        if session is None:
            session = self._session = self._new_session()
        data: bytes | _Pieces = body
        if len(body) > _PIECE:
            data, headers = _Pieces(body), {**headers, "content-length": str(len(body))}
        response = await session.post(target, data=data, headers=headers, timeout=timeout, allow_redirects=False)
        _reused.set(False)  # the answer has begun: from here on nothing is sent again
        try:
            answer = await response.read()
        except BaseException:  # whatever it is: undone here, then raised on
            response.close()
            raise
        return reply_of(response.status, list(response.raw_headers), answer)

    def _was_stale(self, error: BaseException, context: Context) -> bool:
        """Whether nothing but the connection's age was wrong: it had served before, and no byte came."""
        if isinstance(error, self._disconnected) and not isinstance(error.message, str):
            return False  # aiohttp keeps the begun head there
        return context.get(_reused, False) and failure_of(error).closed

    def __repr__(self) -> str:
        return f"<FastTransport {self.open_connections} open>"


@functools.lru_cache(maxsize=64)
def _client_timeout(timeouts: Timeouts) -> aiohttp.ClientTimeout:
    import aiohttp

    return aiohttp.ClientTimeout(connect=timeouts.connect, sock_connect=timeouts.connect, sock_read=timeouts.read)


def _connector_class(protocols: WeakSet[Any]) -> Callable[..., Any]:  # a subclass of a class that may be missing
    """Return aiohttp's connector, noting its connections in ``protocols`` and the exchange's use of an old one."""
    import aiohttp

    class Connector(aiohttp.TCPConnector):
        async def connect(self, *args: Any, **kwargs: Any) -> Any:  # handed on as they are
            connection = await super().connect(*args, **kwargs)
            if connection.protocol in protocols:
                _reused.set(True)
            else:
                protocols.add(connection.protocol)
            return connection

    return Connector
