"""
The memory of an App that may be looked at: figures of requests, and the requests that are worth keeping.

An App that nobody asked to watch has none of this: requests are told to nobody, and write no steps down.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from dspex._guard import contained
from dspex.app.dashboard.evaluations_view import EvaluationNote
from dspex.app.dashboard.figures import LATEST, Durations, plain_of
from dspex.app.dashboard.jobs_view import JobNotes
from dspex.app.dashboard.requests_view import (
    BROKEN_OFF,
    FINE,
    REASONS,
    RequestRows,
    attempts_of,
    exact,
    reasons_of,
    request_row,
    waits_for,
)
from dspex.app.dashboard.shapes import Plain
from dspex.app.dashboard.tree_view import DEATHS, TreeNotes
from dspex.protocols.lm import Attempt, LMRequest, LMResponse, Message
from dspex.protocols.model import LM
from dspex.requests import LiveRequest, RequestRecord, RequestRunner
from dspex.runtime import get_logger
from dspex.telemetry import Facts

if TYPE_CHECKING:
    from dspex.telemetry import Telemetry

__all__ = ["ModelNotes", "Notes"]

KEPT: Final = 30
"""Requests that are kept for each reason."""

LIVE_STEPS: Final = 8
"""Steps of a request in flight that are told one by one: the latest."""

KEPT_STEPS: Final = 40
EVALUATIONS: Final = 12

SLOW_AFTER: Final = 20
"""Requests of a program that must have ended before one of them can be called slow."""

SELDOM: Final = 256
"""Requests after which the median of a program is learned anew, at the latest."""

SLOW: Final = 3.0
"""Times the median of its program: longer is slow."""

REQUESTS: Final = 6
"""Requests that are named beside a death."""

ASKED: Final = 1_000
"""Requests in flight that are asked if they are at an actor that dies: the oldest."""

NAMED: Final = 200
"""Actors whose deaths are counted one by one."""

CONVERSATIONS: Final = 300
CALLS: Final = 20
WORDS: Final = 4_000
"""Characters of one message of a conversation that are kept."""

_log = get_logger("dashboard")


_NOBODY_WAITED: Final[Plain] = {"waited": 0, "answered": 0, "failed": 0, "again": 0, "twice": "0", "unpriced": 0}

_KILLED: Final = frozenset({"killed"})

_NEVER: Final = (math.inf, SLOW_AFTER)


class ModelNotes:
    """The attempts at one model; of the latest, the times are worked out when somebody looks."""

    __slots__ = ("_first", "_latest", "_others", "_retries", "_told", "fine")

    def __init__(self) -> None:
        self.fine = 0
        """Attempts that brought an answer."""
        self._first = 0
        self._latest: deque[Attempt] = deque(maxlen=LATEST)
        self._others: Counter[str] = Counter()
        self._retries = 0
        self._told: tuple[int, Plain] = -1, {}

    def add_fine(self, attempt: Attempt) -> None:
        """Count an attempt that brought an answer, as most do."""
        self.fine += 1
        self._latest.append(attempt)
        if attempt.first_byte is not None:
            self._first += 1

    def add(self, attempt: Attempt, *, again: bool) -> None:
        """Count an attempt; ``again`` says that it followed a failed one."""
        self.add_fine(attempt)
        self._retries += again
        if attempt.outcome != "ok":
            self.fine -= 1
            self._others[attempt.outcome] += 1

    def plain(self) -> Plain:
        """Return the numbers, as JSON has them; the same object as the last time where nothing was added."""
        count = self.fine + self._others.total()
        if self._told[0] != count:
            failed = sum(number for outcome, number in self._others.items() if outcome not in FINE)
            first = [each.first_byte for each in self._latest if each.first_byte is not None]
            told = {
                "times": plain_of([each.duration for each in self._latest], count, failed),
                "first": plain_of(first, self._first, 0),
                "outcomes": {**({"ok": self.fine} if self.fine else {}), **self._others},
                "retries": self._retries,
                "resent": self._others["resent"],
                "hedged": self._others["cancelled"],
            }
            self._told = count, told
        return self._told[1]


class Notes:
    """
    The memory of one run of an App for whoever looks at it; all of it is bounded.

    Args:
        runner: Whose requests are looked at when they have ended.
        telemetry: Where conversations are listened for, where they may be shown.
        capture: True where the words of users and models may be shown.
    """

    def __init__(self, runner: RequestRunner, telemetry: Telemetry, *, capture: bool = False) -> None:
        self.capture = capture
        self.note = ""
        """One line that stands above every view."""
        self.origin = runner.runtime.clock.now()
        """Where the times that are told begin, by the runtime's clock."""
        self.tree = TreeNotes(origin=self.origin, capture=capture)
        self.rows = RequestRows(origin=self.origin, steps=LIVE_STEPS, capture=capture)
        self.models: dict[str, ModelNotes] = {}
        self.steps: dict[str, Durations] = {}
        """Calls of tools, by their names."""
        self.searches: dict[str, Durations] = {}
        """By retriever."""
        self.programs: dict[str, Durations] = {}
        self.kept: dict[str, deque[Plain]] = {reason: deque(maxlen=KEPT) for reason in REASONS}
        self.evaluations: deque[EvaluationNote] = deque(maxlen=EVALUATIONS)
        self.jobs: dict[str, JobNotes] = {}
        self.words: OrderedDict[str, list[Plain]] = OrderedDict()
        self.spending: deque[tuple[float, dict[str, float], int]] = deque(maxlen=61)
        """Once a second while somebody looks: when, dollars by model, requests ended."""
        self.lms: dict[str, LM] = {}
        self.who: Counter[str] = Counter()
        """The deaths of each actor, by path."""
        self.toll: Plain = {"deaths": 0, **_NOBODY_WAITED}
        """The cost of restarts: ``waited`` requests were at a part that died; of these so many
        were ``answered`` and ``failed``; ``again`` counts attempts that were broken off and may be paid twice,
        ``twice`` dollars as far as their price is known, which that of ``unpriced`` of them is not."""
        self._waits: dict[str, list[Plain]] = {}
        self._at_death: dict[str, Plain] = {}
        """Deaths that no look has found yet, by path."""
        self._slow: dict[str, tuple[float, int]] = {}
        """Of each program: the time above which it is slow, and the count at which that is learned anew."""
        self._numbers = itertools.count(1)
        self._runner = runner
        self._detach: Callable[[], None] = lambda: None
        runner.watcher = self.ended
        if capture:
            self._detach = telemetry.attach("dspex.lm.call", self._hear, capture=True)

    def close(self) -> None:
        """Look no more."""
        self._runner.watcher = None
        self._detach()

    # --- told -----------------------------------------------------------------------------------------------

    def ended(self, live: LiveRequest) -> None:
        """Take in a request that has ended; a fault in here must not become the request's."""
        try:
            self._take(live)
        except Exception as error:  # noqa: BLE001 - whoever looks on is never the reason why a request fails
            contained(error)
            _log.error(
                "request not taken in", says="the dashboard could not take in a request: {error}", exc_info=error
            )

    def note_death(self, path: str, live: Iterable[LiveRequest], now: float) -> None:
        """
        Note the requests that are at an actor when it dies; their ends are written there as well.

        By the next look some of them have what they waited for, and before the first one nobody else remembers them.
        """
        self.toll["deaths"] += 1
        if path in self.who or len(self.who) < NAMED:
            self.who[path] += 1
        death = self._at_death.get(path)
        if death is None and len(self._at_death) >= DEATHS:
            return
        if death is None:
            at = round(now - self.origin, 3)
            death = {"path": path, "at": at, "requests": [], **_NOBODY_WAITED}
            self._at_death[path] = death
        rooms = path.split("/")
        for one in itertools.islice(live, ASKED):  # this is a supervisor's time
            request, known = one.record.id, self._waits.get(one.record.id, [])
            if death not in known and any(waits_for(rooms, step) for step in one.record.steps or ()):
                self.toll["waited"] += not known
                death["waited"] += 1
                if len(death["requests"]) < REQUESTS:
                    death["requests"].append(request)
                self._waits[request] = [*known, death]

    def died(self, death: Plain) -> None:
        """Take in a death that a look has found."""
        noted = self._at_death.pop(death["path"], None)
        if noted is None:
            death |= {"requests": [], **_NOBODY_WAITED}
            return
        death |= noted
        for found in self._waits.values():  # those that are under way go on to be counted there
            found[:] = [death if each is noted else each for each in found]

    def waited_for(self, request: str) -> list[str]:
        """Return the paths of actors that died while a request in flight was at them."""
        return _paths(self._waits.get(request, ()))

    def _settle(self, live: LiveRequest, deaths: list[Plain]) -> None:
        """Write the end of a request beside the deaths that it has lived through."""
        end = "failed" if live.error is not None else "answered"
        transport = any(each["path"].endswith("/transport") for each in deaths)
        again, unpriced, twice = self._paid_twice(live.record, BROKEN_OFF if transport else _KILLED)
        for place in (*deaths, self.toll):
            place[end] += 1
            place["again"] += again
            place["unpriced"] += unpriced
            place["twice"] = exact(Decimal(place["twice"]) + twice)

    def _paid_twice(self, record: RequestRecord, ends: Collection[str]) -> tuple[int, int, Decimal]:
        """
        Return how many attempts were broken off on the wire, of how many the price is unknown, and that of the others.

        Nobody has counted the tokens of one that was broken off: it is taken to cost as much as the answer that came.
        """
        again, unpriced, dollars = 0, 0, Decimal(0)
        for log in record.logs:
            killed = sum(each.sent and each.outcome in ends for each in log.attempts)
            if killed:
                answer, lm = log.response, log.lm
                cost = None if answer is None or lm is None else self._runner.services.money.cost(lm, answer.usage)
                again += killed
                unpriced += killed if cost is None else 0
                dollars += killed * cost if cost is not None else 0
        return again, unpriced, dollars

    def _take(self, live: LiveRequest) -> None:
        record = live.record
        deaths = self._waits.pop(record.id, None) if self._waits else None
        if deaths is not None:
            self._settle(live, deaths)
        failed = False
        for log in record.logs:
            attempts = log.attempts
            if len(attempts) == 1 and attempts[0].outcome == "ok":  # nearly all of them
                self._model(attempts[0].lm).add_fine(attempts[0])
            else:
                failed |= self._count(attempts)
            if log.parts:
                failed |= self._count(attempts_of(log)[len(log.attempts) :])
        for note in record.steps or ():
            if note.log is None and note.ended is not None:
                kind, name = (self.searches, note.retriever) if note.retriever else (self.steps, note.name)
                figures = kind.get(name)
                if figures is None:
                    figures = kind[name] = Durations()
                figures.add(note.ended - note.begun, failed=bool(note.error))
        program = type(record.program).__name__
        times = self.programs.get(program)
        if times is None:
            times = self.programs[program] = Durations()
        took = record.ended - record.started if record.ended is not None else 0.0
        times.add(took, failed=live.error is not None)
        slow, again = self._slow.get(program, _NEVER)
        if times.count >= again:  # a sort: not for every request
            slow = SLOW * (times.percentile(0.5) or 0.0)
            self._slow[program] = slow, times.count + min(times.count, SELDOM)
        if live.error is None and not failed and took <= slow and deaths is None and not _is_marked(record):
            return
        reasons = reasons_of(record, live.error, retried=failed, slow=took > slow, waited=deaths is not None)
        if reasons:
            state = "cancelled" if live.cancelled else "failed" if live.error is not None else "done"
            row = request_row(
                record,
                origin=self.origin,
                steps=KEPT_STEPS,
                state=state,
                error=live.error,
                capture=self.capture,
                waited=_paths(deaths or ()),
            )
            self.kept[reasons[0]].append({**row, "reasons": reasons})

    def _count(self, attempts: Sequence[Attempt]) -> bool:
        """Count the attempts of a call; True when one of them has failed."""
        failed = False
        for attempt in attempts:
            self._model(attempt.lm).add(attempt, again=failed)
            failed = failed or attempt.outcome not in FINE
        return failed

    def _model(self, lm: str) -> ModelNotes:
        notes = self.models.get(lm)
        if notes is None:
            notes = self.models[lm] = ModelNotes()
        return notes

    def evaluating(self, program: str) -> EvaluationNote:
        """Note that an evaluation begins."""
        now = self._runner.runtime.clock.now() - self.origin
        note = EvaluationNote(f"e{next(self._numbers)}", program, now, self.origin)
        self.evaluations.append(note)
        return note

    # --- conversations, only where they may be shown ----------------------------------------------------------

    def _hear(self, name: str, measurements: Mapping[str, float], metadata: Facts) -> None:
        calls = self.words.setdefault(metadata["request"], [])
        if name.endswith(".start"):
            while len(self.words) > CONVERSATIONS:
                self.words.popitem(last=False)
            request = metadata.get("inputs")
            if len(calls) < CALLS and isinstance(request, LMRequest):
                told = [{"role": each.role, "text": _text(each)} for each in request.messages]
                calls.append({"span": metadata["span"], "step": metadata["step"], "messages": told, "answers": []})
            return
        answer = metadata.get("outputs")
        for call in calls:
            if call["span"] == metadata["span"]:
                if isinstance(answer, LMResponse):
                    call["answers"] = [_text(each.turn()) for each in answer.completions]
                elif "error" in metadata:
                    call["error"] = str(metadata["error"])[:WORDS]


def _is_marked(record: RequestRecord) -> bool:
    """True when something died under a request, or had to be repaired in it."""
    return bool(record.step_restarts or record.resubmitted or record.repairs)


def _paths(deaths: Iterable[Plain]) -> list[str]:
    return list(dict.fromkeys(each["path"].removeprefix("App/") for each in deaths))[:4]


def _text(message: Message) -> str:
    content = message.content
    if isinstance(content, str):
        return content[:WORDS]
    parts = [getattr(part, "text", None) or f"({type(part).__name__})" for part in content]
    return "\n".join(parts)[:WORDS]
