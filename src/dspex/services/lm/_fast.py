"""The transport of the extra ``fast``: a client session of aiohttp."""

from __future__ import annotations

import functools
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextvars import Context, ContextVar
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

import httpx

from dspex._clock import Clock
from dspex.errors import MissingExtra
from dspex.services.lm._clean_context import in_context
from dspex.services.lm._exchange import Answer, ExchangeTransport, StaleConnection
from dspex.services.lm._failures import failure_of
from dspex.services.lm._http import MAX_BODY, Timeouts, label_of

if TYPE_CHECKING:
    import aiohttp
    import yarl

__all__ = ["FastTransport"]

_fresh: Final[ContextVar[bool]] = ContextVar("dspex.services.lm.fresh", default=False)
"""Whether this exchange wants a new connection; each exchange has a context of its own."""
_reused: Final[ContextVar[bool]] = ContextVar("dspex.services.lm.reused", default=False)
"""Whether this exchange's connection had served before."""


_PIECE: Final = 2**18


class _Pieces:
    """A large body in pieces: aiohttp refuses, by a warning, to send one at a stretch."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._body), _PIECE):
            yield self._body[start : start + _PIECE]


class FastTransport(ExchangeTransport):
    """
    aiohttp's client; needs the extra ``fast``.

    Args:
        clock: The running loop's, if not given.
        timeouts: For exchanges that bring none of their own.
        verify: False accepts any certificate; a context decides for itself.
        proxy: The address of an HTTP proxy, name and password included where it wants them.
        max_body: Bytes of one answer, unpacked, beyond which it is refused.
        max_idle: Idle connections kept, all servers together.
        max_idle_seconds: How long a connection may idle.
        max_age: Seconds after which a connection is not used again, so that a moved host name is noticed.

    Raises:
        MissingExtra: The extra is not installed.
    """

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        timeouts: Timeouts | None = None,
        verify: ssl.SSLContext | bool = True,
        proxy: str | None = None,
        max_body: int = MAX_BODY,
        max_idle: int = 256,
        max_idle_seconds: float = 60.0,
        max_age: float = 600.0,
    ) -> None:
        try:
            import aiohttp
        except ImportError as error:
            raise MissingExtra("fast", "the fast transport") from error
        super().__init__(clock, timeouts, max_body, (httpx.DecodingError, aiohttp.ClientError, OSError))
        self._born: WeakKeyDictionary[Any, float] = (
            WeakKeyDictionary()
        )  # by protocol; aiohttp does not export the class
        self._proxy = proxy
        self._disconnected = aiohttp.ServerDisconnectedError
        context = verify
        if not isinstance(context, ssl.SSLContext):
            context = httpx.create_ssl_context(verify=context, trust_env=False)
        connector = _connector_class(self._born, self._now, max_idle, max_age)

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

    @property
    def open_connections(self) -> int:
        """Sockets open now, idle ones included."""
        return sum(protocol.is_connected() for protocol in self._born)

    async def aclose(self) -> None:
        """
        Close every connection; exchanges under way fail.

        Cancellation: the connections are closed all the same.
        """
        self._closed = True
        for protocol in list(self._born):
            protocol.abort()
        if self._session is not None:
            await self._session.close()

    def _target(self, url: str) -> tuple[yarl.URL, str]:
        """Parse an address, and remember it: there are few."""
        known = self._targets.get(url)
        if known is not None:
            return known
        import yarl

        parsed = httpx.URL(url)  # as every transport reads it
        target = self._targets[url] = (yarl.URL(str(parsed)), label_of(parsed))
        return target

    def _label(self, url: str) -> str:
        return self._target(url)[1]

    async def _send(
        self, url: str, headers: Mapping[str, str], body: bytes, timeouts: Timeouts, *, fresh: bool
    ) -> Answer:
        """Send on a connection of the session's."""
        context = Context()
        if fresh:
            context.run(_fresh.set, True)
        try:
            return await in_context(self._post(url, headers, body, _client_timeout(timeouts), context), context)
        except self._failures as error:
            if self._was_stale(error, context):
                raise StaleConnection from error
            raise

    async def _post(
        self,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        timeout: aiohttp.ClientTimeout,
        context: Context,
    ) -> _FastAnswer:
        session = self._session
        if session is None:
            session = self._session = self._new_session()
        data: bytes | _Pieces = body
        if len(body) > _PIECE:
            data, headers = _Pieces(body), {**headers, "content-length": str(len(body))}
        target, _ = self._target(url)
        response = await session.post(
            target, data=data, headers=headers, timeout=timeout, allow_redirects=False, proxy=self._proxy
        )
        return _FastAnswer(response, context)

    def _was_stale(self, error: BaseException, context: Context) -> bool:
        """Whether nothing but the connection's age was wrong: it had served before, and no byte came."""
        if isinstance(error, self._disconnected) and not isinstance(error.message, str):
            return False  # aiohttp keeps the begun head there
        return context.get(_reused, False) and failure_of(error).closed

    def __repr__(self) -> str:
        return f"<FastTransport {self.open_connections} open>"


