"""Several hops of searching: notes, queries, and the reasons to stop."""

from __future__ import annotations

from dspex import App, Passage
from dspex.retrieval import Findings, MultiHop
from dspex.testing import FixedRetriever, ScriptedLM

PASSAGES = {
    "Who taught the author?": ["Ada wrote it."],
    "teacher of Ada": ["Ada wrote it.", "Mary taught Ada."],
    "nothing new": ["Mary taught Ada."],
}


def said(*notes: str, query: str = "", is_enough: bool = False) -> dict[str, object]:
    return {"reasoning": "", "new_notes": list(notes), "is_enough": is_enough, "query": query}


async def search(lm: ScriptedLM, *, hops: int = 3, k: int = 4) -> tuple[Findings, FixedRetriever]:
    retriever = FixedRetriever(lambda query: [Passage(text) for text in PASSAGES[query]])
    async with App(lm, retriever=retriever) as app:
        return await app.run(MultiHop(hops=hops, k=k), question="Who taught the author?"), retriever


async def test_a_query_follows_from_the_notes_until_they_are_enough() -> None:
    lm = ScriptedLM(
        [said("Ada wrote it", query="teacher of Ada"), said("Ada wrote it", "Mary taught Ada", is_enough=True)]
    )

    found, retriever = await search(lm, k=2)

    assert found == Findings(
        [Passage("Ada wrote it."), Passage("Mary taught Ada.")],
        ["Ada wrote it", "Mary taught Ada"],
        ["Who taught the author?", "teacher of Ada"],
        is_enough=True,
    )
    assert retriever.queries == [("Who taught the author?", 2), ("teacher of Ada", 2)]
    second = lm.requests[1].prompt
    assert "Mary taught Ada." in second
    assert "[2]" not in second  # what was found before is not shown again


async def test_it_stops_when_there_is_nothing_more_to_find() -> None:
    """An asked query, an empty one, the number of hops, and a search without anything new."""
    asked = "WHO taught  the author?"
    for answers, hops, queries in (
        ([said("a", query=asked)], 3, 1),
        ([said("a")], 3, 1),
        ([said("a", query="teacher of Ada")], 1, 1),
        ([said("a", query="teacher of Ada"), said(query="nothing new")], 5, 3),
    ):
        lm = ScriptedLM(answers)
        found, _ = await search(lm, hops=hops)
        assert (len(found.queries), found.is_enough) == (queries, False)
        assert len(lm.requests) == len(answers)


async def test_an_optimizer_finds_its_predictor() -> None:
    assert list(MultiHop().predictors()) == ["take_notes.predict"]
