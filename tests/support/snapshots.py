"""Snapshots of an App, as the presenter makes them: one with something in every view."""

from __future__ import annotations

from typing import Any

__all__ = ["busy_snapshot", "quiet_snapshot"]


def quiet_snapshot() -> dict[str, Any]:
    """An App that nobody has asked anything."""
    return {
        "version": 1,
        "at": 3.0,
        "app": {
            "ready": True,
            "running": 0,
            "waiting": 0,
            "completed": 0,
            "failed": 0,
            "cancelled": 0,
            "accepted": 0,
            "lost": 0,
            "down": [],
            "hidden": 0,
            "actors": 2,
            "calls": 0,
            "attempts": 0,
            "tokens": 0,
            "spent": "0",
            "unpriced": 0,
            "per_second": None,
            "per_minute": None,
            "capture": False,
            "note": "",
            "began": 1_700_000_000,
        },
        "requests": {},
        "tree": {"App": _node(0, None, "App"), "App/cache": _node(1, "App", "cache")},
        "deaths": {},
        "toll": {
            "deaths": 0,
            "waited": 0,
            "answered": 0,
            "failed": 0,
            "again": 0,
            "twice": "0",
            "unpriced": 0,
            "who": {},
        },
        "models": {},
        "cache": None,
        "retrievers": {},
        "tools": {"threads": {"busy": 0, "late": 0, "limit": 32}, "tools": {}},
        "programs": {},
        "budgets": {"the App": _account()},
        "jobs": {},
        "indexings": {},
        "evaluations": {},
        "kept": {"failed": {}, "killed": {}, "waited": {}, "retried": {}, "repaired": {}, "slow": {}},
    }


def busy_snapshot() -> dict[str, Any]:
    """An App in a storm: requests in flight, actors that died, two models, a job, two evaluations, kept requests."""
    told = quiet_snapshot()
    told["at"] = 65.0
    told["app"] |= {
        "running": 3,
        "waiting": 1,
        "completed": 812,
        "failed": 2,
        "accepted": 818,
        "actors": 9,
        "spent": "0.012345",
        "per_second": 12.5,
        "per_minute": 0.0102,
        "down": ["App/lm/openai/small"],
    }
    told["requests"] = {each["id"]: each for each in (_retried(), _searching(), _waiting(), _restarted())}
    told["tree"] = _tree()
    told["deaths"] = {
        "1": {"number": 1, "path": "App/cache", "at": None, "restarts": 2, "reason": "killed"},
        "2": _death(2, "App/retrievers/default", 40.0, ["r7", "r8"], answered=2),
        "3": _death(3, "App/lm/openai/small", 60.5, ["r814", "r815", "r816"], answered=1, failed=1, again=1),
        "4": _death(4, "App/ledger", 64.0, []),
    }
    who = {"App/retrievers/default": 1, "App/lm/openai/small": 1, "App/ledger": 1}
    told["toll"] = {
        "deaths": 3,
        "waited": 5,
        "answered": 3,
        "failed": 1,
        "again": 1,
        "twice": "0.00031",
        "unpriced": 0,
        "who": who,
    }
    told["app"]["note"] = "the shop in the village"
    told["models"] = {"small": _small(), "careful": _large()}
    told["cache"] = {
        "hits": {"memory": 30, "disk": 10, "coalesced": 2},
        "misses": 58,
        "entries": 58,
        "most": 1000,
        "bytes": 123_456,
        "evicted": 0,
        "flights": 1,
    }
    told["retrievers"] = {"default": _times(120, 1, 0.004, 0.02, 0.05)}
    told["tools"] = {
        "threads": {"busy": 2, "late": 0, "limit": 32},
        "tools": {"look_up_weather": _times(40, 7, 0.3, 0.45, 0.5)},
    }
    told["programs"] = {"AskCapital": _times(700, 2, 0.8, 1.9, 3.1), "TellWeather": _times(114, 0, 1.2, 2.4, 2.9)}
    told["budgets"] = {
        "the App": _account(usd="20", spent="0.012345", spent_tokens=123_456, spent_calls=900, unpriced=2)
    }
    told["jobs"] = {"capitals": _job()}
    told["indexings"] = {"index-birds": _indexing()}
    told["evaluations"] = {
        "e1": {
            "id": "e1",
            "program": "AskCapital",
            "at": 10.0,
            "state": "ended",
            "end": 21.5,
            "done": 27,
            "total": 27,
            "failed": 1,
            "score": 0.731,
            "interval": [0.54, 0.86],
            "cost": "0.0021",
        },
        "e2": {"id": "e2", "program": "AskCapital", "at": 60.0, "state": "running"},
    }
    failed = _retried() | {"id": "r99", "state": "failed", "end": 9.0, "at": 3.0, "error": "DeadlineExceeded"}
    failed["steps"] = [{"name": "lm answer", "at": 3.0, "end": 9.0, "error": "DeadlineExceeded", "attempts": []}]
    killed = _restarted() | {"state": "done", "end": 64.2}
    told["kept"] |= {"failed": {"r99": failed}, "killed": {"r814": killed}}
    return told


def _node(order: int, parent: str | None, label: str, **more: Any) -> dict[str, Any]:
    facts = {"status": "running", "mailbox": 0, "most": 0, **more}
    return {"order": order, "parent": parent, "label": label, "pid": order + 1, **facts}


