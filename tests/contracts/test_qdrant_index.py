"""An index in Qdrant keeps the contract, embedded in memory and in a folder, and over REST."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

import dspex
from dspex.protocols.retrieval import Retriever
from dspex.retrieval import HashingEmbedder, QdrantIndex
from dspex.testing.conformance import RetrieverContract
from tests.contracts.test_stores_and_indexes import PASSAGES
from tests.support.qdrant_server import qdrant_server

EMBEDDER = HashingEmbedder(32)


class _Qdrant(RetrieverContract):
    def make(self) -> QdrantIndex:
        raise NotImplementedError

    def make_retriever(self) -> Retriever:
        asyncio.run(self._fill())
        return self.make()

    async def _fill(self) -> None:
        index = self.make()
        await index.add([dspex.Passage(text) for text in PASSAGES])
        await index.close()


class TestFolder(_Qdrant):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.path = tmp_path / "qdrant"

    def make(self) -> QdrantIndex:
        return QdrantIndex("birds", EMBEDDER, path=self.path)


class TestServer(_Qdrant):
    @pytest.fixture(autouse=True)
    def _server(self) -> Iterator[None]:
        with qdrant_server() as self.url:
            yield

    def make(self) -> QdrantIndex:
        return QdrantIndex("birds", EMBEDDER, url=self.url)


class TestMemory(_Qdrant):
    def make(self) -> QdrantIndex:
        return QdrantIndex("birds", EMBEDDER, path=":memory:")

    def make_retriever(self) -> Retriever:
        index = self.make()
        asyncio.run(index.add([dspex.Passage(text) for text in PASSAGES]))
        return index
