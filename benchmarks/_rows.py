"""What is measured: the groups that run together, and the ratios read from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from benchmarks._budget import Budget

__all__ = ["GROUPS", "Clock", "Group", "Row", "rows_of"]

Clock = Literal["cpu", "wall"]


@dataclass(frozen=True, slots=True)
class Row:
    """
    One ratio.

    Attributes:
        name: Short and unique; ``--only`` takes it.
        title: What is measured, for the table.
        ours: The contender whose cost it is, as ``module:function@loop``.
        peer: The contender beside it.
        versus: What the peer is, for the table.
        budget: The aim. A row without one informs; ``reads`` then says which way its ratio goes.
        clock: CPU time of the whole process (the default: noise from neighbours hardly shows), or elapsed time.
    """

    name: str
    title: str
    ours: str
    peer: str
    versus: str
    budget: Budget | None
    clock: Clock = "cpu"
    reads: Literal["cost", "gain"] = "cost"

    def ratio(self, ours: float, peer: float) -> float:
        """Return the ratio of two costs, in the direction in which this row is read."""
        if self.budget is not None:
            return self.budget.ratio(ours, peer)
        return ours / peer if self.reads == "cost" else peer / ours


@dataclass(frozen=True, slots=True)
class Group:
    """
    Rows whose contenders take turns.

    Attributes:
        name: Short and unique; ``--only`` takes it.
        rows: The ratios read from it.
        server: Whether the contenders talk to the chat-completions server.
        seconds: About how long one turn of one contender takes.
    """

    name: str
    rows: tuple[Row, ...]
    server: bool = False
    seconds: float = 0.1

    @property
    def contenders(self) -> tuple[str, ...]:
        """Everyone who takes part, in the order of first mention."""
        return tuple(dict.fromkeys(name for row in self.rows for name in (row.ours, row.peer)))


def _at(text: str) -> Budget:
    return Budget.parse(text)


_PING_PONG = "bare deque + Future ping-pong"
_TASK = "create_task + await"
_DSPY = "DSPy 3.4.1"

GROUPS: tuple[Group, ...] = (
    Group(
        "call",
        (
            Row(
                "call-asyncio",
                "ref.call round trip with timeout, asyncio",
                "runtime:call@asyncio",
                "floors:ping_pong@asyncio",
                _PING_PONG,
                _at("<= 2.0x"),
            ),
            Row(
                "call-uvloop",
                "ref.call round trip with timeout, uvloop",
                "runtime:call@uvloop",
                "floors:ping_pong@uvloop",
                _PING_PONG,
                _at("<= 2.2x"),
            ),
            Row(
                "call-pykka",
                "ref.call round trip with timeout",
                "runtime:call@asyncio",
                "peers:pykka_ask@asyncio",
                "pykka ask",
                _at(">= 12x"),
            ),
            Row(
                "call-pykka-elapsed",
                "ref.call round trip with timeout, elapsed",
                "runtime:call@asyncio",
                "peers:pykka_ask@asyncio",
                "pykka ask",
                None,
                clock="wall",
                reads="gain",
            ),
        ),
    ),
    Group(
        "cast",
        (
            Row(
                "cast",
                "ref.cast into a running actor",
                "runtime:cast@asyncio",
                "floors:append_and_handle@asyncio",
                "deque.append + a loop awaiting an async handler",
                _at("<= 4x"),
            ),
        ),
    ),
    Group(
        "start-stop",
        (
            Row(
                "start-stop",
                "start + stop a supervised actor, init awaited",
                "runtime:start_stop@asyncio",
                "floors:task@asyncio",
                _TASK,
                _at("<= 10x"),
            ),
            Row(
                "spawn-stop",
                "spawn an actor in the caller's tick + stop",
                "runtime:spawn_stop@asyncio",
                "floors:task@asyncio",
                _TASK,
                _at("<= 5x"),
            ),
            Row(
                "task-process",
                "start + await a task under TaskSupervisor",
                "runtime:task_process@asyncio",
                "floors:task@asyncio",
                _TASK,
                None,
            ),
        ),
    ),
    Group(
        "restart",
        (
            Row(
                "restart",
                "crash → restarted and answering",
                "runtime:crash_to_answer@asyncio",
                "runtime:start_to_answer@asyncio",
                "start of the same actor",
                _at("<= 3x"),
            ),
        ),
    ),
    Group(
        "run",
        (
            Row(
                "run-empty",
                "app.run of an empty forward",
                "requests:empty@asyncio",
                "floors:task@asyncio",
                _TASK,
                _at("<= 6x"),
            ),
            Row(
                "run-step",
                "each step inside a forward",
                "requests:steps@asyncio",
                "floors:task@asyncio",
                _TASK,
                _at("<= 4x"),
            ),
        ),
    ),
    Group(
        "http",
        (
            Row(
                "http-fast",
                "Predict over HTTP, 256 in flight: fast extra + uvloop",
                "http:predict_fast@uvloop",
                "http:dspy_acall@uvloop",
                f"{_DSPY} acall, uvloop",
                _at(">= 8x"),
            ),
            Row(
                "http-core",
                "Predict over HTTP, 256 in flight: core dependencies alone",
                "http:predict_core@asyncio",
                "http:dspy_acall@asyncio",
                f"{_DSPY} acall",
                _at(">= 5x"),
            ),
            Row(
                "http-fast-bare",
                "Predict over HTTP, 256 in flight: fast extra + uvloop",
                "http:predict_fast@uvloop",
                "http:post_fast@uvloop",
                "bare transport",
                _at("<= 1.5x"),
            ),
            Row(
                "http-core-bare",
                "Predict over HTTP, 256 in flight: core dependencies alone",
                "http:predict_core@asyncio",
                "http:post_core@asyncio",
                "bare transport",
                _at("<= 1.5x"),
            ),
            Row(
                "http-fast-throughput",
                "calls per second, 256 in flight: fast extra + uvloop",
                "http:predict_fast@uvloop",
                "http:dspy_acall@uvloop",
                f"{_DSPY} acall, uvloop",
                None,
                clock="wall",
                reads="gain",
            ),
            Row(
                "http-core-throughput",
                "calls per second, 256 in flight: core dependencies alone",
                "http:predict_core@asyncio",
                "http:dspy_acall@asyncio",
                f"{_DSPY} acall",
                None,
                clock="wall",
                reads="gain",
            ),
        ),
        server=True,
        seconds=0.4,
    ),
    Group(
        "cached",
        (
            Row(
                "cached",
                "cached Predict, one app.run each",
                "http:predict_cached@asyncio",
                "http:dspy_cached@asyncio",
                f"{_DSPY} cached acall",
                _at(">= 20x"),
            ),
            Row(
                "cached-elapsed",
                "cached Predict, one app.run each, elapsed",
                "http:predict_cached@asyncio",
                "http:dspy_cached@asyncio",
                f"{_DSPY} cached acall",
                None,
                clock="wall",
                reads="gain",
            ),
        ),
        server=True,
    ),
    Group(
        "signature",
        (
            Row(
                "signature-string",
                "signature from a new string",
                "signatures:from_string@asyncio",
                "signatures:dspy_from_string@asyncio",
                _DSPY,
                _at(">= 8x"),
            ),
            Row(
                "format",
                "format a prompt with 4 demos",
                "signatures:prompt@asyncio",
                "signatures:dspy_prompt@asyncio",
                _DSPY,
                _at(">= 10x"),
            ),
            Row(
                "format-call",
                "format a prompt with 4 demos, as Predict does for each call",
                "signatures:prompt_of_call@asyncio",
                "signatures:dspy_prompt@asyncio",
                _DSPY,
                None,
                reads="gain",
            ),
            Row(
                "parse",
                "parse a completion",
                "signatures:parse@asyncio",
                "signatures:dspy_parse@asyncio",
                _DSPY,
                _at(">= 2x"),
            ),
        ),
    ),
    Group(
        "import",
        (
            Row(
                "import",
                "import dspex",
                "imports:dspex@asyncio",
                "imports:dspy@asyncio",
                f"import dspy ({_DSPY})",
                _at("<= 0.25x"),
            ),
            Row(
                "import-all",
                "import dspex and touch App and Predict",
                "imports:dspex_rooms@asyncio",
                "imports:dspy@asyncio",
                f"import dspy ({_DSPY})",
                None,
            ),
        ),
        seconds=0.0,
    ),
)


def rows_of(only: tuple[str, ...] = ()) -> tuple[Group, ...]:
    """
    Return the groups, reduced to the rows that ``only`` names by group or row; all of them when it is empty.

    Raises:
        LookupError: Nothing is called so.
    """
    if not only:
        return GROUPS
    names = {group.name for group in GROUPS} | {row.name for group in GROUPS for row in group.rows}
    unknown = [name for name in only if name not in names]
    if unknown:
        raise LookupError(f"no benchmark is called {', '.join(unknown)}; there are {', '.join(sorted(names))}")
    chosen = []
    for group in GROUPS:
        rows = tuple(row for row in group.rows if group.name in only or row.name in only)
        if rows:
            chosen.append(Group(group.name, rows, group.server, group.seconds))
    return tuple(chosen)
