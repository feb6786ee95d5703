"""The transport a user brings."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import httpx

from dspex.services.lm._failures import transport_failed
from dspex.services.lm._http import HttpReply, Timeouts, headers_of, label_of

__all__ = ["HttpxTransport"]


class HttpxTransport:
    """
    A transport the user brings: a mock, a proxy, an instrumented one.

    It runs in the caller's context, is asked once per attempt, and is not closed: whoever made it closes it.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport, *, timeouts: Timeouts | None = None) -> None:
        self._transport = transport
        self._timeouts = timeouts or Timeouts()
        self.open_connections = 0
        self.stale_retries = 0

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

        Raises:
            TransportFailed: No complete answer came; httpx's error is the cause.
        Cancellation: cancels the transport and closes its answer.
        """
        phases = (timeouts or self._timeouts).phases()
        request = httpx.Request("POST", url, headers=dict(headers), content=body, extensions={"timeout": phases})
        try:
            response = await self._transport.handle_async_request(request)
            try:
                content = await response.aread()
            finally:
                await response.aclose()
        except (httpx.TransportError, httpx.DecodingError, OSError) as error:
            raise transport_failed(error, label_of(request.url), phases) from error
        return HttpReply(response.status_code, headers_of(response.headers.raw), content)

    async def aclose(self) -> None:
        """
        Do nothing: the transport is the user's.

        Cancellation: nothing to cancel.
        """

    def __repr__(self) -> str:
        return f"<HttpxTransport {self._transport!r}>"
