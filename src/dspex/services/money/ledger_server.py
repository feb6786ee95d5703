"""The ledger's actor: sets money aside, settles for the dead, and speaks with those who share a budget."""

from __future__ import annotations

import contextlib
from collections import deque
from pathlib import Path
from typing import Any, Final, NamedTuple

from dspex._random import fresh_id
from dspex.errors import BudgetExceeded, ConfigError, SharedError
from dspex.protocols.money import Budget, Reservation, Spending
from dspex.runtime import (
    ChildSpec,
    Down,
    From,
    LibraryActor,
    Next,
    NoReply,
    ProcessRef,
    Reply,
    WorkerThread,
    get_logger,
)
from dspex.services.money.ledger import LEDGER, LedgerBook, More, Reserve, shared_refusal
from dspex.services.money.ledger_file import LedgerFile
from dspex.services.money.purse import Purse, step_of
from dspex.services.money.shares import Short, keep_of
from dspex.services.shared.cells import Cells
from dspex.services.shared.purse_cell import PurseAnswer, PurseAsk
from dspex.services.shared.sqlite_cells import FileCells

__all__ = ["LedgerServer"]

_log = get_logger("money")

BEAT: Final = 0.25
"""Seconds after a payment until the others hear of it, and between two words to them while a slice is held."""

AGAIN: Final = 0.05
"""Seconds until one asks again while somebody waits for what other processes may give back."""

PATIENCE: Final = 10.0
"""Seconds that a call waits for a store that cannot be reached, where this process's slice does not suffice."""


class _Waiter(NamedTuple):
    """A call that waits for what a slice lacks."""

    wanted: Reserve | More
    sender: From
    since: float


class _Said(NamedTuple):
    """The end of an exchange."""

    purse: Purse
    ask: PurseAsk
    short: Short | None
    answer: tuple[PurseAnswer, str] | SharedError


