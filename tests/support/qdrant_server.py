"""
A stand-in for a Qdrant server: the paths that our index asks, on a real socket, over the embedded Qdrant.

No package of Debian's or Python's has the server itself. The models of Qdrant's own client, which are made from the
server's OpenAPI description, read the questions, and our index's client reads the answers with them.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import TypeAdapter
from qdrant_client import QdrantClient, models

from tests.support.json_server import Answer, Asked, json_server

__all__ = ["QdrantEngine", "qdrant_server"]

_PATH = re.compile(r"/search/collections/([^/]+)(/.*)?$")


class QdrantEngine:
    """Answers questions of Qdrant's REST interface."""

    def __init__(self) -> None:
        self.client = QdrantClient(":memory:", force_disable_check_same_thread=True)

    def __call__(self, asked: Asked) -> Answer:
        matched = _PATH.match(asked.path)
        assert matched is not None, asked.path
        name, path, body = matched[1], matched[2] or "", asked.body
        if (asked.method, path) == ("GET", "/exists"):
            return _done({"exists": self.client.collection_exists(name)})
        if (asked.method, path) == ("PUT", ""):
            if self.client.collection_exists(name):
                return 409, {"status": {"error": f"Collection `{name}` already exists!"}, "time": 0.0}
            config = models.CreateCollection.model_validate(body).vectors
            return _done(self.client.create_collection(name, vectors_config=config))
        if not self.client.collection_exists(name):
            return 404, {"status": {"error": f"Not found: Collection `{name}` doesn't exist!"}, "time": 0.0}
        return _done(self._points(asked.method, path, name, body))

    def _points(self, method: str, path: str, name: str, body: object) -> object:
        match method, path:
            case "GET", "":
                return self.client.get_collection(name).model_dump(mode="json")
            case "PUT", "/index":
                index = models.CreateFieldIndex.model_validate(body)
                assert (index.field_name, index.field_schema) == ("facts", models.PayloadSchemaType.KEYWORD)
                return _UPDATED
            case "PUT", "/points":
                self.client.upsert(name, points=models.PointsList.model_validate(body).points)
                return _UPDATED
            case "POST", "/points":
                request = models.PointRequest.model_validate(body)
                found = self.client.retrieve(
                    name,
                    ids=request.ids,
                    with_payload=request.with_payload or False,
                    with_vectors=request.with_vector or False,
                )
                return [each.model_dump(mode="json") for each in found]
            case "POST", "/points/delete":
                points: Any = TypeAdapter(models.PointsSelector).validate_python(body)
                self.client.delete(name, points_selector=points)
                return _UPDATED
            case "POST", "/points/query":
                query = models.QueryRequest.model_validate(body)
                answer = self.client.query_points(
                    name,
                    query=query.query.nearest if isinstance(query.query, models.NearestQuery) else query.query,
                    query_filter=query.filter,
                    limit=query.limit or 10,
                    offset=query.offset,
                    with_payload=query.with_payload or False,
                )
                return answer.model_dump(mode="json")
        raise AssertionError(f"{method} {path}")


_UPDATED = {"operation_id": 1, "status": "completed"}


def _done(result: object) -> Answer:
    return 200, {"result": result, "status": "ok", "time": 0.0}


@contextmanager
def qdrant_server(answers: Callable[[Asked], Answer] | None = None) -> Iterator[str]:
    """Serve in a thread of its own, and give the address."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="qdrant server")
    thread.start()

    async def opened() -> Any:
        serving = json_server(answers or QdrantEngine())
        return serving, await serving.__aenter__()

    async def end(serving: Any) -> None:
        await serving.__aexit__(None, None, None)
        for each in asyncio.all_tasks() - {asyncio.current_task()}:  # connections that a client keeps
            each.cancel()
            await asyncio.wait([each])

    serving, server = asyncio.run_coroutine_threadsafe(opened(), loop).result()
    try:
        yield server.url
    finally:
        asyncio.run_coroutine_threadsafe(end(serving), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
