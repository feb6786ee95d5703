"""The demo with a model of this machine, from beginning to end."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from dspex.app._app import App
from dspex.app.config import read_cache_folder
from dspex.app.demo import ending
from dspex.app.demo.asking import ask_all
from dspex.app.demo.board import Board
from dspex.app.demo.chaos import targets
from dspex.app.demo.local.banking import SortMessage, read_banking, sorter
from dspex.app.demo.local.model_file import MODEL, check_gguf, fetch_model, fetch_server, missing
from dspex.app.demo.local.options import AT_ONCE, LocalOptions
from dspex.app.demo.local.pace import TIME, Pace
from dspex.app.demo.local.server import NAME, ModelServer, find_server, free_port, serving
from dspex.app.demo.scores import counting
from dspex.app.demo.show import ScoreRow, Show
from dspex.errors import ActorError, ConfigError
from dspex.evaluation import Comparison, Report, exact_match
from dspex.optimizers import BootstrapFewShot
from dspex.programs import Example, Predict
from dspex.protocols.executor import Failed
from dspex.protocols.model import LM
from dspex.runtime import GetOsProcess
from dspex.services.lm.limits import ClientLimits
from dspex.services.lm.retry import RetryPolicy
from dspex.services.lm.transport import Timeouts

__all__ = ["YOURS", "run_local", "verdict"]

_DEADLINE: Final = 900.0
_PATIENCE: Final = Timeouts(connect=5.0, read=600.0)
_LIMITS: Final = ClientLimits(
    max_in_flight=AT_ONCE,
    follow_latency=False,  # the slots are what there is
    retry=RetryPolicy(max_attempts=200, base=0.5, cap=3.0),  # a server that is killed takes its time to come back
    retry_reserve=1_000.0,
)
_LIMITS_OF_OTHERS: Final = replace(_LIMITS, retry=RetryPolicy(max_attempts=5, base=0.5, cap=3.0))
"""For a server that nobody here starts again."""
_WARM_UP: Final = AT_ONCE
_WORKED_OUT: Final = 4
_SHOWN: Final = 16
_SURE: Final = 0.05
_ENOUGH: Final = 30
"""Messages below which only a large difference can be told from chance."""
_LOOK: Final = 0.005
"""Seconds between two looks at how many messages are answered."""

YOURS = """\
import asyncio
import dspex
from dspex.runtime import ChildSpec, OsProcess, Supervisor

lm = dspex.LM(
    "llamacpp/mine", api_base="http://127.0.0.1:8080/v1"
)
server = ChildSpec("server", OsProcess, (
    ["llama-server", "-m", "mine.gguf", "--port", "8080"],
))

async def main() -> None:
    async with dspex.App(lm, adapter="json") as app:
        await app.runtime.start(Supervisor([server]))
        sort = dspex.Predict("message -> intent")
        print(await app.run(sort, message="My card is lost"))

