"""From this Python's documentation to an index on disk and questions about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dspex.app.demo.corpus import passages
from dspex.app.demo.options import Sizes
from dspex.app.demo.questions import QuestionSets, questions, split
from dspex.app.demo.show import Show
from dspex.errors import ConfigError
from dspex.protocols.retrieval import Passage
from dspex.services.retrieval.sqlite_index import SqliteIndex

__all__ = ["Library", "build_library"]

_USUAL = 6_100
"""About how many passages a Python has: only the bar needs to know beforehand."""


@dataclass(frozen=True, slots=True)
class Library:
    """An index, the questions about it, and the passage that answers each."""

    index: Path
    passages: int
    sets: QuestionSets
    gold: Mapping[str, Passage]


def build_library(folder: Path, sizes: Sizes, seed: int, show: Show) -> Library:
    """
    Read the documentation, write the index and draw the questions, in the calling thread.

    Raises:
        ConfigError: The documentation does not give as many questions.
        RetrievalError: The index cannot be written.
    """
    with show.progress("reading", _USUAL) as tell:
        found = passages(tell)
    index = folder / "python.index"
    with show.progress("indexing", len(found)) as tell:
        SqliteIndex.build(index, found, tell)
    with show.progress("drawing questions", None):
        try:
            drawn = questions(found, sizes.questions, seed)
        except ConfigError as error:
            raise ConfigError(
                f"--questions {sizes.ask}: with those to learn from and to be scored on, {error}"
            ) from error
        sets = split(drawn, train=sizes.train, dev=sizes.dev)
    by_name = {passage.title: passage for passage in found}
    every = (*sets.train, *sets.dev, *sets.ask)
    gold = {question.question: by_name[question.answer] for question in every}
    return Library(index, len(found), sets, gold)
