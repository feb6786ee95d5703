"""
The presenter: an App's data as one snapshot, which the page, the JSON API and the terminal all read, and nothing else.

``present`` reads and changes nothing; what only time can tell (restarts since the last look, a job's curve) is taken
in by ``look`` before. A snapshot holds JSON values alone. ``version`` is raised when a field changes its meaning or
goes; new fields may come at any time. Times are seconds after ``origin``; amounts of money are texts.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from dspex._clock import wall_time
from dspex.app.dashboard.jobs_view import JobNotes, index_row
from dspex.app.dashboard.notes import Notes
from dspex.app.dashboard.requests_view import exact, money
from dspex.app.dashboard.shapes import VERSION, Plain
from dspex.protocols.model import LM
from dspex.protocols.money import Account
from dspex.requests import LiveRequest
from dspex.runtime import SupervisorRef, TaskSupervisorRef

if TYPE_CHECKING:
    from dspex.app._tree import AppTree

__all__ = ["look", "present"]

SHOWN: Final = 30
"""Requests in flight that are told one by one: the oldest."""

_MINUTE: Final = 60.0


def look(tree: AppTree, notes: Notes) -> Plain:
    """Take in what has changed since the last look, and return the snapshot of now."""
    now = tree.runtime.clock.now()
    known = notes.tree.number
    rows, _ = notes.tree.look(tree.snapshot(), now, _is_supervisor(tree))
    for death in notes.tree.deaths:
        if death["number"] > known:
            notes.died(death)
    spending = notes.spending
    if not spending or now - spending[-1][0] >= 1.0:
        spending.append((now, _dollars(tree, notes), tree.runner.completed + tree.runner.failed))
    jobs: Plain = {}
    for record in tree.job_service.table.jobs.values():
        job, seen = tree.job_service.handle(record.spec.id), notes.jobs.setdefault(record.spec.id, JobNotes())
        events = record.since(seen.seen)
        assert job is not None  # since its record is there
        told = list(record.events) if events is None else events
        jobs[job.id] = seen.look(job, told, record.spec.optimizer, held=record.held)
    return present(tree, notes, now, rows, jobs)


def _is_supervisor(tree: AppTree) -> Callable[[int | None], bool]:
    def told(pid: int | None) -> bool:
        process = tree.runtime.processes.get(pid) if pid is not None else None
        return process is not None and isinstance(process.ref, (SupervisorRef, TaskSupervisorRef))

    return told


def present(tree: AppTree, notes: Notes, now: float, rows: Plain, jobs: Plain) -> Plain:
    """Return the snapshot of ``now``, with the rows of the tree and of the jobs."""
    live = tree.runner.live
    shown = [_live_row(each, notes) for each in itertools.islice(live.values(), SHOWN)]
    notes.rows.end_look()
    return {
        "version": VERSION,
        "at": round(now - notes.origin, 3),
        "app": _app(tree, notes, now, rows),
        "requests": {row["id"]: row for row in shown},
        "tree": rows,
        "deaths": {str(each["number"]): dict(each) for each in notes.tree.deaths},  # copies: they are written on
        "toll": {**notes.toll, "who": dict(notes.who)},
        "models": _models(tree, notes, now),
        "cache": _cache(tree),
        "retrievers": {name: each.plain() for name, each in notes.searches.items()},
        "tools": _tools(tree, notes),
        "programs": {name: each.plain() for name, each in notes.programs.items()},
        "budgets": _budgets(tree),
        "jobs": jobs,
        "indexings": {id_: index_row(each) for id_, each in tree.index_service.table.jobs.items()},
        "evaluations": {each.id: each.plain() for each in notes.evaluations},
        "kept": {reason: {row["id"]: row for row in ring} for reason, ring in notes.kept.items()},
    }


def _app(tree: AppTree, notes: Notes, now: float, rows: Plain) -> Plain:
    runner, book = tree.runner, tree.book
    down = [path for path, row in rows.items() if row["status"] != "running"]
    spent = book.root.spent
    first, last = (notes.spending[0], notes.spending[-1]) if notes.spending else (None, None)
    seconds = last[0] - first[0] if first is not None and last is not None else 0.0
    ended = last[2] - first[2] if first is not None and last is not None else 0
    return {
        "ready": tree.open_for_use and not down,
        "running": runner.admission.running,
        "waiting": runner.admission.waiting,
        "completed": runner.completed,
        "failed": runner.failed,
        "cancelled": runner.cancelled,
        "accepted": runner.accepted,
        "lost": runner.accepted - runner.completed - runner.failed - runner.cancelled - len(runner.live),
        "down": down,
        "hidden": max(0, len(tree.runner.live) - SHOWN),
        "actors": len(rows),
        "calls": book.calls,
        "attempts": book.attempts,
        "tokens": book.usage.total_tokens,
        "spent": exact(spent.usd),
        "unpriced": spent.unpriced,
        "per_second": round(ended / seconds, 2) if seconds else None,
        "per_minute": _per_minute(notes, None),
        "capture": notes.capture,
        "note": notes.note,
        "began": round(wall_time() - (now - notes.origin)),
    }


def _live_row(live: LiveRequest, notes: Notes) -> Plain:
    state = "waiting" if live.waits else "running"
    return notes.rows.row(live.record, state, notes.waited_for(live.record.id))


# --- models --------------------------------------------------------------------------------------------------


def _models(tree: AppTree, notes: Notes, now: float) -> Plain:
    found: Plain = {}
    for name, lm, facts in tree.lm.facts(now):
        row: Plain = {"lm": lm, "up": facts is not None}
        if facts is not None:
            row |= {
                "limit": facts.limit,
                "most": facts.most,
                "in_flight": facts.in_flight,
                "waiting": facts.waiting,
                "paused": round(facts.paused, 1),
                "breaker": facts.breaker,
                "probe_in": round(facts.probe_in, 1),
                "key_error": facts.key_error,
                "buckets": [[kind, round(level), capacity, period] for kind, level, capacity, period in facts.buckets],
            }
        figures = notes.models.get(lm)
        found[name] = row | (figures.plain() if figures is not None else {}) | {"per_minute": _per_minute(notes, lm)}
    known = {row["lm"] for row in found.values()}
    for lm, each in notes.models.items():  # models of this process, and of calls whose client is unknown
        if lm not in known:
            found[lm] = {"lm": lm, "up": True, **each.plain(), "per_minute": _per_minute(notes, lm)}
    return found


def _dollars(tree: AppTree, notes: Notes) -> dict[str, float]:
    """Return the dollars that each model has cost, as far as prices are known."""
    found: dict[str, float] = {}
    for name, usage in tree.book.by_model.items():
        lm = notes.lms.get(name)
        if lm is None:
            lm = notes.lms[name] = LM(name)
        cost = tree.book.prices.cost(lm, usage)
        if cost is not None:
            found[name] = float(cost)
    return found


def _per_minute(notes: Notes, lm: str | None) -> float | None:
    """Return dollars a minute of one model, or of all; None where no price is known, or too little was seen."""
    if len(notes.spending) < 2:
        return None
    (then, before, _), (now, after, _) = notes.spending[0], notes.spending[-1]
    names = after.keys() if lm is None else after.keys() & {lm}
    if not names or now <= then:
        return None
    spent = sum(after[name] - before.get(name, 0.0) for name in names)
    return round(spent * _MINUTE / (now - then), 6)


# --- the rest -------------------------------------------------------------------------------------------------


def _cache(tree: AppTree) -> Plain | None:
    if tree.cache is None:
        return None
    table = tree.cache.table
    return {
        "hits": dict(table.hits),
        "misses": table.misses,
        "entries": len(table.memory),
        "most": table.memory.max_entries,
        "bytes": table.memory.bytes,
        "evicted": table.memory.evicted,
        "flights": len(table.flights),
    }


def _tools(tree: AppTree, notes: Notes) -> Plain:
    pool = tree.threads.pool
    return {
        "threads": {
            "busy": pool.busy if pool is not None else 0,
            "late": pool.late if pool is not None else 0,
            "limit": tree.threads.limit,
        },
        "tools": {name: each.plain() for name, each in notes.steps.items()},
    }


def _budgets(tree: AppTree) -> Plain:
    accounts: dict[str, Account] = {tree.book.root.name: tree.book.root}
    for record in tree.job_service.table.jobs.values():
        account = record.spec.options.paying_account
        if account is not None:
            accounts.setdefault(account.name, account)
    for live in itertools.islice(tree.runner.live.values(), SHOWN):
        for account in live.record.account.chain():
            accounts.setdefault(account.name, account)
    return {name: _account(account) for name, account in accounts.items()}


def _account(account: Account) -> Plain:
    budget = account.budget
    return {
        "usd": money(budget.usd) if budget is not None else None,
        "tokens": budget.tokens if budget is not None else None,
        "calls": budget.calls if budget is not None else None,
        "spent": exact(account.spent.usd),
        "spent_tokens": account.spent.tokens,
        "spent_calls": account.spent.calls,
        "reserved": exact(max(account.reserved.usd, Decimal(0))),
        "unpriced": account.spent.unpriced,
    }
