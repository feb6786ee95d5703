"""The measurements: the groups that run together, and the ratios read from them."""

from __future__ import annotations

from dataclasses import replace

from benchmarks._budget import Budget
from benchmarks._optimizer_rows import OPTIMIZER_GROUPS
from benchmarks._row import Clock, Group, Row, Size
from benchmarks._search_rows import SEARCH_GROUPS

__all__ = ["GROUPS", "MILLION", "rows_of"]

MILLION = 1_000_000
"""Idle actors with ``--million``."""


def _at(text: str) -> Budget:
    return Budget.parse(text)


def _both(name: str, title: str, ours: str, peer: str, versus: str, budget: str = "") -> tuple[Row, ...]:
    """Return a row for asyncio and one for uvloop."""
    bound = _at(budget) if budget else None
    return tuple(
        Row(f"{name}-{loop}", f"{title}, {loop}", f"{ours}@{loop}", f"{peer}@{loop}", versus, bound)
        for loop in ("asyncio", "uvloop")
    )


_PING_PONG = "bare deque + Future ping-pong"
_TASK = "create_task + await"
_DSPY = "DSPy 3.4.1"
_BESIDE_HTTP = {
    "dspy": f"{_DSPY} acall",
    "openai": "the openai SDK, one message",
    "httpx": "httpx, one prepared body, JSON read",
    "bare": "bare transport",
}


def _crowd(at_once: int) -> Group:
    """Return the group of so many calls in flight: beside DSPy, others who ask the server, and the transport."""
    ours, title = f"crowds:dspex_{at_once}@asyncio", f"{at_once:,} in flight: core dependencies alone"
    name, peer = f"crowd-{at_once}", "crowds:{}_" + f"{at_once}@asyncio"
    rows = [
        Row(
            f"{name}-{who}",
            f"Predict over HTTP, {title}",
            ours,
            peer.format(who),
            versus,
            None,
            reads="cost" if who == "bare" else "gain",
        )
        for who, versus in _BESIDE_HTTP.items()
    ]
    dspy = peer.format("dspy")
    rows.append(
        Row(
            f"{name}-rate", f"calls per second, {title}", ours, dspy, f"{_DSPY} acall", None, clock="wall", reads="gain"
        )
    )
    return Group(name, tuple(rows), server=True, seconds=0.4)


