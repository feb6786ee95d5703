"""Several searches one after the other, each with a query that the notes so far have led to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dspex.programs.chain_of_thought import ChainOfThought
from dspex.programs.fields import InputField, OutputField
from dspex.programs.module import Module
from dspex.programs.retrieve import Retrieve
from dspex.programs.signature import Signature
from dspex.protocols.retrieval import Passage

if TYPE_CHECKING:
    from dspex.protocols.filters import FilterLike

__all__ = ["Findings", "MultiHop", "TakeNotes"]


class TakeNotes(Signature):
    """
    Note the facts in the passages that help to answer the question.

    If all notes together do not suffice, write a search query for the next missing fact, with names from the notes.
    """

    question: str = InputField()
    notes: list[str] = InputField(desc="facts noted so far")
    passages: list[Passage] = InputField(desc="found by the last query")
    new_notes: list[str] = OutputField(desc="one fact each, from the passages alone; none if nothing helps")
    is_enough: bool = OutputField(desc="True if all notes together answer the question")
    query: str = OutputField(desc="the next search; empty if the notes are enough")


@dataclass(frozen=True, slots=True)
class Findings:
    """
    The result of a search in several hops.

    Attributes:
        passages: Everything that was found, each passage once, in the order of the hops.
        notes: The facts that were noted, each once.
        queries: The queries that were searched, the first one the question itself.
        is_enough: True when the model said that its notes answer the question.
    """

    passages: list[Passage]
    notes: list[str]
    queries: list[str]
    is_enough: bool


class MultiHop(Module):
    """
    Search, take notes, and search again for what is missing: ``found = await self.search(question)``.

    After the multi-hop tutorials of DSPy (Baleen, arXiv 2101.00436), with one call of a model for each hop: it notes
    the facts of the passages, says whether they are enough, and writes the next query. Passages that an earlier hop has
    found are not shown again. It stops early: when the notes are enough, when there is no new query, and when a query
    finds nothing new.

    Args:
        retriever: A name of the App's ``retrievers``; None is its default one.
        hops: The most searches.
        k: Passages for each search.
        filter: A filter by metadata for every search.

    Raises:
        ValueError: ``hops`` or ``k`` is not a positive number.
    """

    def __init__(
        self, retriever: str | None = None, *, hops: int = 3, k: int = 4, filter: FilterLike | None = None
    ) -> None:
        if hops < 1:
            raise ValueError(f"hops={hops!r}: expected 1 or more searches")
        self.hops = hops
        self.retrieve = Retrieve(retriever, k=k, filter=filter)
        self.take_notes = ChainOfThought(TakeNotes)

    async def forward(self, question: str) -> Findings:
        """
        Return what was found.

        Raises:
            MissingInput: The question is not a text; nothing was searched.
            RetrievalError: The index cannot be searched.
            LMError, ResponseUnparsable: As ``Predict``; nothing of what was found is returned.
        Cancellation: the running step is cancelled.
        """
        found: dict[tuple[str, ...], Passage] = {}
        notes: dict[str, None] = {}
        queries: dict[str, None] = {}
        query, is_enough = question, False
        while query and _asked(query) not in map(_asked, queries) and len(queries) < self.hops:
            queries[query] = None
            fresh = {_key(each): each for each in await self.retrieve.forward(query) if _key(each) not in found}
            if not fresh:
                break
            found |= fresh
            said = await self.take_notes.forward(question=question, notes=list(notes), passages=list(fresh.values()))
            notes |= dict.fromkeys(note.strip() for note in said.new_notes if note.strip())
            is_enough, query = said.is_enough, said.query.strip()
            if is_enough:
                break
        return Findings(list(found.values()), list(notes), list(queries), is_enough)


def _key(passage: Passage) -> tuple[str, ...]:
    return (passage.id,) if passage.id else (passage.title, passage.text)


def _asked(query: str) -> str:
    return " ".join(query.casefold().split())
