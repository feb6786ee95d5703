"""A budget of several processes against a model of the world: whoever dies, whatever is lost, it is never passed."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dspex.protocols.money import Budget, Spending
from dspex.services.money.purse import Purse, coins_of, spending_of, step_of
from dspex.services.shared.purse_cell import ALIVE, Coins, PurseAsk, PurseCell, exchange


@dataclass
class Process:
    """One process: its purse, the calls it has under way, and what it has really spent."""

    purse: Purse
    calls: list[Spending] = field(default_factory=list)


def call(tokens: int) -> Spending:
    return Spending(Decimal(tokens) / 7, tokens, 1)


class Budgets(RuleBasedStateMachine):
    """
    Processes set aside, spend, ask and die; answers get lost; the store forgets; its clock jumps.

    A call is spent when it is settled, or when its process is killed under it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.text: str | None = None
        self.now = 1_000.0
        self.origins = 0
        self.processes: dict[str, Process] = {}
        self.spent = Spending()
        self.names = 0

    @initialize(calls=st.integers(0, 12), tokens=st.integers(0, 100) | st.none())
    def open(self, calls: int, tokens: int | None) -> None:
        self.budget = Budget(usd=Decimal(60), calls=calls, tokens=tokens)
        self.join()
        self.join()

    @rule()
    def join(self) -> None:
        if len(self.processes) < 4:
            self.names += 1
            name = f"p{self.names}"
            self.processes[name] = Process(Purse("budget/app", self.budget, name))

    def draw(self, data: st.DataObject) -> Process:
        return self.processes[data.draw(st.sampled_from(sorted(self.processes)))]

    @rule(data=st.data(), tokens=st.integers(1, 40))
    def set_aside(self, data: st.DataObject, tokens: int) -> None:
        process, amount = self.draw(data), call(tokens)
        if process.purse.covers(amount):
            process.purse.reserved += amount
            process.calls.append(amount)

    @precondition(lambda self: any(each.calls for each in self.processes.values()))
    @rule(data=st.data(), share=st.floats(0, 1))
    def settle(self, data: st.DataObject, share: float) -> None:
        busy = sorted(name for name, each in self.processes.items() if each.calls)
        process = self.processes[data.draw(st.sampled_from(busy))]
        amount = process.calls.pop(0)
        paid = call(int(amount.tokens * share)) if share else Spending()
        process.purse.reserved -= amount
        process.purse.spent += paid
        self.spent += paid

    @rule(
        data=st.data(),
        tokens=st.integers(1, 40) | st.none(),
        fate=st.sampled_from(["answered", "answered", "answered", "lost on its way", "answer lost"]),
    )
    def ask(self, data: st.DataObject, tokens: int | None, fate: str) -> None:
        self.exchange(self.draw(data), tokens, fate)

    @rule(data=st.data(), tokens=st.integers(1, 10))
    def spend_all(self, data: st.DataObject, tokens: int) -> None:
        self.grasp(self.draw(data), tokens)

    def grasp(self, process: Process, tokens: int) -> None:
        """Set aside as many calls as can be had."""
        for _ in range(14):
            self.exchange(process, tokens, "answered")
            if not process.purse.covers(call(tokens)):
                return
            while process.purse.covers(call(tokens)):
                process.purse.reserved += call(tokens)
                process.calls.append(call(tokens))

    def exchange(self, process: Process, tokens: int | None, fate: str, *, leave: bool = False) -> None:
        purse = process.purse
        ask = purse.ask(self.now, call(tokens) if tokens else None, leave=leave)
        if fate == "lost on its way":
            return
        self.origins += 1
        self.text, (answer, text) = step_of(purse, ask, f"o{self.origins}")(self.text, self.now)
        if fate == "answered":
            purse.hear(ask, answer, text, self.now)

    @precondition(lambda self: len(self.processes) > 1)
    @rule(data=st.data())
    def kill(self, data: st.DataObject) -> None:
        """SIGKILL: all that it had set aside may have been charged."""
        name = data.draw(st.sampled_from(sorted(self.processes)))
        for amount in self.processes.pop(name).calls:
            self.spent += amount

    @precondition(lambda self: len(self.processes) > 1)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.processes)))
        process = self.processes[name]
        if not process.calls:
            self.exchange(process, None, "answered", leave=True)
            del self.processes[name]

    @rule(seconds=st.floats(0, 2 * ALIVE) | st.floats(-100, 0))
    def time(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.text is not None)
    @rule()
    def two_speak_at_once(self) -> None:
        """A late word of a holder, sent before its newest one, changes nothing."""
        assert self.text is not None
        cell = PurseCell.decode(self.text)
        for name, holder in PurseCell.decode(self.text).holders.items():
            before = cell.encode()
            late = PurseAsk(name, holder.turn, need=Coins(calls=1), want=Coins(calls=5), limits=(None, None, None))
            assert exchange(cell, late, self.now).granted == Coins()
            after = PurseCell.decode(before)
            assert cell.holders[name].spent == after.holders[name].spent
            assert cell.holders[name].held == after.holders[name].held

    @invariant()
    def never_passed(self) -> None:
        """By what was really spent and what may be: also without asking anybody."""
        under_way = sum((amount for each in self.processes.values() for amount in each.calls), Spending())
        total = self.spent + under_way
        assert total.calls <= (self.budget.calls or 0)
        assert self.budget.tokens is None or total.tokens <= self.budget.tokens
        assert total.usd <= Decimal(60)

    def teardown(self) -> None:
        """Whatever happened, those who are left can spend all that nobody has, and no more."""
        if self.text is None:
            return
        self.now += 2 * ALIVE
        for process in self.processes.values():
            self.grasp(process, 1)
        self.never_passed()
        for process in self.processes.values():
            for amount in process.calls:
                process.purse.reserved -= amount
            process.calls.clear()
        for _ in range(4):
            for process in self.processes.values():
                self.exchange(process, None, "answered", leave=True)
        held = [each.held for each in PurseCell.decode(self.text).holders.values()]
        dead = sum((spending_of(each) for each in held), Spending())
        last = next(iter(self.processes.values()))
        known = spending_of(PurseCell.decode(self.text).spent())
        left = (self.budget.calls or 0) - known.calls - dead.calls
        self.exchange(last, None, "answered")
        for _ in range(left):
            if self.budget.tokens is not None or not last.purse.covers(Spending(calls=1)):
                self.exchange_calls(last)
            if not last.purse.covers(Spending(calls=1)):
                break
            last.purse.spent += Spending(calls=1)
            self.spent += Spending(calls=1)
            left -= 1
        assert left <= 0, f"{left} calls can be spent by nobody"
        self.never_passed()

    def exchange_calls(self, process: Process) -> None:
        purse = process.purse
        ask = purse.ask(self.now, Spending(calls=1))
        self.text, (answer, text) = step_of(purse, ask, "last")(self.text, self.now)
        purse.hear(ask, answer, text, self.now)


