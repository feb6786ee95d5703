"""The retrievers that are compared: each a function from questions to rankings of titles."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dspex
from dspex import Passage
from dspex.retrieval import Bm25Index, HashingEmbedder, VectorIndex, fused

__all__ = ["MOST", "Corpus", "embedded", "sides"]

MOST = 20
"""The most passages that are looked at."""
_CANDIDATES = 50

Side = Callable[[], Sequence[Sequence[str]]]
Keep = Callable[[Sequence[Sequence[float]]], object]


@dataclass(frozen=True)
class Corpus:
    """Passages and questions."""

    passages: Sequence[Passage]
    questions: Sequence[str]
    folder: Path
    """The folder for indexes."""

    def texts(self, most: int | None = None) -> list[str]:
        """Return the passages for whoever takes texts alone, each with so many characters of its text."""
        return [f"{each.title}\n{each.text[:most]}" for each in self.passages]


def sides(
    corpus: Corpus, passages: Sequence[Sequence[float]] | None, queries: Sequence[Sequence[float]] | None
) -> dict[str, Side]:
    """
    Return what can be compared here, by name.

    Args:
        corpus: The data.
        passages: The passages' vectors of a real model; None leaves out what needs them.
        queries: The questions' vectors.
    """
    found: dict[str, Side] = {
        "`SqliteIndex` (FTS5)": lambda: _words(corpus),
        "`VectorIndex`, hashing embedder": lambda: _hashed(corpus),
    }
    if importlib.util.find_spec("bm25s") is not None:
        found["`Bm25Index` (bm25s)"] = lambda: _bm25(corpus)
    if importlib.util.find_spec("dspy") is not None:
        found["DSPy `Embeddings`, our hashing embedder"] = lambda: _dspy(corpus, HashingEmbedder())
    if passages is not None and queries is not None:
        found["`VectorIndex`, e5-small"] = lambda: _titles(_vectors(corpus, passages, queries))
        found["hybrid of FTS5 and e5-small"] = lambda: _hybrid(corpus, passages, queries)
        found["FTS5's best 50, reranked by e5-small"] = lambda: _reranked(corpus, passages, queries)
        if importlib.util.find_spec("dspy") is not None:
            known = dict(zip([*corpus.texts(), *corpus.questions], [*passages, *queries], strict=True))
            found["DSPy `Embeddings`, e5-small"] = lambda: _dspy(corpus, lambda texts: [known[each] for each in texts])
    return found


def _titles(rankings: Sequence[Sequence[Passage]]) -> list[list[str]]:
    return [list(dict.fromkeys(each.title for each in found)) for found in rankings]


def _searched(index: Any, corpus: Corpus, k: int = MOST) -> list[list[Passage]]:
    try:
        return [list(index.search(question, k)) for question in corpus.questions]
    finally:
        index.close()


def _word_rankings(corpus: Corpus, k: int) -> list[list[Passage]]:
    return _searched(dspex.SqliteIndex.build(corpus.folder / "words.db", corpus.passages), corpus, k)


def _words(corpus: Corpus) -> list[list[str]]:
    return _titles(_word_rankings(corpus, MOST))


def _bm25(corpus: Corpus) -> list[list[str]]:
    return _titles(_searched(Bm25Index.build(corpus.folder / "bm25", corpus.passages), corpus))


def _hashed(corpus: Corpus) -> list[list[str]]:
    return _titles(
        _searched(VectorIndex.build(corpus.folder / "hashed.db", corpus.passages, HashingEmbedder()), corpus)
    )


def _vectors(
    corpus: Corpus, passages: Sequence[Sequence[float]], queries: Sequence[Sequence[float]], k: int = MOST
) -> list[list[Passage]]:
    index = VectorIndex.build(corpus.folder / "e5.db", corpus.passages, "e5", vectors=passages)
    try:
        return [
            list(index.search(text, k, vector=query)) for text, query in zip(corpus.questions, queries, strict=True)
        ]
    finally:
        index.close()


def _hybrid(corpus: Corpus, passages: Sequence[Sequence[float]], queries: Sequence[Sequence[float]]) -> list[list[str]]:
    words = _word_rankings(corpus, _CANDIDATES)
    meaning = _vectors(corpus, passages, queries, _CANDIDATES)
    return _titles([fused(pair, MOST) for pair in zip(words, meaning, strict=True)])


def _reranked(
    corpus: Corpus, passages: Sequence[Sequence[float]], queries: Sequence[Sequence[float]]
) -> list[list[str]]:
    known = dict(zip([each.title for each in corpus.passages], passages, strict=True))
    found = []
    for words, query in zip(_word_rankings(corpus, _CANDIDATES), queries, strict=True):
        order = sorted(words, key=lambda each: -_cosine(known[each.title], query))
        found.append(order[:MOST])
    return _titles(found)


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    dot = sum(a * b for a, b in zip(one, other, strict=True))
    lengths = sum(a * a for a in one) ** 0.5 * sum(b * b for b in other) ** 0.5
    return float(dot / lengths)


def _dspy(corpus: Corpus, embed: Callable[[list[str]], Sequence[Sequence[float]]]) -> list[list[str]]:
    import dspy
    import numpy as np

    embedder = dspy.Embedder(
        lambda texts: np.array([list(each) for each in embed(texts)], dtype=np.float32), caching=False
    )
    search = dspy.retrievers.Embeddings(corpus=corpus.texts(), embedder=embedder, k=MOST)
    return [[text.partition("\n")[0] for text in search(question).passages] for question in corpus.questions]


async def _embedded(url: str, model: str, texts: Sequence[str], known: list[list[float]], keep: Keep) -> None:
    lm = dspex.LM(f"openai/{model}", api_base=url, api_key="none")
    async with dspex.App(lm, cache=None, deadline=600) as app:
        while len(known) < len(texts):
            some = list(texts[len(known) : len(known) + 16])
            vectors = [list(each) for each in await app.run(dspex.Embed(), texts=some)]
            keep(vectors)
            known += vectors


def embedded(url: str, model: str, texts: Sequence[str], file: Path) -> list[list[float]]:
    """
    Return vectors of a server that speaks OpenAI's protocol, asked as every program asks it.

    Args:
        url: The server.
        model: The name under which it is asked.
        texts: The texts.
        file: The vectors that are known already, one a line: a run that was stopped goes on.
    """
    known = [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.exists() else []
    if len(known) < len(texts):
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as out:

            def keep(vectors: Sequence[Sequence[float]]) -> None:
                out.write("".join(json.dumps(list(each)) + "\n" for each in vectors))
                out.flush()

            asyncio.run(_embedded(url, model, texts, known, keep))
    return known[: len(texts)]
