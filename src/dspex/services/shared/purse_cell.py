"""
One budget that several processes spend from: the decisions, pure; where it is kept is a cell's business.

Each process holds a slice: it may spend that much without asking. A slice counts as spent until its holder says what
it spent of it. A holder that was killed never says, and nobody knows what a provider has counted for it: its slice
stays counted, so that the sum can never pass the limit. Slices are therefore small beside what is left.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

__all__ = ["ALIVE", "NO_COINS", "Coins", "Limits", "PurseAnswer", "PurseAsk", "PurseCell", "exchange"]

ALIVE: Final = 3.0
"""Seconds after its last word for which a holder counts as alive."""

HUNGER: Final = 2.0
"""Seconds for which holders keep no more than they need, after somebody had to go without."""

_MOST_LEFT: Final = 64
"""Holders that have left and are listed by name; the sums of older ones are kept as one."""

_VERSION: Final = 1


class Coins(NamedTuple):
    """An amount in whole numbers: billionths of a dollar, tokens, calls, and calls of unknown price."""

    usd: int = 0
    tokens: int = 0
    calls: int = 0
    unpriced: int = 0

    def plus(self, other: Coins) -> Coins:
        """Return the sum."""
        return Coins(*(one + two for one, two in zip(self, other, strict=True)))

    def minus(self, other: Coins) -> Coins:
        """Return the difference."""
        return Coins(*(one - two for one, two in zip(self, other, strict=True)))


NO_COINS: Final = Coins()

Limits = tuple[int | None, int | None, int | None]
"""The most of dollars (in billionths), tokens and calls; None is no limit."""


class PurseAsk(NamedTuple):
    """
    One holder's word to the purse.

    Attributes:
        holder: Its name, which no other process has, ever.
        turn: Counts up with each word of the holder.
        spent: The sum of all that it has spent so far.
        keep: The part of its slice that it keeps; from now on it spends no more than that, and what is granted.
        need: The least more that would be of use to it.
        want: The most more that it has a use for; at least ``need``.
        limits: Of the budget, as the holder was configured.
        yields: The hunger that the holder knew of when it decided what to keep.
        leaves: It has ended, and holds nothing any more.
    """

    holder: str
    turn: int
    spent: Coins = NO_COINS
    keep: Coins = NO_COINS
    need: Coins = NO_COINS
    want: Coins = NO_COINS
    limits: Limits = (None, None, None)
    yields: int = 0
    leaves: bool = False


class PurseAnswer(NamedTuple):
    """
    The purse's answer.

    Attributes:
        granted: All of ``need`` and perhaps more of ``want``; nothing where there is too little.
        spent: By all processes that ever had a part, as far as they have said.
        held: The slices of the others.
        lost: The part of ``held`` whose holders have not been heard of lately.
        limits: In force: the smallest of those that live holders were configured with.
        live: Holders that are alive, the asker included.
        hunger: Grows when somebody has to go without; 0 while nobody does.
        final: Where nothing was granted: nothing will come back either, for no living holder has anything to spare.
    """

    granted: Coins
    spent: Coins
    held: Coins
    lost: Coins
    limits: Limits
    live: int
    hunger: int
    final: bool

    def room(self, own: Coins) -> tuple[int | None, ...]:
        """Return what is left for others where the asker keeps ``own``: dollars in billionths, tokens, calls."""
        return tuple(
            None if limit is None else limit - spent - held - mine
            for limit, spent, held, mine in zip(self.limits, self.spent[:3], self.held[:3], own[:3], strict=True)
        )


@dataclass(slots=True)
class Holder:
    """A process, and its slice of the purse."""

    turn: int
    seen: float
    spent: Coins
    held: Coins
    limits: Limits
    yields: int = 0
    left: bool = False


@dataclass(slots=True)
class PurseCell:
    """
    The whole of a purse: what is in the cell.

    Attributes:
        origin: A name that was drawn when the cell was made: another one tells that the store has lost what it had.
        holders: By name.
        gone: The sums of holders that left long ago, by the origin under which they left.
        hunger: Grows with each time that somebody had to go without.
        hungry_until: By the store's clock.
    """

    origin: str
    holders: dict[str, Holder] = field(default_factory=dict)
    gone: dict[str, Coins] = field(default_factory=dict)
    hunger: int = 0
    hungry_until: float = -math.inf

    def encode(self) -> str:
        """Return the text of the cell."""
        holders = {
            name: [each.turn, each.seen, each.spent, each.held, each.limits, each.yields, int(each.left)]
            for name, each in self.holders.items()
        }
        until = self.hungry_until if math.isfinite(self.hungry_until) else None
        return json.dumps([_VERSION, self.origin, holders, self.gone, self.hunger, until], separators=(",", ":"))

    @staticmethod
    def decode(text: str) -> PurseCell:
        """
        Read the text of a cell.

        Raises:
            ValueError: It is none.
        """
        try:
            version, origin, holders, gone, hunger, until = json.loads(text)
            if version != _VERSION:
                raise ValueError(f"it is of version {version!r:.20}, and this dspex knows {_VERSION}")
            return PurseCell(
                str(origin),
                {str(name): _holder(each) for name, each in holders.items()},
                {str(name): _coins(each) for name, each in gone.items()},
                _whole(hunger),
                -math.inf if until is None else float(until),
            )
        except (TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            raise ValueError(f"it holds no budget: {type(error).__name__}") from error

    def spent(self) -> Coins:
        """Return the sum of all that holders say they have spent."""
        return _sum([*(each.spent for each in self.holders.values()), *self.gone.values()])


def exchange(cell: PurseCell, ask: PurseAsk, now: float, remembered: PurseCell | None = None) -> PurseAnswer:
    """
    Take one holder's word, change ``cell`` by it, and answer.

    Args:
        cell: The purse, which is changed.
        ask: The word. One that is older than what the cell knows of the holder changes nothing and grants nothing.
        now: The store's clock. It may be set back: then what has been seen counts as seen now.
        remembered: The purse as the asker last saw it: where the store has lost it, it is brought back.
    """
    if remembered is not None and remembered.origin != cell.origin:
        _bring_back(cell, remembered)
    for each in cell.holders.values():
        each.seen = min(each.seen, now)
    cell.hungry_until = min(cell.hungry_until, now + HUNGER)
    before = cell.holders.get(ask.holder)
    if before is not None and before.turn >= ask.turn:
        ask = replace_ask(ask, before)
    others = [each for name, each in cell.holders.items() if name != ask.holder]
    alive = [each for each in others if not each.left and now - each.seen <= ALIVE]
    limits = _least([ask.limits, *(each.limits for each in alive)])
    own = Holder(ask.turn, now, ask.spent, ask.keep, ask.limits, ask.yields, ask.leaves)
    cell.holders[ask.holder] = own
    spent, held = cell.spent(), _sum(each.held for each in others)
    lost = _sum(each.held for each in others if each.left or now - each.seen > ALIVE)
    hungry, final, granted = now < cell.hungry_until, False, NO_COINS
    if any(ask.need):
        room = [
            None if limit is None else limit - used - away - ask.keep[at]
            for at, (limit, used, away) in enumerate(zip(limits, spent[:3], held[:3], strict=True))
        ]
        if any(most is not None and need > most for most, need in zip(room, ask.need[:3], strict=True)):
            if not hungry:
                cell.hunger += 1
            hungry, cell.hungry_until = True, now + HUNGER
            final = all(each.yields >= cell.hunger or not any(each.held) for each in alive)
        else:
            granted = _share(ask, room, 1 + len(alive), hungry=hungry)
            own.held = own.held.plus(granted)
    _fold(cell)
    return PurseAnswer(granted, spent, held, lost, limits, 1 + len(alive), cell.hunger if hungry else 0, final)


def replace_ask(ask: PurseAsk, known: Holder) -> PurseAsk:
    """Return an ask that changes nothing of what is known of its holder."""
    return PurseAsk(
        ask.holder, known.turn, known.spent, known.held, limits=known.limits, yields=known.yields, leaves=known.left
    )


def _share(ask: PurseAsk, room: list[int | None], live: int, *, hungry: bool) -> Coins:
    """Return what is granted: the need, and of the rest half of an equal share at most, so that slices shrink."""
    granted = []
    for need, want, most in zip(ask.need, ask.want, (*room, None), strict=True):
        extra = 0 if hungry else max(0, want - need)
        granted.append(need + (extra if most is None else min(extra, (most - need) // (2 * live))))
    return Coins(*granted)


def _bring_back(cell: PurseCell, remembered: PurseCell) -> None:
    """Add what the store has lost: of each holder the latest word, of each origin the larger sum."""
    for name, each in remembered.holders.items():
        known = cell.holders.get(name)
        if known is None or known.turn < each.turn:
            cell.holders[name] = replace(each)
    for origin, gone in remembered.gone.items():
        known_sum = cell.gone.get(origin, NO_COINS)
        cell.gone[origin] = Coins(*map(max, gone, known_sum))
    cell.hunger = max(cell.hunger, remembered.hunger)


def _fold(cell: PurseCell) -> None:
    """Keep the names of the latest that have left; the others' sums are one."""
    left = [(each.seen, name) for name, each in cell.holders.items() if each.left and not any(each.held)]
    for _, name in sorted(left)[: max(0, len(left) - _MOST_LEFT)]:
        cell.gone[cell.origin] = cell.gone.get(cell.origin, NO_COINS).plus(cell.holders.pop(name).spent)


def _least(given: list[Limits]) -> Limits:
    found = [min((one for one in each if one is not None), default=None) for each in zip(*given, strict=True)]
    return found[0], found[1], found[2]


def _sum(given: Iterable[Coins]) -> Coins:
    total = NO_COINS
    for each in given:
        total = total.plus(each)
    return total


# --- reading -----------------------------------------------------------------------------------------------------


def _holder(given: Any) -> Holder:
    turn, seen, spent, held, limits, yields, left = given
    usd, tokens, calls = (None if each is None else _whole(each) for each in limits)
    return Holder(
        _whole(turn), float(seen), _coins(spent), _coins(held), (usd, tokens, calls), _whole(yields), bool(left)
    )


def _coins(given: Any) -> Coins:
    usd, tokens, calls, unpriced = map(_whole, given)
    return Coins(usd, tokens, calls, unpriced)


def _whole(given: object) -> int:
    if not isinstance(given, int):
        raise ValueError(f"{given!r:.40} is not a whole number")
    return given