# Each run is fifty steps, then a spending of all that is left: a twentieth of a second.
FEWER = settings(max_examples=min(settings.default.max_examples, 500) if settings.default else 60)
TestBudgets = Budgets.TestCase
TestBudgets.settings = FEWER


class StoreThatForgets(Budgets):
    """As above, and the store loses all it has: those who live bring it back, once each has spoken."""

    @precondition(lambda self: self.text is not None)
    @rule()
    def forget(self) -> None:
        """Everybody alive has heard the latest; then the store is empty."""
        for process in self.processes.values():
            self.exchange(process, None, "answered")
        for process in self.processes.values():
            self.exchange(process, None, "answered")
        self.text = None
        for process in self.processes.values():
            self.exchange(process, None, "answered")  # before anybody who knows nothing of it

    @rule()
    def kill(self) -> None:
        """Nobody dies: what only the dead and the store knew is gone with both."""

    @rule()
    def leave(self) -> None:
        """Nobody leaves, for the same reason."""


TestStoreThatForgets = StoreThatForgets.TestCase
TestStoreThatForgets.settings = FEWER


@given(st.decimals(0, 1000, places=12), st.integers(0, 10**9), st.integers(0, 10**6), st.integers(0, 9))
def test_amounts_are_never_told_smaller_than_they_are(usd: Decimal, tokens: int, calls: int, unpriced: int) -> None:
    exact = Spending(usd, tokens, calls, unpriced)
    told = spending_of(coins_of(exact))
    assert told.usd >= exact.usd
    assert told.usd - exact.usd < Decimal("0.000000001")
    assert (told.tokens, told.calls, told.unpriced) == (tokens, calls, unpriced)


@given(st.text(max_size=200) | st.binary(max_size=50).map(repr))
def test_any_text_in_a_cell_is_a_budget_or_a_typed_error(text: str) -> None:
    try:
        PurseCell.decode(text)
    except ValueError:
        return


def test_the_smallest_limit_of_those_alive_holds() -> None:
    """And is let go of when its holder has left."""
    cell, loose, tight = PurseCell("o"), (None, None, 50), (None, None, 10)
    assert (
        exchange(cell, PurseAsk("a", 1, need=Coins(calls=1), want=Coins(calls=99), limits=loose), 0).granted.calls == 25
    )
    assert exchange(cell, PurseAsk("b", 1, limits=tight), 0).limits == tight
    refused = exchange(cell, PurseAsk("b", 2, need=Coins(calls=1), limits=tight), 0)
    assert (refused.granted.calls, refused.final) == (0, False)
    assert exchange(cell, PurseAsk("a", 2, limits=loose), 0).limits == tight
    exchange(cell, PurseAsk("b", 3, limits=tight, leaves=True), 0)
    assert exchange(cell, PurseAsk("a", 3, limits=loose), 0).limits == loose


def test_a_refusal_is_final_when_those_who_live_have_nothing_to_spare() -> None:
    """A slice that may be given back is waited for; one of a holder that is dead is not."""
    cell, limits = PurseCell("o"), (None, None, 10)
    exchange(cell, PurseAsk("a", 1, need=Coins(calls=1), want=Coins(calls=99), limits=limits), 0)
    exchange(cell, PurseAsk("b", 1, need=Coins(calls=1), want=Coins(calls=99), limits=limits), 0)
    want = PurseAsk("c", 1, need=Coins(calls=9), want=Coins(calls=9), limits=limits)
    first = exchange(cell, want, 0)
    assert not first.final
    assert first.hunger == 1
    told = exchange(cell, PurseAsk("a", 2, keep=Coins(calls=5), limits=limits), 0)
    assert told.hunger == 1
    exchange(cell, PurseAsk("a", 3, keep=Coins(calls=1), limits=limits, yields=1), 0)
    assert not exchange(cell, want._replace(turn=2), 1.0).final, "b has not said what it can spare"
    last = exchange(cell, want._replace(turn=3), ALIVE + 0.1)
    assert not last.granted.calls
    assert last.final, "b is dead, and a needs what it keeps"
    assert last.lost.calls > 0
