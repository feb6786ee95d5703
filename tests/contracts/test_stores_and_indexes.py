"""Our stores, indexes, adapters and executors keep the contracts that users' are held to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import dspex
from dspex.programs import Adapter, ChatAdapter, JSONAdapter, ToolAdapter, XMLAdapter, choose_adapter
from dspex.protocols.cache import CacheStore
from dspex.protocols.executor import Executor
from dspex.protocols.retrieval import Retriever
from dspex.retrieval import Bm25Index, HashingEmbedder, VectorIndex
from dspex.testing import FixedRetriever
from dspex.testing.conformance import AdapterContract, CacheStoreContract, ExecutorContract, RetrieverContract

PASSAGES = ["the heron waits at the water", "a heron and a heron", "the swift sleeps on the wing"]


class TestSqliteIndex(RetrieverContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.path = tmp_path / "index.db"

    def make_retriever(self) -> Retriever:
        return dspex.SqliteIndex.build(self.path, [dspex.Passage(text) for text in PASSAGES])


class TestVectorIndex(TestSqliteIndex):
    def make_retriever(self) -> Retriever:
        return VectorIndex.build(self.path, [dspex.Passage(text) for text in PASSAGES], HashingEmbedder(32))


class TestVectorGraph(TestSqliteIndex):
    def make_retriever(self) -> Retriever:
        passages = [dspex.Passage(text) for text in PASSAGES]
        return VectorIndex.build(self.path, passages, HashingEmbedder(32), exact_up_to=0)


class TestBm25Index(TestSqliteIndex):
    def make_retriever(self) -> Retriever:
        return Bm25Index.build(self.path, [dspex.Passage(text) for text in PASSAGES])


class TestFixedRetriever(RetrieverContract):
    def make_retriever(self) -> Retriever:
        return FixedRetriever(PASSAGES)


class TestSqliteCache(CacheStoreContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.path = tmp_path / "cache.db"

    def make_store(self) -> CacheStore:
        return dspex.SqliteCache(self.path)


class TestApp(ExecutorContract):
    @asynccontextmanager
    async def open_executor(self) -> AsyncIterator[Executor]:
        async with dspex.App() as app:
            yield app.running_tree().runner


class TestChatAdapter(AdapterContract):
    def make_adapter(self) -> Adapter:
        return ChatAdapter()


class TestJSONAdapter(AdapterContract):
    def make_adapter(self) -> Adapter:
        return JSONAdapter()


class TestXMLAdapter(AdapterContract):
    def make_adapter(self) -> Adapter:
        return XMLAdapter()


class TestAutoAdapter(AdapterContract):
    def make_adapter(self) -> Adapter:
        found = choose_adapter("auto")
        assert found is not None
        return found


class TestToolAdapter(AdapterContract):
    def make_adapter(self) -> Adapter:
        return ToolAdapter()