asyncio.run(main())
"""


def run_local(options: LocalOptions, show: Show, agree: Callable[[str], bool]) -> int:
    """
    Run the demo and return the exit code: 0 when every message was answered.

    Args:
        options: The options.
        show: The view.
        agree: Asks the user whether to go ahead, before much is fetched.

    Raises:
        DspexError: Something that the user has to put right.
        KeyboardInterrupt: The user wants no more; no server is left behind.
    """
    show.title(1, "A real model on this machine")
    if options.api_base is not None:
        lm, server = find_server(options.api_base), None
    else:
        found = _server(options, show, agree)
        if found is None:
            show.say("Nothing was fetched.")
            return 0
        lm, server = found.lm, found
    show.notice(f"The model here is {lm.model_name}: what it scores is what it can do.")
    with tempfile.TemporaryDirectory(prefix="dspex-demo-") as folder:
        return asyncio.run(_LocalStory(options, show, lm, server, Path(folder)).run())


def _server(options: LocalOptions, show: Show, agree: Callable[[str], bool]) -> ModelServer | None:
    """Return the server to start, with all it needs in its place; None if the user does not want that fetched."""
    gguf = check_gguf(options.gguf) if options.gguf is not None else None
    port = free_port(options.port)
    cache = read_cache_folder()
    announced = missing(MODEL, cache, with_model=gguf is None)
    if announced and not agree(announced):
        return None
    packages = fetch_server(cache, show)
    return ModelServer(packages, gguf if gguf is not None else fetch_model(MODEL, cache, show), port)


class _LocalStory:
    """Everything that needs the model, on one loop."""

    def __init__(self, options: LocalOptions, show: Show, lm: LM, server: ModelServer | None, folder: Path) -> None:
        self._options = options
        self._show = show
        self._lm = lm
        self._server = server
        self._home = folder / "home"
        self._rows = read_banking()

    async def run(self) -> int:
        async with AsyncExitStack() as stack:
            app = await stack.enter_async_context(self._app())
            now = app.runtime.clock.now
            began = now()
            if self._server is not None:
                with self._show.progress("loading the model", None):
                    await stack.enter_async_context(serving(app, self._server))
            pace = await self._measure(app, now() - began)
            rows = self._rows.held_out[: self._options.rows or pace.rows()]
            self._announce(pace, len(rows))
            board = await self._ask(app, rows)
            await self._learn(app, rows)
            self._close(app, board, now() - began)
        return 0 if board.answered == board.total else 1

    def _app(self) -> App:
        return App(
            self._lm,
            adapter="json",
            home=self._home,
            limits=_LIMITS if self._server is not None else _LIMITS_OF_OTHERS,
            timeouts=_PATIENCE,
            deadline=_DEADLINE,
            seed=self._options.seed,
        )

    async def _measure(self, app: App, loading: float) -> Pace:
        """
        Ask a few messages that are not scored, and then take the time of a few more.

        The first are slower than any later ones: the server has read nothing yet of what all prompts begin with.
        """
        now = app.runtime.clock.now
        with self._show.progress("measuring how fast it is", None):
            for wave in (self._rows.train[-2 * _WARM_UP : -_WARM_UP], self._rows.train[-_WARM_UP:]):
                began = now()
                ends = await asyncio.gather(*(app.start(sorter(), **_inputs(each)).outcome() for each in wave))
                if failed := [end for end in ends if isinstance(end, Failed)]:
                    raise ConfigError(f"the model does not answer: {failed[0].reason}")
        return Pace(loading, (now() - began) / _WARM_UP)

    def _announce(self, pace: Pace, rows: int) -> None:
        seconds = pace.seconds(rows)
        self._show.say(
            f"loaded in {pace.loading:.0f} s; {pace.row:.1f} s for a message with {AT_ONCE} at once: "
            f"{rows} messages, asked, learned and asked again, will take about {_minutes(seconds)}"
        )
        if seconds > TIME:
            self._show.notice("This machine is slow, or busy: that is longer than the quarter of an hour we wanted.")

    async def _ask(self, app: App, rows: Sequence[Example]) -> Board:
        beside = ", the model's server among them" if self._server is not None else ""
        self._show.title(2, f"An App is a tree of supervised actors{beside}")
        self._show.block(app.tree().render())
        killed = "services and the model's server" if self._server is not None else "services"
        while_ = f", while {killed} are killed" if self._options.chaos else ""
        self._show.title(3, f"{len(rows)} messages to a bank, {AT_ONCE} at once{while_}")
        board = Board(len(rows), app.runtime.clock.now)
        killing = partial(self._kill_in_turn, app, board) if self._options.chaos else None
        with self._show.board(board) as draw:
            await ask_all(app, sorter(), list(map(_inputs, rows)), board, draw, at_once=AT_ONCE, beside=killing)
        ending.answered(self._show, board, "")
        return board

    async def _kill_in_turn(self, app: App, board: Board) -> None:
        """
        Kill the model's server, by the system's SIGKILL, and then one service after the other.

        One dies each time that a fifth of the messages is answered, however long that takes on this machine.
        """
        names = [*([NAME] if self._server is not None else []), *targets(app)]
        place = 0
        while True:
            await app.runtime.sleep(_LOOK)
            if board.answered < (place + 1) * board.total / 5:
                continue
            name, place = names[place % len(names)], place + 1
            ref = app.runtime.whereis(name)
            if ref is None:  # it is not back yet
                continue
            if name != NAME:
                board.killed(name)
                ref.kill()
                continue
            try:
                running = await ref.call(GetOsProcess())
            except ActorError:  # it has ended by itself
                continue
            board.killed(name)
            os.kill(running.pid, signal.SIGKILL)

    async def _learn(self, app: App, rows: Sequence[Example]) -> None:
        """Have an optimizer work out demonstrations, and score with and without them on the same messages."""
        self._show.title(4, f"Does it learn? Scores on the same {len(rows)} messages, none of them learned from")
        plain = sorter()
        before = await self._score(app, plain, rows, "scoring no demonstrations")
        self._show.say("without demonstrations, these are the answers from above: the cache has kept them")
        learned = await self._bootstrap(app, plain)
        after = await self._score(app, learned, rows, "scoring bootstrapped")
        self._show.table(
            [
                ScoreRow("no demonstrations", before.score, before.interval),
                ScoreRow("bootstrapped", after.score, after.interval),
            ]
        )
        change = after.compare(before)
        moved = [
            each.after > each.before for each in change.changed if each.before is not None and each.after is not None
        ]
        better = sum(moved)
        self._show.say(f"The demonstrations: {verdict(change)}.")
        p_value = f"p = {change.p_value:.3f}" if change.p_value >= 0.001 else "p < 0.001"
        self._show.say(f"{better} messages better, {len(moved) - better} worse, {p_value}")
        if len(rows) < _ENOUGH:
            self._show.notice(
                f"{len(rows)} messages can show a large difference only: with --questions 60 there are more."
            )

    async def _score(self, app: App, program: Predict[SortMessage], rows: Sequence[Example], what: str) -> Report:
        with counting(app, self._show, what, len(rows)):
            return await app.evaluate(program, rows, exact_match("intent"), max_concurrency=AT_ONCE)

    async def _bootstrap(self, app: App, program: Predict[SortMessage]) -> Predict[SortMessage]:
        optimizer = BootstrapFewShot(
            exact_match("intent"), max_bootstrapped_demos=_WORKED_OUT, max_labeled_demos=_SHOWN, width=AT_ONCE
        )
        rows, seed = self._rows.train, self._options.seed  # the demo scores the result itself: nothing is held out
        job = await app.compile(
            program, optimizer, trainset=rows, holdset=(), job="demo", seed=seed, max_concurrency=AT_ONCE
        )
        gone_through = 0
        try:
            with self._show.progress("working out demonstrations", _WORKED_OUT) as tell:
                async with job.events() as events:
                    async for event in events:
                        if event.kind == "progress":
                            tell(event.data["found"])
                            gone_through = event.data["rows"]
            learned = await job.result()
        except BaseException:  # whatever it is: undone here, then raised on
            job.cancel()
            raise
        shown = sum(len(predictor.demos) for predictor in learned.predictors().values())
        self._show.say(
            f"BootstrapFewShot went through {gone_through} of {len(self._rows.train)} other messages; "
            f"it shows {shown}: up to {_WORKED_OUT} that it got right itself, the others as they are labelled."
        )
        return learned

    def _close(self, app: App, board: Board, seconds: float) -> None:
        ending.totals(self._show, app, board)
        self._show.say(f"all of it took {_minutes(seconds)}, loading included")
        self._show.title(6, "The same in an app of yours")
        self._show.block(YOURS, code=True)


def verdict(change: Comparison) -> str:
    """Call a change of the score a gain or a loss only where chance alone would hardly have made it."""
    low, high = (100 * bound for bound in change.interval)
    if low == high:  # of no width: nothing has changed, which is not to be taken for certainty
        return "no gain: not one of these messages is answered better or worse"
    measured = f"{100 * change.difference:+.0f} points (95 % interval {low:+.0f} to {high:+.0f})"
    if change.p_value < _SURE:
        return f"a gain, {measured}" if change.difference > 0 else f"a loss, {measured}"
    return f"no gain that is sure, {measured}" if change.difference > 0 else f"no gain, {measured}"


def _inputs(row: Example) -> dict[str, object]:
    return {"message": row["message"]}


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} minutes"
