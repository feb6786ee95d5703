"""The sentences about the numbers: beforehand, and at the end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import closing

from dspex.app._app import App
from dspex.app.demo.board import Board
from dspex.app.demo.library import Library
from dspex.app.demo.options import Sizes
from dspex.app.demo.program import RAG
from dspex.app.demo.show import Show
from dspex.programs import DEFAULT_ADAPTER
from dspex.services.retrieval.sqlite_index import SqliteIndex

__all__ = ["DEMOS", "YOURS", "answered", "close", "estimate", "totals"]

DEMOS = 4
"""The number of demonstrations that the optimizer bootstraps."""

_TOKENS_OUT = 120
"""The tokens that a real model spends on a short reasoning and an answer."""

YOURS = '''\
import asyncio
import dspex

class Answer(dspex.Signature):
    """Answer the question from the passages."""
    passages: list[dspex.Passage] = dspex.InputField()
    question: str = dspex.InputField()
    answer: str = dspex.OutputField(desc="a word or two")

class RAG(dspex.Module):
    def __init__(self) -> None:
        self.retrieve = dspex.Retrieve(k=3)
        self.answer = dspex.ChainOfThought(Answer)

    async def forward(self, question: str) -> Answer:
        found = await self.retrieve(question)
        return await self.answer(
            passages=found, question=question
        )

PASSAGES = [dspex.Passage("The team meets.", "Monday")]
TRAIN = [
    dspex.Example(question="Who meets?", answer="Monday")
]

async def main() -> None:
    index = dspex.SqliteIndex.build("my.index", PASSAGES)
    metric = dspex.exact_match()
    app = dspex.App("openai/gpt-5-mini", retriever=index)
    async with app:
        job = await app.compile(
            RAG(),
            dspex.BootstrapFewShot(metric),
            trainset=TRAIN,
        )
        rag = await job.result()
        found = await app.run(rag, question="Who meets?")
        print(found.answer)

asyncio.run(main())
'''
"""The same in the reader's own words; a test runs it."""


def answered(show: Show, board: Board, met: str) -> None:
    """Say how the questions ended."""
    restarts = f", {len(board.kills)} actors killed and restarted" if board.kills else ""
    show.say(f"{board.answered} of {board.total} answered in {board.elapsed:.1f} s{restarts}")
    if met:
        show.say(f"faults by the simulator's own count: {met}")
        show.say(f"{board.retries} calls tried again by the retry policy, the rest at once over a fresh socket")
    for reason in {str(failed.reason): failed.reason for failed in board.failed}.values():
        show.say(f"not answered: {type(reason).__name__}: {reason}")


def close(show: Show, app: App, board: Board, *, simulated: bool) -> None:
    """Say what is left of it, and the lines that do the same."""
    totals(show, app, board, simulated=simulated)
    show.title(6, "The same in an app of yours")
    show.block(YOURS, code=True)


def totals(show: Show, app: App, board: Board, *, simulated: bool = False) -> None:
    """Say what is left of it: the tree, latencies, tokens, dollars where prices are known."""
    show.title(5, "The same tree, after all that")
    show.block(app.tree().render())
    times = sorted(end.totals.duration for end in board.ends if end is not None and end.totals is not None)
    show.say(
        f"seconds for one of the {board.total} questions: "
        + ", ".join(f"p{share} {_percentile(times, share):.2f}" for share in (50, 95, 99))
    )
    tree = app.running_tree()
    hits = sum(tree.cache.table.hits.values()) if tree.cache is not None else 0
    book, spent = tree.book, tree.book.root.spent
    price = f", ${spent.usd:.2f}{' by invented prices' if simulated else ''}" if not spent.unpriced else ""
    show.say(
        f"{book.calls:,} calls paid for, {book.usage.total_tokens:,} tokens{price}; {hits:,} answers from the cache"
    )


def estimate(library: Library, sizes: Sizes) -> str:
    """Say beforehand how many calls a real model gets, and about how many tokens."""
    plain = sizes.ask + sizes.train + sizes.dev
    shown = 3 * sizes.dev
    tokens = plain * _prompt_tokens(library, demos=0) + shown * _prompt_tokens(library, demos=DEMOS)
    calls = plain + shown
    return (
        f"This will make about {calls} calls: some {_rounded(tokens)} tokens in, "
        f"{_rounded(_TOKENS_OUT * calls)} out, retries not counted."
    )


def _prompt_tokens(library: Library, demos: int) -> int:
    """Return about how many tokens one prompt has, four bytes each, by rendering one as the program would."""
    program = RAG()
    predictor = program.answer.predict
    asked = library.sets.train[: demos + 1]
    with closing(SqliteIndex(library.index)) as index:
        rows = [
            {"passages": list(index.search(each.question, program.retrieve.k)), "question": each.question}
            for each in asked
        ]
    shown = [{**row, "reasoning": "-" * 80, "answer": each.answer} for row, each in zip(rows, asked, strict=True)]
    prompt = (
        *DEFAULT_ADAPTER.prefix(predictor.signature, shown[:demos]),
        *DEFAULT_ADAPTER.turns(predictor.signature, rows[-1]),
    )
    return sum(len(message.text.encode()) for message in prompt) // 4


def _rounded(count: int) -> str:
    """Two digits are as much as an estimate can say."""
    size = 10 ** max(0, len(str(count)) - 2)
    return f"{round(count / size) * size:,}"


def _percentile(ordered: Sequence[float], share: int) -> float:
    """Return the nearest-rank percentile; 0 without values."""
    return ordered[max(0, math.ceil(share / 100 * len(ordered)) - 1)] if ordered else 0.0
