"""The rows of ``--erlang``."""

from __future__ import annotations

from typing import Any

from benchmarks._row import Group, Row, Size

__all__ = ["ERLANG_GROUPS"]


def _beside_erlang(name: str, title: str, ours: str, peer: str, versus: str = "gen_server", **more: Any) -> Group:
    """Return a group of one row beside Erlang."""
    seconds, size = more.pop("seconds", 0.2), more.pop("size", None)
    row = Row(f"erlang-{name}", title, f"{ours}@asyncio", f"erlang:{peer}@beam", versus, None, **more)
    return Group(f"erlang-{name}", (row,), seconds=seconds, size=size)


ERLANG_GROUPS: tuple[Group, ...] = (
    _beside_erlang("call", "a call and its answer", "runtime:call", "call"),
    _beside_erlang("cast", "a cast, handled", "runtime:cast", "cast"),
    _beside_erlang("start-stop", "start + stop a supervised actor", "runtime:start_stop", "start_stop"),
    _beside_erlang("restart", "crash → restarted and answering", "runtime:crash_to_answer", "crash_to_answer"),
    _beside_erlang(
        "fan-in-calls",
        "1,000 senders calling one actor",
        "loads:fan_in_calls",
        "fan_in_calls",
        size=Size(50_000, 50_000, rounds=3),
    ),
    _beside_erlang(
        "fan-in-casts",
        "1,000 senders casting to one actor",
        "loads:fan_in_casts",
        "fan_in_casts",
        size=Size(100_000, 100_000, rounds=3),
    ),
    _beside_erlang(
        "ring", "a hop in a ring of 10,000 actors", "loads:ring", "ring", size=Size(100_000, 50_000, rounds=3)
    ),
    _beside_erlang(
        "pipeline",
        "an item through 10 stages with back-pressure",
        "loads:pipeline",
        "pipeline",
        "10 gen_servers, 100 items under way",
        size=Size(5_000, 3_000, rounds=3),
    ),
    _beside_erlang(
        "children",
        "start 100,000 supervised children, then stop each",
        "loads:children",
        "children",
        "gen_servers below a simple_one_for_one supervisor",
        size=Size(100_000, 5_000, rounds=1, starts=1),
    ),
    _beside_erlang(
        "memory",
        "memory per idle supervised actor, child record included",
        "memory:idle_actors",
        "memory",
        "gen_servers below a simple_one_for_one supervisor",
        clock="memory",
        size=Size(100_000, 20_000, rounds=1, starts=1),
    ),
    _beside_erlang(
        "storm",
        "p99 of a call while 100 others crash 10,000 times",
        "storms:storm",
        "storm",
        clock="p99",
        size=Size(10_000, 3_000, rounds=1, starts=3),
    ),
)
"""The rows of ``--erlang``; Erlang runs on one scheduler, as dspex runs on one loop."""