def _tree() -> dict[str, Any]:
    return {
        "App": _node(0, None, "App", supervisor=True),
        "App/cache": _node(1, "App", "cache", restarts=2, exit="killed", most=4, note="58 entries"),
        "App/ledger": _node(2, "App", "ledger", restarts=1, restarted=64.0, exit="crashed: OSError", most=9),
        "App/lm": _node(3, "App", "lm", supervisor=True),
        "App/lm/openai": _node(4, "App/lm", "openai", supervisor=True),
        "App/lm/openai/small": _node(
            5, "App/lm/openai", "small", status="restarting", restarts=3, restarted=60.5, exit="killed",
            mailbox=2, most=12, oldest=63.0,
        ),
        "App/retrievers": _node(6, "App", "retrievers", supervisor=True),
        "App/retrievers/default": _node(
            7, "App/retrievers", "default", restarts=1, restarted=40.0, exit="killed", most=3
        ),
        "App/requests": _node(8, "App", "requests", tasks=4, busy=64.5),
    }  # fmt: skip


def _death(number: int, path: str, at: float, waited: list[str], **ends: int) -> dict[str, Any]:
    twice = {"twice": "0.00031" if ends.get("again") else "0", "unpriced": 0}
    ended = {"answered": 0, "failed": 0, "again": 0, **twice, **ends}
    told = {"number": number, "path": path, "at": at, "restarts": 1, "reason": "killed"}
    return {**told, "waited": len(waited), "requests": waited, **ended}


def _request(number: str, program: str, at: float, steps: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    told = {"id": number, "program": program, "state": "running", "at": at, "deadline": at + 120.0}
    return {**told, "cost": "0", "steps": steps, **more}


def _retried() -> dict[str, Any]:
    attempts = [{"outcome": "RateLimited", "status": 429, "at": 58.5, "for": 0.4}]
    step = {"name": "lm answer", "at": 57.2, "lm": "openai/small", "attempts": attempts, "wire": 60.0}
    search = {"name": "retrieve default", "at": 57.0, "end": 57.2}
    return _request("r811", "AskCapital", 57.0, [search, step], calls=2, tokens=1_234, cost="0.00021")


def _searching() -> dict[str, Any]:
    return _request("r815", "AskCapital", 63.0, [{"name": "retrieve default", "at": 63.0}])


def _waiting() -> dict[str, Any]:
    return _request("r818", "TellWeather", 64.5, []) | {"state": "waiting"}


def _restarted() -> dict[str, Any]:
    attempts = [{"outcome": "killed", "at": 60.2, "for": 0.3}, {"outcome": "ok", "at": 61.0, "for": 2.0}]
    steps = [
        {"name": "tool look_up_weather", "at": 59.0, "end": 60.0},
        {"name": "lm sum_up", "at": 60.0, "end": 63.0, "lm": "openai/large", "attempts": attempts, "restarts": 1},
    ]
    waited = ["lm/openai/small"]
    return _request("r814", "TellWeather", 59.0, steps, restarts=1, calls=1, cost="0.0012", waited=waited)


def _times(count: int, failed: int, p50: float, p95: float, p99: float) -> dict[str, Any]:
    return {"count": count, "failed": failed, "p50": p50, "p95": p95, "p99": p99}


def _small() -> dict[str, Any]:
    return {
        "lm": "openai/small",
        "up": False,
        "limit": 12,
        "most": 24,
        "in_flight": 9,
        "waiting": 3,
        "paused": 0.4,
        "breaker": "half_open",
        "probe_in": 1.5,
        "key_error": "",
        "buckets": [["requests", 12, 240, 60]],
        "times": _times(700, 40, 0.7, 1.8, 2.5),
        "first": _times(700, 40, 0.2, 0.5, 0.9),
        "outcomes": {"ok": 660, "RateLimited": 22, "ServerFailed": 18},
        "retries": 38,
        "resent": 1,
        "hedged": 0,
        "per_minute": 0.0021,
    }


def _large() -> dict[str, Any]:
    return {"lm": "openai/large", "up": True, "limit": 24, "most": 24, "in_flight": 1, "waiting": 0, "per_minute": None}


def _account(**more: Any) -> dict[str, Any]:
    told: dict[str, Any] = {"usd": None, "tokens": None, "calls": None, "spent": "0", "spent_tokens": 0}
    return {**told, "spent_calls": 0, "reserved": "0", "unpriced": 0, **more}


def _indexing() -> dict[str, Any]:
    counts = {"read": 1_200, "added": 1_000, "unchanged": 199, "embedded": 1_000, "bad": 1}
    about = {"id": "index-birds", "status": "running", "held": False, "index": "birds.db", "mode": "build"}
    return {**about, **counts, "error": None, "report": None}


def _job() -> dict[str, Any]:
    candidates = [
        {"key": "c2", "number": 2, "mean": 0.8, "low": 0.6, "high": 0.93, "rows": 15, "failed": 1},
        {"key": "student", "number": 0, "mean": 0.55, "low": 0.3, "high": 0.8, "rows": 15, "failed": 0},
    ]
    scores = {"c2": [1.0, 0.0, "failed", 0.5, None], "student": [0.0, 1.0, 0.25, 0.5, 1.0]}
    return {
        "id": "capitals",
        "status": "running",
        "optimizer": "GEPA",
        "held": False,
        "steered_by": ["add", "drop", "hint"],
        "spent": "0.0123",
        "tokens": 54_321,
        "evaluations": 90,
        "points": [["0.001", 10, 0.5, 0.3, 0.7], ["0.005", 40, 0.6, 0.4, 0.8], ["0.012", 90, 0.8, 0.6, 0.93]],
        "candidates": candidates,
        "matrix": {"rows": [0, 1, 2, 3, 4], "scores": scores},
        "verdict": None,
        "told": {"program": "AskCapital", "learn": 8, "choose": 15},
    }
