"""A server of scripted JSON answers on a real socket, which remembers what it was asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

__all__ = ["Asked", "JsonServer", "json_server"]

Answer = tuple[int, object] | bytes
"""A status and JSON (or bytes of a body), or the raw bytes of the whole answer; empty bytes hang up."""


@dataclass
class Asked:
    """One question that came."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: object


@dataclass
class JsonServer:
    """Answers by ``answers``, the last one again and again; or by a function of the question."""

    answers: list[Answer] | Callable[[Asked], Answer]
    asked: list[Asked] = field(default_factory=list)
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                method, target, _ = line.decode().split(" ", 2)
                headers: dict[str, str] = {}
                while (header := (await reader.readline()).decode().strip()) != "":
                    name, _, value = header.partition(":")
                    headers[name.lower()] = value.strip()
                data = await reader.readexactly(int(headers.get("content-length", 0)))
                parts = urlsplit(target)
                question = Asked(method, parts.path, parse_qs(parts.query), headers, json.loads(data) if data else None)
                self.asked.append(question)
                answer = self._next(question)
                if isinstance(answer, bytes):
                    writer.write(answer)
                    break
                status, body = answer
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(content)}\r\n\r\n".encode() + content)
                await writer.drain()
        finally:
            writer.close()

    def _next(self, question: Asked) -> Answer:
        if callable(self.answers):
            return self.answers(question)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@asynccontextmanager
async def json_server(answers: list[Answer] | Callable[[Asked], Answer]) -> AsyncIterator[JsonServer]:
    served = JsonServer(answers)
    server = await asyncio.start_server(served.serve, "127.0.0.1", 0)
    served.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/search"
    async with server:
        yield served
