"""The measurements of retrievers: searching and indexing 10,000 passages. They inform."""

from __future__ import annotations

from benchmarks._row import Group, Row

__all__ = ["SEARCH_GROUPS"]


def _groups() -> tuple[Group, ...]:
    """Return the groups of searching and indexing 10,000 passages; they inform."""

    def row(name: str, title: str, ours: str, peer: str, versus: str) -> Row:
        return Row(name, title, f"searches:{ours}@asyncio", f"searches:{peer}@asyncio", versus, None)

    plain, library = "SQLite's FTS5 alone", "bm25s alone"
    return (
        Group(
            "search-words",
            (
                row("search-words", "search 10,000 passages by words, SqliteIndex", "words", "fts5", plain),
                row("search-filtered", "the same, with a filter", "words_filtered", "fts5", plain),
                row("search-bm25", "search 10,000 passages by words, Bm25Index", "bm25", "bm25s", library),
            ),
        ),
        Group(
            "search-vectors",
            (
                row("search-vectors", "search 10,000 vectors of 384, VectorIndex", "vectors", "numpy", "numpy alone"),
                Row(
                    "search-dspy",
                    "search 10,000 vectors of 384, VectorIndex",
                    "searches:vectors@asyncio",
                    "searches:dspy_embeddings@asyncio",
                    "DSPy 3.4.1 Embeddings",
                    None,
                    reads="gain",
                ),
            ),
        ),
        Group(
            "index",
            (
                row("index-words", "index 10,000 passages, SqliteIndex", "build_words", "build_fts5", plain),
                row("index-bm25", "index 10,000 passages, Bm25Index", "build_bm25", "build_bm25s", library),
            ),
        ),
        Group("retriever", (row("retriever", "a search through its actor", "hop", "to_thread", "asyncio.to_thread"),)),
    )


SEARCH_GROUPS = _groups()
