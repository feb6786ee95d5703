"""The demo from beginning to end."""

from __future__ import annotations

import asyncio
import platform
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from dspex.app._app import App
from dspex.app.dashboard import Dashboard
from dspex.app.demo import ending, model
from dspex.app.demo.asking import ask_all
from dspex.app.demo.board import Board
from dspex.app.demo.chaos import kill_in_turn
from dspex.app.demo.library import Library, build_library
from dspex.app.demo.options import DemoOptions
from dspex.app.demo.program import RAG, WithGold
from dspex.app.demo.scores import score_programs
from dspex.app.demo.show import Show
from dspex.services.retrieval.sqlite_index import SqliteIndex

__all__ = ["SAYS_SO", "run_demo"]

SAYS_SO = (
    "The model here is a rule learner without weights: it cannot read, it only notices which rule the demonstrations "
    "follow. --lm puts a real one in its place."
)

_DEADLINE = 60.0
_KILL_EVERY = 2.0
_STAY = 600.0
"""Seconds that the page is there after the demo has ended."""


def run_demo(options: DemoOptions, show: Show, agree: Callable[[str], bool], *, stay: bool = False) -> int:
    """
    Run the demo and return the exit code: 0 when every question was answered.

    Args:
        options: The options.
        show: The view.
        agree: Asks the user whether to go ahead, before a real model is paid.
        stay: True where somebody can end it: the page, if there is one, then stays for a while.

    Raises:
        DspexError: Something that the user has to put right.
        KeyboardInterrupt: The user wants no more; nothing is left behind.
    """
    if options.simulated:
        model.check_port(options.port)
    else:
        asyncio.run(model.check_model(options))
    with tempfile.TemporaryDirectory(prefix="dspex-demo-") as folder:
        show.title(1, f"The documentation of Python {platform.python_version()}, as an index")
        library = build_library(Path(folder), options.sizes, options.seed, show)
        show.say(f"{library.passages:,} docstrings of its standard library in one SQLite file")
        if not options.simulated and not agree(ending.estimate(library, options.sizes)):
            show.say("Nothing was asked.")
            return 0
        return asyncio.run(_Story(options, show, library, Path(folder), stay=stay).run())


class _Story:
    """Everything after the index, on one loop."""

    def __init__(self, options: DemoOptions, show: Show, library: Library, folder: Path, *, stay: bool) -> None:
        self._options = options
        self._stay = stay
        self._show = show
        self._library = library
        self._folder = folder

    async def run(self) -> int:
        async with model.open_provider(self._options) as provider, self._app(provider) as app:
            self._tree(app, provider)
            board = await self._ask(app, provider)
            await self._learn(app, provider)
            ending.close(self._show, app, board, simulated=self._options.simulated)
            if self._options.watch and self._stay:
                self._show.say(f"The page stays for {_STAY / 60:.0f} minutes, or until Ctrl-C: {app.dashboard_url}")
                await app.runtime.sleep(_STAY)
        return 0 if board.answered == board.total else 1

    def _app(self, provider: model.DemoProvider) -> App:
        index = self._library.index
        patience = model.PATIENCE_REAL if provider.simulator is None else model.PATIENCE_SIMULATED
        simulated = provider.simulator is not None
        page = Dashboard("127.0.0.1:0", capture=True, note=model.INVENTED if simulated else "")
        return App(
            provider.lm,
            retriever=index,
            retrievers={"gold": WithGold(SqliteIndex(index), self._library.gold)},
            home=self._folder / "home",
            timeouts=patience,
            deadline=_DEADLINE,
            seed=self._options.seed,
            prices=model.PRICES if simulated else None,
            dashboard=page if self._options.watch else None,
            watch="demo" if self._options.watch else None,
        )

    def _tree(self, app: App, provider: model.DemoProvider) -> None:
        self._show.title(2, "An App is a tree of supervised actors")
        if self._options.simulated:
            self._show.notice(model.INVENTED)
            self._show.notice(SAYS_SO)
        else:
            self._show.notice(f"The model here is {provider.lm.model}.")
        self._show.block(app.tree().render())
        if self._options.watch:
            self._show.notice(f"See it run: {app.dashboard_url}")

    async def _ask(self, app: App, provider: model.DemoProvider) -> Board:
        options, sizes = self._options, self._options.sizes
        storm = ["one call in five fails"] if options.simulated else []
        storm += ["an actor is killed every 2 s"] if options.kills else []
        while_ = f", while {' and '.join(storm)}" if storm else ""
        self._show.title(3, f"{sizes.ask} questions, {sizes.at_once} at once{while_}")
        board = Board(sizes.ask, app.running_tree().runtime.clock.now)
        with self._show.board(board) as draw:
            killing = partial(kill_in_turn, app, _KILL_EVERY, board.killed) if options.kills else None
            asked = [{"question": each.question} for each in self._library.sets.ask]
            await ask_all(app, RAG(), asked, board, draw, at_once=sizes.at_once, beside=killing)
        ending.answered(self._show, board, await provider.met())
        await self._ask_again(app)
        return board

    async def _ask_again(self, app: App) -> None:
        """Ask the same questions once more: the cache answers, whatever became of its actor meanwhile."""
        now = app.running_tree().runtime.clock.now
        started = now()
        rag = RAG()
        asked = [app.start(rag, question=each.question) for each in self._library.sets.ask]
        outcomes = await asyncio.gather(*(request.outcome() for request in asked))
        cached = sum(end.totals.cached_calls for end in outcomes if end.totals is not None)
        self._show.say(
            f"asked again: {cached} of {len(asked)} from the cache, in {now() - started:.1f} s, searches included"
        )

    async def _learn(self, app: App, provider: model.DemoProvider) -> None:
        sizes = self._options.sizes
        self._show.title(4, f"Does it learn? Scores on {sizes.dev} questions of their own")
        if self._options.simulated:
            await provider.calm()
            self._show.say("The faults stop here: they cost time and change no answer.")
        await score_programs(app, self._library, sizes, self._options.seed, self._show)
