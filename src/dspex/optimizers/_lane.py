"""One search and its running plans: plans begin within a window and are absorbed in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from dspex.errors import NoCandidate, OptimizationError
from dspex.optimizers._allowance import Allowance, Charges, Turn, fits, times
from dspex.optimizers._answers import answer_of, evaluation_of, run_prefix
from dspex.optimizers.fingerprint import digest
from dspex.optimizers.plans import DONE, WAIT, Algorithm, Ask, Found, Plan, Run, Search, Task, Train, chance
from dspex.protocols.json_values import Json
from dspex.protocols.money import Spending

if TYPE_CHECKING:
    from dspex.optimizers._core import Core

__all__ = ["MAX_FAILED_PLANS", "Frame", "Lane", "Place"]

MAX_FAILED_PLANS = 3
"""So many plans in a row that raise end the job: the algorithm is broken, not a candidate."""

MAX_WIDTH = 1024
"""The widest window."""

WRITING = 2
"""Rows that a proposal is expected to cost as much as."""

Place = tuple[int, ...]
"""Where in the tree of plans: plan, ask, plan of the search asked for, and so on; smaller is older."""


class Lane:
    """
    One search: its algorithm's state, the plans that run, and the results that wait for their turn.

    Args:
        core: The engine it is part of.
        algorithm: The algorithm.
        task: With what.
        place: Of the ask that wants it.
        on_end: Told what it has found.
        allowance: Its own allowance, where it has one.
        parent: The plan that asks for it.
    """

    def __init__(
        self,
        core: Core,
        algorithm: Algorithm,
        task: Task,
        place: Place,
        on_end: Callable[[Found], None],
        *,
        allowance: Allowance | None = None,
        parent: Frame | None = None,
    ) -> None:
        self.core = core
        self.algorithm = algorithm
        self.task = replace(task, width=max(1, min(algorithm.width, MAX_WIDTH)))
        self.place = place
        self.name = "/".join(map(str, place))
        self.allowance = allowance
        self.parent = parent
        self.state: object = None  # the algorithm's own
        self.begun = 0
        self.absorbed = 0
        self.over = False
        self.charges = Charges(compact=allowance is not None)
        """The cost of the absorbed plans."""
        self.running: dict[int, Frame] = {}
        self._end: int | None = None
        self._results: dict[int, tuple[object, Charges, Exception | None]] = {}
        self._failed = 0
        self._on_end = on_end

    @property
    def counted(self) -> bool:
        """True when anybody has to know what its plans cost."""
        return self.allowance is not None or (self.parent is not None and self.parent.lane.counted)

    def open(self) -> None:
        """Begin the search."""
        self.state = self.core.guarded(self.algorithm, lambda: self.algorithm.begin(self.task))
        self._fill()

    def _fill(self) -> None:
        """Begin the plans that there is room for; finish when all that count are absorbed."""
        if self.over or self.core.trouble is not None:
            return
        self._make()
        if self.core.trouble is None and self._end is not None and self.absorbed >= self._end:
            self._finish()

    def _make(self) -> None:
        """Begin the plans that there is room for."""
        if self.core.trouble is not None:
            return
        recorded = self.core.ends.get(self.name)
        if recorded is not None and self.absorbed >= recorded:
            self._cut(self.absorbed)
        while self._end is None and self.begun - self.absorbed < self.task.width:
            made = self._made(self.begun)
            if self.core.trouble is not None:
                return
            if made is WAIT:
                if self.begun == self.absorbed:
                    name = type(self.algorithm).__name__
                    self.core.fail(OptimizationError(f"{name} waits before plan {self.begun}, but nothing runs"))
                    return
                break
            if made is DONE:
                self._cut(self.begun)
                break
            frame = self.running[self.begun] = Frame(self, self.begun, made)
            self.begun += 1
            self.core.later(frame.start)

    def _made(self, k: int) -> Any:  # a plan or a signal
        source = chance(self.task.seed, k)
        return self.core.guarded(self.algorithm, lambda: self.algorithm.plan(self.state, k, source))

    def end_at(self, at: int) -> None:
        """End the search before plan ``at``; plans from there on are cancelled."""
        self._cut(at)
        self.core.later(self._fill)

    def _cut(self, at: int) -> None:
        self._end = at if self._end is None else min(self._end, at)
        for k in [k for k in self.running if k >= self._end]:
            self.running.pop(k).cancel()
        self._results = {k: each for k, each in self._results.items() if k < self._end}

    def ended(self, k: int, result: object, charges: Charges, error: Exception | None) -> None:
        """Take the result of a plan, and absorb what is next in order."""
        self.running.pop(k, None)
        if self._end is not None and k >= self._end:
            return
        if error is not None and self.parent is None:
            self.core.fail(error)  # the root's plan is the job itself
            return
        self._results[k] = (result, charges, error)
        while self.absorbed in self._results and not self._at_end():
            result, charges, error = self._results.pop(self.absorbed)
            allowance = self.allowance
            if allowance is not None and not self.charges.affords(charges, allowance.in_order, allowance.price):
                self.core.spent_up(self)
                self._cut(self.absorbed)
                break
            self._absorb(result, charges, error)
            # Plans are made after each single one: plan k must see exactly the plans 0 to k - width, although several
            # results may have been waiting for this one.
            self._make()
            if self.core.trouble is not None:
                return
        self.core.later(self._fill)

    def _at_end(self) -> bool:
        recorded = self.core.ends.get(self.name)
        return (self._end is not None and self.absorbed >= self._end) or (
            recorded is not None and self.absorbed >= recorded
        )

    def _absorb(self, result: object, charges: Charges, error: Exception | None) -> None:
        k, algorithm, core = self.absorbed, self.algorithm, self.core
        self._failed = 0 if error is None else self._failed + 1
        if error is not None and self._failed >= MAX_FAILED_PLANS:
            name = type(algorithm).__name__
            trouble = OptimizationError(f"{self._failed} plans of {name} in a row failed; the last with {error!r}")
            trouble.__cause__ = error
            core.fail(trouble)
            return
        self.state = core.guarded(algorithm, lambda: algorithm.absorb(self.state, k, result))
        self.charges.add(charges)
        self.absorbed = k + 1
        # A person's word counts at one definite point: after this plan, before another is made.
        for steer in core.steers.get((self.name, k), ()):
            self.state = core.guarded(algorithm, partial(algorithm.steer, self.state, steer))
        if core.trouble is None and core.guarded(algorithm, lambda: algorithm.enough(self.state)):
            self._cut(self.absorbed)
        if core.trouble is None:
            core.on_absorbed(self, k)

    def _finish(self) -> None:
        self.over = True
        try:
            found = Found(self.algorithm.best(self.state), self.state, self.absorbed)
        except NoCandidate as error:
            found = Found(self.task.start, self.state, self.absorbed, error)
        except Exception as error:  # noqa: BLE001 - an algorithm is user code: it may raise anything
            self.core.fail(error)
            return
        if self.parent is not None and self.allowance is None:
            self.parent.charges.add(self.charges)
        self._on_end(found)

    def cancel(self) -> None:
        """Stop every plan: whoever asked for this search has been cancelled."""
        self.over = True
        for frame in self.running.values():
            frame.cancel()
        self.running.clear()


class Frame:
    """
    One running plan: its generator, and the asks it waits for.

    Args:
        lane: The search it is part of.
        k: Its number.
        plan: Not begun yet.
    """

    __slots__ = (
        "_answers",
        "_asks",
        "_missing",
        "_ordinal",
        "_plan",
        "_single",
        "alive",
        "charges",
        "children",
        "k",
        "lane",
        "turn",
    )

    def __init__(self, lane: Lane, k: int, plan: Plan) -> None:
        self.lane = lane
        self.k = k
        self.alive = True
        self.charges = Charges()
        """The cost of its answers."""
        self.children: list[Lane] = []
        self.turn = 0
        """The number of times the plan was run on."""
        self._plan = plan
        self._ordinal = 0
        self._asks: tuple[Ask, ...] = ()
        self._single = True
        self._answers: list[Any] = []
        self._missing = 0

    @property
    def place(self) -> Place:
        """Where it stands among all plans."""
        return (*self.lane.place, self.k)

    def start(self) -> None:
        """Run it to its first ask."""
        self._send(None)

    def cancel(self) -> None:
        """Stop it: nothing more is asked for it."""
        self.alive = False
        for lane in self.children:
            lane.cancel()
        try:
            self._plan.close()
        except Exception as error:  # noqa: BLE001 - a plan is user code: it may refuse to be closed
            self.lane.core.fail(OptimizationError(f"a cancelled plan raised {error!r}"))

    def throw(self, error: Exception) -> None:
        """Raise an error where the plan waits: its asks will not be answered."""
        for lane in self.children:
            lane.cancel()
        self._step(lambda: self._plan.throw(error))

    def _send(self, answer: object) -> None:
        self._step(lambda: self._plan.send(answer))

    def _step(self, step: Callable[[], Ask | tuple[Ask, ...]]) -> None:
        if not self.alive or self.lane.core.trouble is not None:
            return
        self.turn += 1  # answers to asks of an earlier turn come too late
        try:
            asked = step()
            asks = asked if isinstance(asked, tuple) else (asked,)
            for each in asks:
                if not isinstance(each, Ask):
                    raise TypeError(f"a plan yields asks or tuples of asks, not {each!r:.60}")
        except StopIteration as stop:
            self._end(stop.value, None)
        except Exception as error:  # noqa: BLE001 - a plan that raises is a failed plan; several in a row end the job
            self._end(None, error)
        else:
            self._asks, self._single = asks, not isinstance(asked, tuple)
            self.open()

    def _end(self, result: object, error: Exception | None) -> None:
        self.alive = False
        self.lane.ended(self.k, result, self.charges, error)

    # --- asking ---------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Send the asks, if the budget has room for them now."""
        core = self.lane.core
        for lane in self._limited():
            verdict = self._verdict(lane)
            if verdict == "wait":
                core.hold(self)
                return
            if verdict == "stop":
                core.spent_up(lane)
                lane.end_at(lane.absorbed)
                return
        self._answers = [[None] * len(each.rows) if isinstance(each, Run) else None for each in self._asks]
        self._missing = sum(len(each.rows) if isinstance(each, Run) else 1 for each in self._asks)
        first, self._ordinal = self._ordinal, self._ordinal + len(self._asks)
        for index, ask in enumerate(self._asks):
            place = (*self.place, first + index)
            if isinstance(ask, Search):
                self._search(index, ask, place)
            else:
                core.want(self, index, ask, place)
        if not self._missing:
            core.later(self._continue)

    def _search(self, index: int, ask: Search, place: Place) -> None:
        task = self.lane.task
        inner = replace(
            task,
            learn=task.learn if ask.learn is None else ask.learn,
            choose=task.choose if ask.choose is None else ask.choose,
            start=task.start if ask.start is None else ask.start,
            seed=ask.seed if ask.seed is not None else int(digest([task.seed, *place])[:12], 16),
            programs={**task.programs, **ask.algorithm.programs(task.program)},
        )

        def ended(found: Found) -> None:
            self._answers[index] = found
            self._arrived()

        allowance = Allowance(ask.limit, ask.price, ahead=ask.algorithm.width > 1) if ask.limit is not None else None
        lane = Lane(self.lane.core, ask.algorithm, inner, place, ended, allowance=allowance, parent=self)
        self.children.append(lane)
        self.lane.core.later(lane.open)

    def deliver(self, turn: int, ask: int, slot: int, data: Json) -> None:
        """Take one recorded answer to an ask of a turn."""
        if not self.alive or turn != self.turn:
            return
        asked = self._asks[ask]
        if isinstance(asked, Run):
            self._answers[ask][slot] = evaluation_of(data, asked.rows[slot].index, trace=asked.trace)
        else:
            self._answers[ask] = answer_of(asked, data)
        self._arrived()

    def _arrived(self) -> None:
        self._missing -= 1
        if not self._missing:
            self.lane.core.later(self._continue)

    def _continue(self) -> None:
        answers = [
            tuple(found) if isinstance(ask, Run) else found
            for ask, found in zip(self._asks, self._answers, strict=True)
        ]
        if self.lane.counted:
            self._charge(answers)
        self._answers, self.children = [], []
        self._send(answers[0] if self._single else tuple(answers))

    # --- what it costs --------------------------------------------------------------------------------------

    def _charge(self, answers: list[Any]) -> None:
        first = self._ordinal - len(answers)
        rows, others, paid, aside = [], 0, Spending(), Spending()
        for number, (ask, answer) in enumerate(zip(self._asks, answers, strict=True), first):
            if isinstance(ask, Run):
                prefix = run_prefix(ask)
                rows.append((prefix, tuple(row.index for row in ask.rows)))
                for each in answer:
                    self.charges.note(prefix, each.row, each.spent)
            elif not isinstance(ask, Search):
                if isinstance(ask, Train):
                    aside += ask.expected
                else:
                    others += WRITING
                paid += answer.spent
                self.charges.note(f"{self.place}", number, answer.spent)
        self.charges.asked(Turn(tuple(rows), others, paid, aside))

    def _limited(self) -> list[Lane]:
        """Return the searches above that have a limit of their own, the nearest first."""
        found = []
        frame: Frame | None = self
        while frame is not None:
            if frame.lane.allowance is not None:
                found.append(frame.lane)
            frame = frame.lane.parent
        return found

    def set_aside(self, ask: Ask) -> tuple[tuple[Allowance, Spending], ...]:
        """Set aside what one answer is expected to cost; return where, and how much."""
        found = []
        for lane in self._limited():
            assert lane.allowance is not None
            price = lane.allowance.price
            expected = ask.expected if isinstance(ask, Train) else times(price, 1 if isinstance(ask, Run) else WRITING)
            lane.allowance.sent(expected)
            found.append((lane.allowance, expected))
        return tuple(found)

    def _verdict(self, lane: Lane) -> str:
        """Return ``send``, ``wait`` or ``stop`` for the asks, by the limit of a search above."""
        allowance = lane.allowance
        assert allowance is not None
        levels: list[Charges] = []
        oldest, frame = True, self
        while True:
            levels += [frame.charges, frame.lane.charges]
            oldest = oldest and frame.k == frame.lane.absorbed
            if frame.lane is lane or frame.lane.parent is None:
                break
            frame = frame.lane.parent
        levels.reverse()  # the outermost first: only it may be compact
        rows = others = 0
        aside = Spending()
        for ask in self._asks:
            if isinstance(ask, Run):
                fresh = [row.index for row in ask.rows]
                for each in levels:
                    fresh = each.fresh(run_prefix(ask), fresh)
                rows += len(fresh)
            elif isinstance(ask, Train):
                aside += ask.expected
            elif not isinstance(ask, Search):
                others += 1
        expected = times(allowance.price, rows + WRITING * others) + aside
        if oldest:
            return "send" if fits(allowance.in_order, Charges.together(levels) + expected) else "stop"
        first = lane.running.get(lane.absorbed)
        counted = lane.charges.total + (first.charges.total if first is not None else Spending())
        return "send" if allowance.has_room(expected, counted) else "wait"
