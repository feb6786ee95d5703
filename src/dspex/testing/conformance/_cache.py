"""The contract of a store of answers: what was stored comes back as it was, or not at all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

from dspex.protocols.cache import CacheStore, OpenCacheStore
from dspex.protocols.content import Citation, ReasoningPart, ToolCall
from dspex.protocols.lm import Completion, LMResponse, TokenLogprob, Usage

__all__ = ["CacheStoreContract"]

_ANSWERS: Final = {
    "plain": LMResponse((Completion("Ada"),), Usage(3, 1), "m"),
    "empty": LMResponse((Completion(""),), Usage(), "m"),
    "letters": LMResponse((Completion("Grüße 😀 \x00 \r\n \u2028 ' \" \\"),), Usage(3, 1), "m"),
    "several": LMResponse((Completion("a"), Completion("b", "stop")), Usage(3, 2), "m", request_id="r"),
    "tools": LMResponse((Completion("", "tool_calls", (ToolCall("1", "f", {"a": [1, None]}),)),), Usage(3, 1), "m"),
    "thoughts": LMResponse(
        (
            Completion(
                "x",
                reasoning=(ReasoningPart("hm", "anthropic", {"signature": "s"}),),
                logprobs=(TokenLogprob("x", -0.1, (("y", -2.5),)),),
                citations=(Citation("x", "title"),),
            ),
        ),
        Usage(3, 1, 1, 1, 1),
        "m",
        headers={"x-a": "b"},
    ),
}


class CacheStoreContract(ABC):
    """The contract of every ``CacheStore``; the subclass makes one."""

    keeps: bool = True
    """True when answers are still there when the store is opened again."""

    @abstractmethod
    def make_store(self) -> CacheStore:
        """Return a fresh and empty store."""

    def test_what_is_stored_comes_back(self) -> None:
        """Equal in every part; what was never stored is None."""
        with _opened(self.make_store()) as store:
            for key, answer in _ANSWERS.items():
                assert store.get(key) is None, f"{key} was there before it was stored"
                store.set(key, answer)
                assert store.get(key) == answer, f"the answer {key!r} came back as another"

    def test_the_last_one_stored_counts(self) -> None:
        """A refreshed answer takes the place of the older one."""
        with _opened(self.make_store()) as store:
            store.set("k", _ANSWERS["plain"])
            store.set("k", _ANSWERS["several"])
            assert store.get("k") == _ANSWERS["several"], "the older answer came back"

    def test_only_the_very_answer_is_removed(self) -> None:
        """Somebody may have stored a better one meanwhile."""
        with _opened(self.make_store()) as store:
            store.set("k", _ANSWERS["plain"])
            store.remove("k", _ANSWERS["several"])
            assert store.get("k") == _ANSWERS["plain"], "another answer than the stored one removed it"
            store.remove("k", _ANSWERS["plain"])
            assert store.get("k") is None, "the answer is still there"
            store.remove("k", _ANSWERS["plain"])
            store.remove("never", _ANSWERS["plain"])

    def test_a_store_is_opened_again(self) -> None:
        """With what it held, where it keeps anything."""
        made = self.make_store()
        with _opened(made) as store:
            store.set("k", _ANSWERS["plain"])
        with _opened(made) as store:
            assert store.get("k") == (_ANSWERS["plain"] if self.keeps else None)

    def test_it_is_read_and_written_at_the_same_time(self) -> None:
        """One thread reads while another writes; a reader sees an answer as it was stored, or none."""
        with _opened(self.make_store()) as store, ThreadPoolExecutor(1) as reading, ThreadPoolExecutor(1) as writing:

            def write() -> None:
                for number in range(200):
                    store.set(f"k{number % 7}", _ANSWERS["letters"] if number % 2 else _ANSWERS["tools"])

            def read() -> list[LMResponse | None]:
                return [store.get(f"k{number % 7}") for number in range(200)]

            wrote, found = writing.submit(write), reading.submit(read)
            wrote.result()
            for answer in found.result():
                assert answer in (None, _ANSWERS["letters"], _ANSWERS["tools"]), "an answer that was never stored"


@contextmanager
def _opened(store: CacheStore) -> Iterator[OpenCacheStore]:
    opened = store.open()
    try:
        yield opened
    finally:
        opened.close()
