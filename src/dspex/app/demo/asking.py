"""Many questions at once, each its own request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence

from dspex.app._app import App
from dspex.app.demo.board import Board
from dspex.app.demo.chaos import kill_in_turn
from dspex.app.demo.program import RAG
from dspex.app.demo.questions import Question

__all__ = ["ask_all"]

_KILL_EVERY = 2.0
_DRAW_EVERY = 0.1


async def ask_all(
    app: App,
    program: RAG,
    asked: Sequence[Question],
    board: Board,
    draw: Callable[[], object],
    *,
    at_once: int,
    kill: bool,
) -> None:
    """
    Ask every question, a number of them at once, and write down on the board how each ends.

    Args:
        app: Who runs them.
        program: What runs.
        asked: The questions.
        board: Where it is written down.
        draw: Called ten times a second meanwhile.
        at_once: How many run at the same time.
        kill: Whether actors are killed meanwhile, one every two seconds.

    Cancellation: the running requests are stopped first.
    """
    detach = app.telemetry.attach("dspex.", board.handle)
    places = iter(range(len(asked)))
    try:
        async with asyncio.TaskGroup() as around:
            beside = [around.create_task(_draw(app, draw))]
            if kill:
                beside.append(around.create_task(kill_in_turn(app, _KILL_EVERY, board.killed)))
            async with asyncio.TaskGroup() as workers:
                for _ in range(at_once):
                    workers.create_task(_work(app, program, asked, board, places))
            board.ended = board.now()
            for task in beside:
                task.cancel()
    finally:
        detach()
    draw()


async def _work(app: App, program: RAG, asked: Sequence[Question], board: Board, places: Iterator[int]) -> None:
    """Take the next question until there is none."""
    for place in places:
        request = app.start(program, question=asked[place].question)
        board.requests[place] = request
        board.ends[place] = await request.outcome()


async def _draw(app: App, draw: Callable[[], object]) -> None:
    while True:
        draw()
        await app.running_tree().runtime.sleep(_DRAW_EVERY)