def _evaluation(name: str, title: str, ours: str, budget: str = "", clock: Clock = "wall") -> Row:
    """Return a row beside the best that DSPy's Evaluate can do."""
    what = "throughput" if clock == "wall" else "CPU"
    first, *rest = (f"evaluations:dspy_{threads}@asyncio" for threads in (32, 64, 128))
    return Row(
        name,
        f"evaluate 4,000 examples, 50 ms provider, 1,000 in flight, {what}: {title}",
        f"evaluations:{ours}",
        first,
        f"{_DSPY} Evaluate, best of 32 to 128 threads",
        _at(budget) if budget else None,
        clock=clock,
        reads="gain",
        rivals=tuple(rest),
    )


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
                _at("<= 0.5x"),
            ),
            Row(
                "call-uvloop",
                "ref.call round trip with timeout, uvloop",
                "runtime:call@uvloop",
                "floors:ping_pong@uvloop",
                _PING_PONG,
                _at("<= 0.9x"),
            ),
            Row(
                "call-pykka",
                "ref.call round trip with timeout",
                "runtime:call@asyncio",
                "peers:pykka_ask@asyncio",
                "pykka ask",
                _at(">= 25x"),
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
                _at("<= 3x"),
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
                _at("<= 3x"),
            ),
            Row(
                "spawn-stop",
                "spawn an actor in the caller's tick + stop",
                "runtime:spawn_stop@asyncio",
                "floors:task@asyncio",
                _TASK,
                _at("<= 0.7x"),
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
        "fan-in",
        (
            *_both(
                "fan-in-calls",
                "1,000 senders calling one actor",
                "loads:fan_in_calls",
                "load_floors:fan_in_futures",
                "1,000 tasks on one deque + Future loop",
            ),
            *_both(
                "fan-in-casts",
                "1,000 senders casting to one actor",
                "loads:fan_in_casts",
                "load_floors:fan_in_deque",
                "1,000 tasks appending to one deque",
            ),
        ),
        size=Size(20_000, 20_000, rounds=3, starts=2),
    ),
    Group(
        "ring",
        _both(
            "ring",
            "a hop in a ring of 10,000 actors",
            "loads:ring",
            "load_floors:ring_of_tasks",
            "a ring of 10,000 tasks and Futures",
        ),
        size=Size(30_000, 20_000, rounds=3, starts=2),
    ),
    Group(
        "pipeline",
        _both(
            "pipeline",
            "an item through 10 stages, each mailbox bounded to 10",
            "loads:pipeline",
            "load_floors:queues",
            "10 tasks and asyncio.Queue(10) each",
        ),
        size=Size(2_000, 1_000, rounds=3),
    ),
    Group(
        "children",
        (
            *_both(
                "children",
                "start 100,000 supervised children, then stop each",
                "loads:children",
                "load_floors:tasks",
                "create_task, then cancel and await each",
            ),
            Row(
                "children-at-once",
                "stop a supervisor of 100,000 children",
                "loads:children_at_once@asyncio",
                "load_floors:tasks_at_once@asyncio",
                "cancel and gather 100,000 tasks",
                None,
            ),
        ),
        size=Size(100_000, 5_000, rounds=1, starts=1),
    ),
    Group(
        "memory",
        (
            Row(
                "memory",
                "memory per idle supervised actor, child record included (0.9 KiB is 0.34x)",
                "memory:idle_actors@asyncio",
                "memory:published_erlang_process@asyncio",
                "an Erlang process as documented: 2.6 KiB",
                _at("<= 0.34x"),
                clock="memory",
            ),
            Row(
                "memory-task",
                "memory per idle supervised actor, child record included",
                "memory:idle_actors@asyncio",
                "memory:idle_tasks@asyncio",
                "a task asleep on a Future",
                None,
                clock="memory",
            ),
        ),
        size=Size(100_000, 20_000, rounds=1, starts=1),
    ),
    Group(
        "storm",
        tuple(
            Row(
                f"storm-{loop}",
                f"p99 of a call while 100 others crash 10,000 times, {loop}",
                f"storms:storm@{loop}",
                f"storms:calm@{loop}",
                "p99 of the same calls without the storm",
                None,
                clock="p99",
            )
            for loop in ("asyncio", "uvloop")
        ),
        size=Size(10_000, 3_000, rounds=1, starts=3),
    ),
    Group(
        "telemetry",
        (
            Row(
                "telemetry-call",
                "ref.call, a telemetry handler attached and detached again",
                "silence:call_detached@asyncio",
                "silence:call@asyncio",
                "never attached",
                _at("<= 1.05x"),
            ),
            Row(
                "telemetry-run",
                "app.run, a telemetry handler attached and detached again",
                "silence:run_detached@asyncio",
                "silence:run@asyncio",
                "never attached",
                _at("<= 1.05x"),
            ),
        ),
    ),
    Group(
        "page",
        (
            Row(
                "page-closed",
                "Predict over HTTP, 64 in flight, a page that nobody looks at",
                "pages:closed@uvloop",
                "pages:without@uvloop",
                "no page",
                None,
            ),
        ),
        server=True,
        seconds=1.0,
    ),
    Group(
        "viewer",
        (
            Row(
                "page-open",
                "Predict over HTTP, 64 in flight, while somebody looks at the page",
                "pages:looked_at@uvloop",
                "pages:unseen@uvloop",
                "nobody looks, in turns in the same process",
                _at("<= 1.01x"),
                clock="turns",
            ),
        ),
        server=True,
        size=Size(43_200, 3_600, rounds=5),
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
                _at("<= 5x"),
            ),
            Row(
                "run-step",
                "each step inside a forward",
                "requests:steps@asyncio",
                "floors:task@asyncio",
                _TASK,
                _at("<= 2x"),
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
                _at(">= 10x"),
            ),
            Row(
                "http-core",
                "Predict over HTTP, 256 in flight: core dependencies alone",
                "http:predict_core@asyncio",
                "http:dspy_acall@asyncio",
                f"{_DSPY} acall",
                _at(">= 9x"),
            ),
            Row(
                "http-fast-bare",
                "Predict over HTTP, 256 in flight: fast extra + uvloop",
                "http:predict_fast@uvloop",
                "http:post_fast@uvloop",
                "bare transport",
                None,
            ),
            Row(
                "http-core-bare",
                "Predict over HTTP, 256 in flight: core dependencies alone",
                "http:predict_core@asyncio",
                "http:post_core@asyncio",
                "bare transport",
                None,
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
        "own",
        tuple(
            Row(
                f"own-{loop}",
                f"Predict above a null transport, 64 in flight, {loop}",
                f"null:predict@{loop}",
                f"null:transport@{loop}",
                "the null transport: a turn of the loop",
                _at("<= 150us"),
            )
            for loop in ("asyncio", "uvloop")
        ),
        seconds=0.4,
    ),
    Group(
        "agents",
        (
            Row(
                "agents",
                "100 agents at once, 5 steps each with an async tool of 10 ms",
                "agents:react@asyncio",
                "agents:dspy_react@asyncio",
                f"{_DSPY} ReAct.acall",
                None,
                reads="gain",
            ),
            Row(
                "agents-elapsed",
                "the same, elapsed",
                "agents:react@asyncio",
                "agents:dspy_react@asyncio",
                f"{_DSPY} ReAct.acall",
                None,
                clock="wall",
                reads="gain",
            ),
            Row(
                "agents-blocking",
                "the same with a tool that blocks, elapsed",
                "agents:react_blocking@asyncio",
                "agents:dspy_react_blocking@asyncio",
                f"{_DSPY} ReAct.acall",
                None,
                clock="wall",
                reads="gain",
            ),
        ),
        server=True,
        size=Size(200, 100, rounds=3, starts=2),
    ),
    *map(_crowd, (1, 64, 256, 1_000)),
    Group(
        "stream",
        (
            Row(
                "stream",
                "an answer streamed in 200 pieces: parsed, handed on, read",
                "crowds:stream_dspex@asyncio",
                "crowds:stream_httpx@asyncio",
                "httpx, which reads the lines of the same bytes",
                _at("<= 2x"),
            ),
        ),
        server=True,
        seconds=0.3,
    ),
    Group(
        "evaluate",
        (
            _evaluation("evaluate", "core dependencies alone", "evaluate_core@asyncio", ">= 10x"),
            _evaluation("evaluate-cpu", "core dependencies alone", "evaluate_core@asyncio", clock="cpu"),
            _evaluation("evaluate-fast", "fast extra + uvloop", "evaluate_fast@uvloop"),
            Row(
                "evaluate-tuned",
                "the same, throughput, garbage collector tuned on both sides: core dependencies alone",
                "evaluations:evaluate_tuned@asyncio",
                "evaluations:dspy_tuned@asyncio",
                f"{_DSPY} Evaluate, 128 threads",
                None,
                clock="wall",
                reads="gain",
            ),
        ),
        server=True,
        size=Size(4_000, 1_000, rounds=3, starts=1),
    ),
    Group(
        "waiting",
        (
            Row(
                "memory-waiting",
                "memory of a request that waits for its turn at a model, 10,000 of them",
                "memory:waiting_requests@asyncio",
                "memory:idle_tasks@asyncio",
                "a task asleep on a Future",
                None,
                clock="memory",
            ),
        ),
        size=Size(10_000, 10_000, rounds=1, starts=1),
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
                _at(">= 30x"),
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
                _at(">= 10x"),
            ),
            Row(
                "format",
                "format a prompt with 4 demos",
                "signatures:prompt@asyncio",
                "signatures:dspy_prompt@asyncio",
                _DSPY,
                _at(">= 25x"),
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
                _at(">= 12x"),
            ),
        ),
    ),
    *OPTIMIZER_GROUPS,
    *SEARCH_GROUPS,
    Group(
        "import",
        (
            Row(
                "import",
                "import dspex",
                "imports:dspex@asyncio",
                "imports:dspy@asyncio",
                f"import dspy ({_DSPY})",
                _at("<= 0.05x"),
            ),
            Row(
                "import-all",
                "import dspex and touch App and Predict",
                "imports:dspex_rooms@asyncio",
                "imports:dspy@asyncio",
                f"import dspy ({_DSPY})",
                _at("<= 0.5x"),
            ),
        ),
        seconds=0.0,
    ),
    Group(
        "first-use",
        (
            Row(
                "first-use",
                "a fresh process to its first answer: import, open, ask, close",
                "imports:dspex_first@asyncio",
                "imports:dspy_first@asyncio",
                f"the same ({_DSPY})",
                None,
            ),
        ),
        server=True,
        seconds=0.0,
    ),
)


def rows_of(only: tuple[str, ...] = (), groups: tuple[Group, ...] = GROUPS) -> tuple[Group, ...]:
    """
    Return the groups, reduced to the rows that ``only`` names by group or row; all of them when it is empty.

    Raises:
        LookupError: Nothing is called so.
    """
    if not only:
        return groups
    names = {group.name for group in groups} | {row.name for group in groups for row in group.rows}
    unknown = [name for name in only if name not in names]
    if unknown:
        raise LookupError(f"no benchmark is called {', '.join(unknown)}; there are {', '.join(sorted(names))}")
    chosen = []
    for group in groups:
        rows = tuple(row for row in group.rows if group.name in only or row.name in only)
        if rows:
            chosen.append(replace(group, rows=rows))
    return tuple(chosen)