class LedgerServer(LibraryActor):
    """
    Sets money aside, and settles for holders that die; whoever lives settles in the book itself.

    Where other processes spend from the same budget, the slices of this one are fetched and given back by one task at
    a time; calls that a slice does not cover wait in the order in which they came.
    """

    def __init__(self, book: LedgerBook, path: Path | None = None, cells: Cells | None = None) -> None:
        self._book = book
        self._path = path
        self._cells = cells
        self._file: LedgerFile | None = None
        self._monitors: dict[int, int] = {}
        self._waiting: deque[_Waiter] = deque()
        self._to_tell: deque[Purse] = deque()
        self._talking = False
        self._beating = False
        self._in_vain = False
        self._failures = 0
        self._smaller: dict[str, Budget | None] = {}

    @staticmethod
    def spec(book: LedgerBook, path: Path | None = None, cells: Cells | None = None) -> ChildSpec:
        """
        Return the child spec of the ledger's actor.

        Args:
            book: The book, which outlives the actor.
            path: The file of budgets that are shared, where there is no store.
            cells: The store of budgets that are shared.
        """
        return ChildSpec(LEDGER, LedgerServer, (book, path, cells), name=LEDGER)

    async def init(self) -> None:
        """
        Watch over what a predecessor set aside; for holders that died meanwhile, settle.

        Raises:
            ConfigError: There is a budget by day or month, and its file cannot be used.
        """
        shares = self._book.shares
        if shares is not None and shares.by_account:
            if self._cells is None and self._path is not None:
                worker = self.own(WorkerThread("dspex-ledger"), self._close_file)
                try:
                    self._file = await worker.run(LedgerFile, self._path)
                    self._cells = FileCells(worker, self._file)
                    await self._greet()
                except SharedError as error:
                    raise ConfigError(f"the ledger {self._path} cannot be used: {error}") from error
            elif self._cells is not None:
                self.own(self, LedgerServer._part)
                try:
                    await self._greet()
                except SharedError as error:
                    self._tell_away(error)
            shares.on_paid = self._beat_soon
            self._beat_soon()
        for reservation, held in list(self._book.held.items()):
            if held.holder.alive:
                self._watch(reservation, held.holder)
            else:
                self._book.settle(reservation)

    # --- messages -------------------------------------------------------------------------------------------------

    async def handle_call(self, message: Any, sender: From) -> Next:
        """Set money aside."""
        kind = type(message)
        if not issubclass(kind, (Reserve, More)):
            return self.refuse(message, sender)
        if not self._waiting:  # else those who came before are first
            answer = self._answer(message)
            if not isinstance(answer, Short):
                return Reply(answer)
        self._waiting.append(_Waiter(message, sender, self.runtime.clock.now()))
        self._go_on()
        return NoReply()

    async def handle_info(self, message: Any) -> Next:
        """Settle for a holder that died, or tell the others what there is to tell."""
        if message is _BEAT:
            self._beating = self._in_vain = False
            self._to_tell = deque(self._book.shares.all() if self._book.shares is not None else ())
            self._go_on()
            return None
        if issubclass(type(message), _Said):
            self._heard(message)
            return None
        if not issubclass(type(message), Down):
            return await super().handle_info(message)
        self._book.settle(self._monitors.pop(message.monitor, 0))
        return None

    def _answer(self, wanted: Reserve | More) -> Reservation | BudgetExceeded | Short | None:
        if isinstance(wanted, More):
            return self._book.more(wanted.reservation, wanted.calls)
        answer = self._book.reserve(wanted)
        if isinstance(answer, Reservation):
            self._watch(answer.id, wanted.holder)
        return answer

    def _watch(self, reservation: int, holder: ProcessRef) -> None:
        self._monitors[holder.monitor()] = reservation

    def describe(self) -> str:
        """Tell calls, tokens and dollars, and who else spends from the same budgets."""
        book = self._book
        spent = book.root.spent
        money = f", {spent.usd:.4f} USD" if spent.usd else ""
        money += f", {spent.unpriced} of unknown price" if spent.unpriced else ""
        held = f", {len(book.held)} set aside" if book.held else ""
        waiting = f", {len(self._waiting)} waiting" if self._waiting else ""
        said = f"{book.calls} calls, {book.usage.total_tokens:,} tokens{money}{held}{waiting}"
        heard = [purse.heard for purse in (book.shares.by_account.values() if book.shares else ())]
        live = max((each.live for each in heard if each is not None), default=0)
        if live > 1:
            said += f"; {live} processes share its budgets"
        return said + ("; their store cannot be reached" if self._failures else "")

    # --- budgets of several processes -----------------------------------------------------------------------------

    def _beat_soon(self) -> None:
        """Tell the others in a moment what was paid since; called by whoever pays."""
        if not self._beating and self.ref.alive:
            self._beating = True
            self.send_after(AGAIN if self._waiting else BEAT, _BEAT)

    def _go_on(self) -> None:
        """Answer whom the slices suffice for, and begin the next exchange: for who waits, else to tell the rest."""
        if self._talking or self._book.shares is None:
            return
        short = None if self._in_vain else self._serve()
        if short is not None:
            self._talk(short.purse, short)
            return
        while self._to_tell:
            purse = self._to_tell.popleft()
            if not purse.is_settled:
                self._talk(purse)
                return
        self._book.shares.told()
        if self._waiting or not all(purse.is_settled for purse in self._book.shares.all()):
            self._beat_soon()

    def _talk(self, purse: Purse, short: Short | None = None) -> None:
        others = Spending()
        if short is not None:
            count, each = len(self._waiting) - 1, short.amount
            others = Spending(each.usd * count, each.tokens * count, each.calls * count)
        ask = purse.ask(self.runtime.clock.now(), short.amount if short is not None else None, others)
        self._talking = True
        self.spawn_task(self._exchange, purse, ask, short, label="share budgets")

    async def _exchange(self, purse: Purse, ask: PurseAsk, short: Short | None) -> None:
        """Exchange one word with a purse's cell, and send the actor what came of it."""
        assert self._cells is not None
        try:
            step = step_of(purse, ask, fresh_id("purse"))
            said: tuple[PurseAnswer, str] | SharedError = await self._cells.change(
                purse.cell, step, keep_of(purse.cell)
            )
        except SharedError as error:
            said = error
        except Exception as error:  # noqa: BLE001 - whatever it is: one that nobody hears of would end the sharing
            said = SharedError(f"{type(error).__name__}: {error}")
        self.ref.send(_Said(purse, ask, short, said))

    def _heard(self, said: _Said) -> None:
        self._talking = False
        now = self.runtime.clock.now()
        if isinstance(said.answer, SharedError):
            self._to_tell.clear()
            self._in_vain = True
            self._tell_away(said.answer)
        else:
            answer, text = said.answer
            said.purse.hear(said.ask, answer, text, now)
            self._tell_back(said.purse)
            short = said.short  # where nothing came, others may give something back: in a moment again
            self._in_vain = short is not None and not short.purse.covers(short.amount) and not self._refuses(short)
        self._go_on()

    def _serve(self) -> Short | None:
        """Answer those who wait, in their order; return what the first of them lacks who has to wait on."""
        while self._waiting:
            waiter = self._waiting[0]
            answer = self._answer(waiter.wanted) if waiter.sender.waiting else None
            if isinstance(answer, Short):
                if not self._refuses(answer):
                    return answer
                answer = shared_refusal(answer)
            self._waiting.popleft()
            waiter.sender.reply(answer)
        return None

    def _refuses(self, short: Short) -> bool:
        return short.purse.refuses(short.amount, self.runtime.clock.now())

    async def _greet(self) -> None:
        """Hear from every purse how it stands."""
        shares = self._book.shares
        assert shares is not None
        assert self._cells is not None
        for purse in shares.all():
            ask = purse.ask(self.runtime.clock.now())
            step = step_of(purse, ask, fresh_id("purse"))
            answer, text = await self._cells.change(purse.cell, step, keep_of(purse.cell))
            purse.hear(ask, answer, text, self.runtime.clock.now())
        shares.told()

    def _tell_away(self, error: SharedError) -> None:
        """Note that the store cannot be reached; who has waited too long for it is told so."""
        self._failures += 1
        if self._failures == 1:
            says = "the budgets cannot be shared, so this process spends no more than its slices: {error}"
            _log.warning("budgets cannot be shared", says=says, error=str(error))
        now = self.runtime.clock.now()
        for waiter in [each for each in self._waiting if now - each.since >= PATIENCE]:
            self._waiting.remove(waiter)
            waiter.sender.fail(SharedError(f"the budget's other processes cannot be asked; nothing was sent: {error}"))

    def _tell_back(self, purse: Purse) -> None:
        self._failures = 0
        in_force = purse.in_force() if purse.limits_differ() else None
        if in_force == self._smaller.get(purse.cell):
            return
        self._smaller[purse.cell] = in_force
        if in_force is not None:
            says = "another process has a smaller {budget} than this one: {in_force} holds for both"
            _log.warning("budgets differ", says=says, budget=purse.cell, in_force=str(in_force))
            if self.runtime.telemetry.active:
                facts = {"name": purse.cell, "own": str(purse.budget), "in_force": str(in_force)}
                self.runtime.telemetry.emit("dspex.shared.limits_differ", {}, facts)

    async def _part(self) -> None:
        """Give back what this process holds; a store that cannot be reached learns of it from nobody."""
        with contextlib.suppress(SharedError):
            for purse in self._leaving():
                ask = purse.ask(self.runtime.clock.now(), leave=True)
                step = step_of(purse, ask, fresh_id("purse"))
                assert self._cells is not None
                answer, text = await self._cells.change(purse.cell, step, keep_of(purse.cell))
                purse.hear(ask, answer, text, self.runtime.clock.now())

    def _leaving(self) -> list[Purse]:
        shares = self._book.shares
        assert shares is not None
        shares.on_paid = None
        return shares.all()

    async def _close_file(self, worker: WorkerThread) -> None:
        purses, now = self._leaving(), self.runtime.clock.now()

        def part() -> None:
            file = self._file
            if file is None:
                return
            try:
                for purse in purses:
                    ask = purse.ask(now, leave=True)
                    step = step_of(purse, ask, fresh_id("purse"))
                    answer, text = file.change(purse.cell, step, keep_of(purse.cell))
                    purse.hear(ask, answer, text, now)
            except SharedError as error:
                _log.error("payments cannot be written", says="{error}", error=str(error))
            finally:
                file.close()

        await worker.aclose(part)


_BEAT = object()
