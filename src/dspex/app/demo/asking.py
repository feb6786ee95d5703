"""Many questions at once, each its own request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence

from dspex.app._app import App
from dspex.app._view import RunnableProgram
from dspex.app.demo.board import Board

__all__ = ["ask_all"]

_DRAW_EVERY = 0.1


async def ask_all(
    app: App,
    program: RunnableProgram[..., object],
    asked: Sequence[Mapping[str, object]],
    board: Board,
    draw: Callable[[], object],
    *,
    at_once: int,
    beside: Callable[[], Coroutine[object, object, None]] | None = None,
) -> None:
    """
    Ask every question, a number of them at once, and write down on the board how each ends.

    Args:
        app: The App that runs them.
        program: The program.
        asked: The inputs of each question.
        board: Where it is written down.
        draw: Called ten times a second meanwhile.
        at_once: The number that run at the same time.
        beside: Runs meanwhile, and is cancelled at the end: what kills actors, for example.

    Cancellation: the running requests are stopped first.
    """
    detach = app.telemetry.attach("dspex.", board.handle)
    places = iter(range(len(asked)))
    try:
        async with asyncio.TaskGroup() as around:
            meanwhile = [around.create_task(_draw(app, draw))]
            if beside is not None:
                meanwhile.append(around.create_task(beside()))
            async with asyncio.TaskGroup() as workers:
                for _ in range(at_once):
                    workers.create_task(_work(app, program, asked, board, places))
            board.ended = board.now()
            for task in meanwhile:
                task.cancel()
    finally:
        detach()
    draw()


async def _work(
    app: App,
    program: RunnableProgram[..., object],
    asked: Sequence[Mapping[str, object]],
    board: Board,
    places: Iterator[int],
) -> None:
    """Take the next question until there is none."""
    for place in places:
        request = app.start(program, **asked[place])
        board.requests[place] = request
        board.ends[place] = await request.outcome()


async def _draw(app: App, draw: Callable[[], object]) -> None:
    while True:
        draw()
        await app.running_tree().runtime.sleep(_DRAW_EVERY)
