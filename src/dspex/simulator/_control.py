"""A request to a simulator's own routes, over one connection that is closed again."""

import asyncio
import contextlib
import json
from typing import Any

import h11

__all__ = ["ask"]

_PATIENCE = 10.0


async def ask(url: str, method: str, path: str, value: object = None) -> dict[str, Any]:  # Any: JSON of many routes
    """
    Send a JSON value to the server whose base URL this is, and return the JSON object it answers.

    Raises:
        ConnectionError: There is no such server, or it closed the connection.
        TimeoutError: It did not answer in ten seconds.
        RuntimeError: It refused; the message is its answer.
    """
    address = url.removeprefix("http://").partition("/")[0]
    host, _, port = address.rpartition(":")
    async with asyncio.timeout(_PATIENCE):
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            http = h11.Connection(h11.CLIENT)
            body = b"" if value is None else json.dumps(value).encode()
            headers = [("host", address), ("content-length", str(len(body))), ("connection", "close")]
            for event in (h11.Request(method=method, target=path, headers=headers), h11.Data(body), h11.EndOfMessage()):
                writer.write(http.send(event) or b"")
            status, answer = await _answer(http, reader)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
    if status != 200:
        raise RuntimeError(f"{method} {path} was refused with {status}: {answer.decode(errors='replace')}")
    found = json.loads(answer)
    assert isinstance(found, dict)
    return found


async def _answer(http: h11.Connection, reader: asyncio.StreamReader) -> tuple[int, bytes]:
    status = 0
    body = b""
    while not isinstance(event := http.next_event(), h11.EndOfMessage):
        if event is h11.NEED_DATA:
            http.receive_data(await reader.read(65536))
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.ConnectionClosed):
            raise ConnectionError("the simulator closed the connection")
    return status, body