class _FastAnswer:
    """One answer as aiohttp reads it."""

    __slots__ = ("_context", "_response", "raw_headers", "status")

    is_unpacked = False

    def __init__(self, response: aiohttp.ClientResponse, context: Context) -> None:
        self._response = response
        self._context = context
        self.status = response.status
        self.raw_headers = list(response.raw_headers)

    async def next_bytes(self) -> bytes:
        """Return the next piece of the body; at its end aiohttp takes the connection back."""
        response = self._response
        try:
            piece = await in_context(response.content.readany(), self._context)
        except RuntimeError as error:  # so says aiohttp when the connection was closed while nobody read
            raise ConnectionResetError(str(error)) from error
        if not piece and not response.closed:
            await in_context(response.read(), self._context)  # nothing more: this waits for the connection's release
        return piece

    async def abort(self) -> None:
        """Close the connection."""
        connection = self._response.connection
        protocol = connection.protocol if connection is not None else None
        self._response.close()
        if protocol is not None:
            protocol.abort()


@functools.lru_cache(maxsize=64)
def _client_timeout(timeouts: Timeouts) -> aiohttp.ClientTimeout:
    import aiohttp

    return aiohttp.ClientTimeout(connect=timeouts.connect, sock_connect=timeouts.connect, sock_read=timeouts.silence)


def _connector_class(
    born: WeakKeyDictionary[Any, float], clock: Callable[[], float], max_idle: int, max_age: float
) -> Callable[..., Any]:  # a subclass of a class that may be missing
    """Return aiohttp's connector, noting in ``born`` when connections were made, and the exchange's use of old ones."""
    import aiohttp

    class Connector(aiohttp.TCPConnector):
        busy = 0

        async def connect(self, *args: Any, **kwargs: Any) -> Any:  # handed on as they are
            spare: list[Any] = []  # good connections, held while a new one is wanted
            try:
                while True:
                    connection = await super().connect(*args, **kwargs)
                    self.busy += 1
                    now, since = clock(), born.get(connection.protocol)
                    if since is None:
                        born[connection.protocol] = now
                    elif since + max_age <= now:
                        connection.close()
                        continue
                    elif _fresh.get():
                        spare.append(connection)
                        continue
                    _reused.set(since is not None)
                    return connection
            finally:
                for each in spare:
                    each.release()

        def _release(self, key: Any, protocol: Any, *, should_close: bool = False) -> None:
            self.busy -= 1
            too_many = len(born) - self.busy > max_idle  # the closed ones of the dictionary included
            if too_many:
                too_many = sum(each.is_connected() for each in born) - self.busy > max_idle
            super()._release(key, protocol, should_close=should_close or too_many)

    return Connector
