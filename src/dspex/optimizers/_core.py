"""
The engine without hands: which plans run, what is to be asked next, and what follows from an answer.

Pure data: no loop, no clock, no files. The driver takes items, sees to it that their answers are recorded, and hands
the answers back in any order. The state of a search depends on the answers alone, because plans are absorbed in the
order of their numbers.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from dspex.errors import ConfigError, OptimizationError
from dspex.evaluation import Row
from dspex.optimizers._allowance import Allowance
from dspex.optimizers._answers import key_of, run_prefix, spending_of
from dspex.optimizers._lane import Frame, Lane, Place
from dspex.optimizers._shelf import Shelf
from dspex.optimizers.plans import Algorithm, Ask, Found, Run, Steer, Task
from dspex.protocols.money import Spending

__all__ = ["Core", "Item"]

CHUNK = 500
"""Recorded answers that are read at once."""


class Waiting(NamedTuple):
    """A plan that wants an answer: in which of its turns, for which ask, in which slot, and under which key."""

    frame: Frame
    turn: int
    ask: int
    slot: int
    key: str


@dataclass(slots=True)
class Item:
    """
    The smallest thing that is done at once.

    Attributes:
        key: Of the answer in the journal; for answers that are only read, a name of the reading.
        ask: The signature.
        row: Of a Run: the row.
        place: Older goes first.
        reads: Keys of recorded answers that are to be read; empty for what is to be done afresh.
    """

    key: str
    ask: Ask
    row: Row | None
    place: Place
    reads: tuple[str, ...] = ()
    started: bool = False
    tries: int = 0
    """The number of times its worker was killed: a record that the worker made by then is looked for first."""
    waiting: list[Waiting] = field(default_factory=list)
    """The plans that want it."""
    payers: tuple[tuple[Allowance, Spending], ...] = ()
    """The sums set aside for it, and the allowances they come from."""


class Core:
    """
    All searches of one job.

    Args:
        shelf: Which answers are recorded.

    Attributes:
        done: True when the root's algorithm is done; ``state`` is then its last.
        trouble: The error that ended the job instead.
        ends: Where searches were ended from outside, by their names: as recorded, so that they end there again.
        steers: The words of people, by search and by the plan after which they count: as recorded.
        on_absorbed: Called after each plan with its search and its number.
    """

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.done = False
        self.state: Any = None  # the root algorithm's own
        self.trouble: Exception | None = None
        self.ends: dict[str, int] = {}
        self.steers: dict[tuple[str, int], list[Steer]] = {}
        self.on_absorbed: Callable[[Lane, int], object] = _nothing
        self.limited: list[tuple[str, int]] = []
        """Searches whose budget is used up, and the first plan that does not count; the driver tells of them."""
        self._heap: list[tuple[Place, int, Item]] = []
        self._flights: dict[str, Item] = {}
        self._agenda: deque[Callable[[], None]] = deque()
        self._held: list[Frame] = []
        self._count = 0
        self._root: Lane | None = None

    # --- for the driver -------------------------------------------------------------------------------------

    def begin(self, algorithm: Algorithm, task: Task) -> None:
        """Start the root algorithm."""
        root = self._root = Lane(self, algorithm, task, (), self._ended)
        self.later(root.open)
        self._work()

    def _ended(self, found: Found) -> None:
        self.done = True
        self.state = found.state
        if found.problem is not None:
            self.fail(found.problem)

    def take(self) -> Item | None:
        """Return the oldest item that is to be done now; None while everything is under way."""
        while self._heap:
            _, _, item = heapq.heappop(self._heap)
            if item.started:
                continue  # an older ask has brought it forward
            if not any(each.frame.alive and each.turn == each.frame.turn for each in item.waiting):
                self._settle(item, Spending())  # its plan was cancelled before anything was paid
                self._flights.pop(item.key, None)
                continue
            item.started = True
            return item
        return None

    def answered(self, item: Item, answers: Mapping[str, Mapping[str, object]]) -> None:
        """Hand over recorded answers by their keys, JSON values as the journal has them: its own, or those read."""
        self._flights.pop(item.key, None)
        if not item.reads:
            self.shelf.add(item.key)
            self._settle(item, spending_of(answers[item.key]))
        for each in item.waiting:
            each.frame.deliver(each.turn, each.ask, each.slot, answers[each.key])
        self._work()

    def refused(self, item: Item, error: Exception) -> None:
        """Raise an error in the plans that wait for an item which will not be done."""
        self._flights.pop(item.key, None)
        self._settle(item, Spending())
        for each in item.waiting:
            if each.frame.alive and each.turn == each.frame.turn:
                each.frame.throw(error)
        self._work()

    def again(self, item: Item) -> None:
        """Put an item back: whoever did it was killed, and nothing was recorded."""
        item.started = False
        item.tries += 1
        self._push(item)

    def end(self, lane: Lane) -> int:
        """End a search after the plans absorbed so far; return the number of the first plan that does not count."""
        lane.end_at(lane.absorbed)
        self._work()
        return lane.absorbed

    def lane(self, name: str) -> Lane | None:
        """Return the running search of that name."""
        found = [self._root] if self._root is not None else []
        while found:
            lane = found.pop()
            if lane.name == name and not lane.over:
                return lane
            found += [child for frame in lane.running.values() for child in frame.children if not child.over]
        return None

    # --- for lanes and frames -------------------------------------------------------------------------------

    def later(self, work: Callable[[], None]) -> None:
        """Do it when the present step is over: a queue instead of recursion, because replays are long chains."""
        self._agenda.append(work)

    def fail(self, error: Exception) -> None:
        """End the whole job with an error."""
        if self.trouble is None:
            self.trouble = error

    def guarded(self, algorithm: Algorithm, what: Callable[[], object]) -> object:
        """Call a function of an algorithm; what it raises ends the job, and None is returned."""
        try:
            return what()
        except (OptimizationError, ConfigError) as error:
            self.fail(error)
        except Exception as error:  # noqa: BLE001 - an algorithm is user code: it may raise anything
            broken = OptimizationError(f"{type(algorithm).__name__} is broken: {type(error).__name__}: {error}")
            broken.__cause__ = error
            self.fail(broken)
        return None

    def spent_up(self, lane: Lane) -> None:
        """Note that a search ends here because its budget is used up: it follows from the answers, so it is exact."""
        self.limited.append((lane.name, lane.absorbed))

    def hold(self, frame: Frame) -> None:
        """Keep a plan whose asks must wait for room in the budget."""
        self._held.append(frame)

    def want(self, frame: Frame, index: int, ask: Ask, place: Place) -> None:
        """Put an open ask into the queue."""
        if not isinstance(ask, Run):
            key = key_of(ask, place)
            if key in self.shelf:
                self._read([Waiting(frame, frame.turn, index, 0, key)], ask, place)
            else:
                self._join(ask, None, place, Waiting(frame, frame.turn, index, 0, key))
            return
        prefix = run_prefix(ask)
        known = set(self.shelf.known(prefix, [row.index for row in ask.rows]))
        recorded = []
        for slot, row in enumerate(ask.rows):
            waiting = Waiting(frame, frame.turn, index, slot, f"{prefix}/{row.index}")
            if row.index in known:
                recorded.append(waiting)
            else:
                self._join(ask, row, place, waiting)
        for at in range(0, len(recorded), CHUNK):
            self._read(recorded[at : at + CHUNK], ask, place)

    def _read(self, waiting: list[Waiting], ask: Ask, place: Place) -> None:
        keys = tuple(dict.fromkeys(each.key for each in waiting))
        self._push(Item(f"read {place} {keys[0]}", ask, None, place, keys, waiting=waiting))

    def _join(self, ask: Ask, row: Row | None, place: Place, waiting: Waiting) -> None:
        item = self._flights.get(waiting.key)
        if item is None:
            item = Item(waiting.key, ask, row, place, payers=waiting.frame.set_aside(ask))
            self._flights[waiting.key] = item
            self._push(item)
        elif not item.started and place < item.place:
            item.place = place
            self._push(item)  # the later entry is skipped when its turn comes
        item.waiting.append(waiting)

    def _push(self, item: Item) -> None:
        self._count += 1
        heapq.heappush(self._heap, (item.place, self._count, item))

    @staticmethod
    def _settle(item: Item, spent: Spending) -> None:
        for allowance, expected in item.payers:
            allowance.arrived(expected, spent)

    def _work(self) -> None:
        """Do what has become possible."""
        while self.trouble is None:
            if self._agenda:
                self._agenda.popleft()()
                continue
            held, self._held = self._held, []
            for frame in held:
                if frame.alive:
                    frame.open()
            if not self._agenda:
                return


def _nothing(lane: Lane, k: int) -> None:
    pass
