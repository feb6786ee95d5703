"""The views of the terminal: each makes lines of a snapshot. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.text import Text

from dspex.app.dashboard.shapes import Plain
from dspex.app.top.bars import LEGEND, MARKS, bar
from dspex.app.top.cells import (
    Column,
    Line,
    TableCell,
    TableRow,
    count,
    cut,
    dollars,
    heading,
    line,
    seconds,
    table,
    wide_cells,
)

__all__ = ["VIEWS", "View", "toll_text"]


@dataclass(frozen=True, slots=True)
class View:
    """A view: its key, its titles, its orders, and what makes its lines of snapshot, width, order and open line."""

    key: str
    title: str
    short: str
    orders: Sequence[str]
    lines: Callable[[Plain, int, str, str | None], list[Line]]


def toll_text(snapshot: Plain) -> str:
    """Return one sentence: who died, who waited for it, how that ended, and whether anything was lost."""
    toll, lost = snapshot["toll"], snapshot["app"]["lost"]
    kept = "nothing was lost" if not lost else f"{lost} requests were LOST"
    if not toll["deaths"]:
        return f"no actor has died; {kept}"
    many = toll["deaths"] > 1
    died = f"{_who(toll)} died and {'were' if many else 'was'} restarted"
    part = "them" if many else "it"
    if not toll["waited"]:
        return f"{died}; no request was at {part}; {kept}"
    again = _twice(toll) or "no call is paid twice"
    return f"{died}; {_many(toll['waited'], 'request')} waited for {part}: {_ends(toll)}; {kept}; {again}"


def _twice(told: Plain) -> str:
    """Return how many calls may be paid twice, and what that costs; recordings of older releases have no price."""
    if not told["again"]:
        return ""
    price = f" ({dollars(told['twice'])})" if "twice" in told else ""
    if told.get("unpriced"):
        price = " (price unknown)" if told["unpriced"] == told["again"] else f" ({dollars(told['twice'])} and more)"
    return f"{_many(told['again'], 'call')} may be paid twice{price}"


def _who(toll: Plain) -> str:
    """Return the names of those that died most often; recordings of older releases have their number alone."""
    who = sorted(toll.get("who", {}).items(), key=lambda each: -each[1])
    if not who:
        return _many(toll["deaths"], "actor")
    names = [_short(path) + (f" {times}x" if times > 1 else "") for path, times in who[:3]]
    names += [f"{len(who) - 3} more"] if len(who) > 3 else []
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]


def _short(path: str) -> str:
    """Return the last name of an actor that stands deep in the tree."""
    rooms = path.removeprefix("App/").split("/")
    return "/".join(rooms) if len(rooms) < 3 else rooms[-1]


def _many(number: int, what: str) -> str:
    return f"{count(number)} {what}{'s' * (number != 1)}"


def _ends(told: Plain) -> str:
    """Return how requests that waited have ended so far."""
    open_ = told["waited"] - told["answered"] - told["failed"]
    ends = ((told["answered"], "answered"), (told["failed"], "failed"), (open_, "under way"))
    return ", ".join(f"{count(number)} {what}" for number, what in ends if number)


# --- requests -------------------------------------------------------------------------------------------------

_REQUEST: Final = (
    Column("request", 9),
    Column("program", 22, need=3),
    Column("took", 9, right=True),
    Column("where its time went", wide=True),
    Column("cost", 9, right=True, need=4),
    Column("what happened", 34, need=2),
)


def _now(snapshot: Plain, width: int, order: str, open_: str | None) -> list[Line]:
    rows = sorted(snapshot["requests"].values(), key=_by(order, snapshot["at"]))
    if not rows:
        return [Line(line(("Nothing is in flight.", "dim")))]
    lines = _requests(rows, snapshot["at"], width, open_)
    if hidden := snapshot["app"]["hidden"]:
        lines.append(Line(line((f"and {count(hidden)} more", "dim"))))
    return [*lines, Line(Text()), *_legend(width)]


def _by(order: str, now: float) -> Callable[[Plain], Any]:
    if order == "program":
        return lambda row: (row["program"], row["at"])
    if order == "cost":
        return lambda row: (-float(row["cost"] or 0), row["at"])
    if order == "took":
        return lambda row: row["at"] - row.get("end", now)
    return lambda row: row["at"]


def _requests(rows: Sequence[Plain], now: float, width: int, open_: str | None) -> list[Line]:
    span = max((row.get("end", now) - row["at"] for row in rows), default=0.1)
    shown = [_request(row, now, span, 1, open_) for row in rows]
    cells = wide_cells(_REQUEST, shown, width)
    return table(_REQUEST, [_request(row, now, span, max(1, cells), open_) for row in rows], width)


def _request(row: Plain, now: float, span: float, cells: int, open_: str | None) -> TableRow:
    took = row.get("end", now) - row["at"]
    again = row.get("restarts", 0)
    waited = ", ".join(_short(each) for each in row.get("waited", ()))
    facts = [
        row.get("error", ""),
        f"waited for {waited}" if waited else "",
        f"{again} step{'s' * (again > 1)} restarted" if again else "",
        "started again" if row.get("resubmitted") else "",
        f"{row['repairs']} repaired" if row.get("repairs") else "",
        f"{row['cached']} cached" if row.get("cached") else "",
        "waits" if row["state"] == "waiting" else "",
    ]
    style = {"failed": "red", "cancelled": "magenta"}.get(row["state"], "")
    return TableRow(
        (
            TableCell(row["id"], "cyan"),
            TableCell(row["program"]),
            TableCell(seconds(took)),
            bar(row, now, span, cells),
            TableCell(dollars(row["cost"])),
            TableCell(", ".join(each for each in facts if each), style or ("yellow" if again else "")),
        ),
        row["id"],
        _steps(row, now) if row["id"] == open_ else (),
    )


def _steps(row: Plain, now: float) -> list[Line]:
    lines = []
    if row.get("text"):
        lines.append(Line(line("    ", (row["text"], "red"))))
    if row.get("waited"):
        lines.append(Line(line("    ", (f"died while it was there: {', '.join(row['waited'])}", "yellow"))))
    if row.get("more"):
        lines.append(Line(line((f"    {row['more']} steps before", "dim"))))
    for step in row["steps"]:
        took = seconds(step["end"] - step["at"]) if "end" in step else "runs"
        told: list[str | tuple[str, str]] = [f"    +{seconds(step['at'] - row['at'])} {step['name']}: {took}"]
        told += [(f"  cache: {step['cached']}", "dim")] if "cached" in step else []
        for each in step.get("attempts", ()):
            status = f" {each['status']}" if "status" in each else ""
            style = "green" if each["outcome"] == "ok" else "red"
            told.append((f"  {each['outcome']}{status} {seconds(each['for'])}", style))
        told += [(f"  on the wire {seconds(now - step['wire'])}", "bright_blue")] if "wire" in step else []
        told += [(f"  restarted {step['restarts']}x", "yellow")] if "restarts" in step else []
        told += [(f"  {step['error']}", "red")] if "error" in step else []
        lines.append(Line(line(*told)))
    facts = f"    {_many(row.get('calls', 0), 'call')}, {count(row.get('tokens', 0))} tokens, {dollars(row['cost'])}"
    left = f", {seconds(max(0.0, row['deadline'] - now))} left" if "end" not in row else ""
    return [*lines, Line(line((facts + left, "dim")))]


def _legend(width: int) -> list[Line]:
    lines, found = [], Text(no_wrap=True)
    for kind, told in LEGEND:
        mark, style = MARKS[kind]
        piece = Text.assemble((mark, style), (f" {told}", "dim"))
        if found and found.cell_len + 3 + piece.cell_len > width:
            lines.append(Line(found))
            found = Text(no_wrap=True)
        found.append("   " if found else "")
        found.append_text(piece)
    return [*lines, Line(found)]


_WHY: Final = {
    "failed": "ended in an error",
    "killed": "a step or its process died under them",
    "waited": "an actor died while they were at it",
    "retried": "a call was tried again",
    "repaired": "an answer had to be put right",
    "slow": "three times the median of their program",
}


def _kept(snapshot: Plain, width: int, order: str, open_: str | None) -> list[Line]:
    lines: list[Line] = []
    for why, kept in snapshot["kept"].items():
        if kept:
            rows = sorted(kept.values(), key=_by(order, snapshot["at"]), reverse=order == "newest")
            lines += [*([Line(Text())] if lines else []), heading(why, f"{len(rows)}, {_WHY.get(why, '')}")]
            lines += _requests(rows, snapshot["at"], width, open_)
    if not lines:
        return [
            Line(
                line(
                    ("No request has failed, been slow, repaired or tried again, or was at an actor that died.", "dim")
                )
            )
        ]
    return [*lines, Line(Text()), *_legend(width)]


# --- the tree -------------------------------------------------------------------------------------------------

DEATHS: Final = 5
"""Restarts that stand above the tree."""

FLASH: Final = 2.0
"""Seconds for which a line is marked after a restart."""

_DEATH: Final = (
    Column("when", 15),
    Column("who died", 40),
    Column("why", 30, need=1),
    Column("waited for it", wide=True),
)
_NODE: Final = (
    Column("actor", 40),
    Column("restarts", 14),
    Column("mailbox", 12, right=True, need=1),
    Column("oldest", 8, right=True, need=2),
    Column("last exit", 24, need=3),
    Column("says", wide=True, need=4),
)


def _tree(snapshot: Plain, width: int, order: str, open_: str | None) -> list[Line]:
    at, rows = snapshot["at"], snapshot["tree"]
    deaths = sorted(snapshot["deaths"].values(), key=lambda each: -each["number"])
    lines = [heading("Restarts", "the newest first")]
    if deaths:
        lines += table(_DEATH, [_death(each, at) for each in deaths[:DEATHS]], width)
    else:
        lines.append(Line(line(("No actor has died since this memory began.", "dim"))))
    paths = sorted(rows, key=lambda path: _node_order(rows[path], order))
    nodes = [_node(path, rows, at, nested=order == "tree", open_=open_) for path in paths]
    return [*lines, Line(Text()), heading("Tree"), *table(_NODE, nodes, width)]


def _death(death: Plain, at: float) -> TableRow:
    fresh = death["at"] is not None and at - death["at"] < FLASH
    when = "before you came" if death["at"] is None else f"{seconds(at - death['at'])} ago"
    who = TableCell(death["path"].removeprefix("App/"), "reverse yellow" if fresh else "")
    waited = death.get("waited", 0)
    told = "unknown" if death["at"] is None else _many(waited, "request") if waited else "nobody"
    below = []
    if waited:
        style = "red" if death["failed"] else "green" if death["answered"] == waited else "yellow"
        again = f", {_twice(death)}" if death["again"] else ""
        names = f"    {' '.join(death['requests'])}{' …' if waited > len(death['requests']) else ''}: "
        below.append(Line(line((names, "cyan"), (_ends(death) + again, style))))
    return TableRow((TableCell(when), who, TableCell(death["reason"]), TableCell(told)), None, below)


def _node_order(row: Plain, order: str) -> tuple[float, int]:
    first = {"restarts": -row.get("restarts", 0), "mailbox": -row["mailbox"]}.get(order, 0)
    return first, row["order"]


def _node(path: str, rows: Plain, at: float, *, nested: bool, open_: str | None) -> TableRow:
    row = rows[path]
    depth = path.count("/") if nested else 0
    fresh = "restarted" in row and at - row["restarted"] < FLASH
    style = "reverse yellow" if fresh else "red" if row["status"] != "running" else ""
    label = f"{'  ' * depth}{row['label']}" + (f" ({row['status']})" if row["status"] != "running" else "")
    restarts = f"{row['restarts']}x" if "restarts" in row else ""
    restarts += f" {seconds(at - row['restarted'])} ago" if "restarted" in row else ""
    oldest = seconds(at - row["oldest"]) if "oldest" in row else ""
    busy = f"busy {seconds(at - row['busy'])}" if "busy" in row else ""
    tasks = f"{count(row['tasks'])} tasks" if "tasks" in row else ""
    told = ", ".join(each for each in (busy, tasks, row.get("note", "")) if each)
    below = [Line(line((f"    {path}, pid {row['pid']}: {told or 'nothing to tell'}", "dim")))] if path == open_ else []
    mailbox = f"{row['mailbox']} of {row['most']}" if row["most"] else ""
    cells = (
        TableCell(label, style),
        TableCell(restarts, "yellow"),
        TableCell(mailbox),
        TableCell(oldest),
        TableCell(row.get("exit", "")),
        TableCell(told, "dim"),
    )
    return TableRow(cells, path, below)


# --- models, cache, budgets -----------------------------------------------------------------------------------

_MODEL: Final = (
    Column("model", 30),
    Column("in flight", 11, right=True),
    Column("waiting", 7, right=True),
    Column("half within", 11, right=True),
    Column("95 %", 8, right=True, need=2),
    Column("first token", 11, right=True, need=3),
    Column("retries", 7, right=True, need=1),
    Column("hedged", 6, right=True, need=5),
    Column("a minute", 9, right=True, need=4),
    Column("answers", wide=True, need=6),
)


def _models(snapshot: Plain, width: int, order: str, open_: str | None) -> list[Line]:
    models = sorted(snapshot["models"].items(), key=lambda each: _model_order(each[0], each[1], order))
    if not models:
        return [Line(line(("No model has been asked yet.", "dim")))]
    return table(_MODEL, [_model(name, row, opened=name == open_) for name, row in models], width)


def _model_order(name: str, row: Plain, order: str) -> tuple[float, str]:
    if order == "slowest":
        return -((row.get("times") or {}).get("p95") or 0.0), name
    if order == "dearest":
        return -(row.get("per_minute") or 0.0), name
    return 0.0, row["lm"]


def _model(name: str, row: Plain, *, opened: bool) -> TableRow:
    times, first = row.get("times") or {}, row.get("first") or {}
    outcomes = sorted((row.get("outcomes") or {}).items(), key=lambda each: (-each[1], each[0]))
    faults = [
        "" if row["up"] else "its client is being restarted",
        f"breaker {row['breaker'].replace('_', ' ')}" if row.get("breaker", "closed") != "closed" else "",
        f"next try in {row['probe_in']} s" if row.get("probe_in") else "",
        f"the key is refused: {row['key_error']}" if row.get("key_error") else "",
        f"the provider asked to wait {row['paused']} s" if row.get("paused") else "",
        f"the limit was learned: {row['limit']} of {row['most']}" if row.get("limit", 0) < row.get("most", 0) else "",
    ]
    below = [Line(line("    ", (each, "yellow"))) for each in faults if each]
    for kind, level, capacity, period in row.get("buckets", ()):
        per = {60: "minute", 3600: "hour", 86400: "day"}.get(period, f"{period} s")
        style = "red" if level < capacity / 10 else "dim"
        below.append(Line(line("    ", (f"{count(level)} of {count(capacity)} {kind} a {per} are left", style))))
    if opened:
        shares = (("p50", "half"), ("p95", "95 %"), ("p99", "99 %"))
        told = [f"{name} within {seconds(first.get(key))}" for key, name in shares]
        resent = f"{count(row.get('resent', 0))} resent over a fresh socket"
        breaker = f"breaker {row['breaker'].replace('_', ' ')}" if "breaker" in row else "no breaker"
        below.append(Line(line((f"    first token: {', '.join(told)}", "dim"))))
        below.append(Line(line((f"    {resent}, {breaker}", "dim"))))
    flight = f"{row['in_flight']} of {row['limit']}" if "limit" in row else "-"
    rate = row.get("per_minute")
    cells = (
        TableCell(row["lm"], "cyan"),
        TableCell(flight),
        TableCell(count(row.get("waiting")), "yellow" if row.get("waiting") else ""),
        TableCell(seconds(times.get("p50"))),
        TableCell(seconds(times.get("p95"))),
        TableCell(seconds(first.get("p50"))),
        TableCell(count(row.get("retries", 0)), "yellow" if row.get("retries") else ""),
        TableCell(count(row.get("hedged", 0))),
        TableCell("-" if rate is None else dollars(rate)),
        TableCell(", ".join(f"{outcome} {number}" for outcome, number in outcomes)),
    )
    return TableRow(cells, name, below)


_BUDGET: Final = (
    Column("who pays", 30),
    Column("spent", 10, right=True),
    Column("set aside", 10, right=True, need=1),
    Column("budget", 16, right=True),
    Column("tokens", 12, right=True, need=2),
    Column("calls", 9, right=True, need=3),
)
_TIMES: Final = (
    Column("name", 30),
    Column("times", 9, right=True),
    Column("failed", 7, right=True),
    Column("half within", 11, right=True),
    Column("95 %", 8, right=True, need=1),
    Column("99 %", 8, right=True, need=2),
)


def _stores(snapshot: Plain, width: int, order: str, open_: str | None) -> list[Line]:
    del order, open_
    lines = [heading("Budgets"), *table(_BUDGET, [_budget(*each) for each in snapshot["budgets"].items()], width)]
    lines += [Line(Text()), heading("Cache"), _cache(snapshot["cache"])]
    threads = snapshot["tools"]["threads"]
    busy = f"{threads['busy']} of {threads['limit']} threads busy"
    for title, rows, more in (
        ("Retrievers", snapshot["retrievers"], ""),
        ("Tools", snapshot["tools"]["tools"], busy),
        ("Programs", snapshot["programs"], ""),
    ):
        lines += [Line(Text()), heading(title, more)]
        told = [_times(*each) for each in rows.items()]
        lines += table(_TIMES, told, width) if told else [Line(line(("none yet", "dim")))]
    return lines


def _budget(name: str, row: Plain) -> TableRow:
    limit = dollars(row["usd"]) if row["usd"] is not None else ""
    limit = limit or (f"{count(row['tokens'])} tokens" if row["tokens"] is not None else "")
    limit = limit or (f"{count(row['calls'])} calls" if row["calls"] is not None else "none")
    more = f"{row['unpriced']} calls of unknown price" if row["unpriced"] else ""
    spent = TableCell(dollars(row["spent"]))
    cells = (
        TableCell(name),
        spent,
        TableCell(dollars(row["reserved"])),
        TableCell(limit),
        TableCell(count(row["spent_tokens"])),
    )
    below = [Line(line("    ", (more, "yellow")))] if more else []
    return TableRow((*cells, TableCell(count(row["spent_calls"]))), None, below)


def _cache(cache: Plain | None) -> Line:
    if cache is None:
        return Line(line(("This App has no cache.", "dim")))
    hits = sum(cache["hits"].values())
    share = f"{100 * hits / (hits + cache['misses']):.0f} % answered" if hits + cache["misses"] else "not asked yet"
    where = ", ".join(f"{count(number)} {name}" for name, number in cache["hits"].items())
    return Line(line((share, "bold"), f": {where}, {count(cache['misses'])} not there; {count(cache['entries'])} kept"))


def _times(name: str, row: Plain) -> TableRow:
    failed = TableCell(count(row["failed"]), "red" if row["failed"] else "")
    times = (TableCell(seconds(row[each])) for each in ("p50", "p95", "p99"))
    return TableRow((TableCell(name), TableCell(count(row["count"])), failed, *times))


# --- jobs and evaluations -------------------------------------------------------------------------------------

_CANDIDATE: Final = (
    Column("candidate", 12),
    Column("mean", 6, right=True),
    Column("95 %", 16, right=True, need=2),
    Column("rows", 5, right=True),
    Column("failed", 6, right=True, need=1),
    Column("rows one by one: 0 to 9 are tenths, # is 1, x failed", wide=True, need=3),
)
_EVALUATION: Final = (
    Column("evaluation", 12),
    Column("program", 30, need=1),
    Column("score", 6, right=True),
    Column("95 %", 16, right=True, need=3),
    Column("rows", 14, right=True),
    Column("failed", 6, right=True),
    Column("cost", 9, right=True, need=2),
    Column("state", wide=True),
)
SPARKS: Final = "▁▂▃▄▅▆▇█"


def _jobs(snapshot: Plain, width: int, order: str, open_: str | None) -> list[Line]:
    del order, open_
    lines: list[Line] = []
    for job in reversed(snapshot["jobs"].values()):
        style = {"finished": "green", "failed": "red"}.get(job["status"], "yellow")
        lines += [
            *([Line(Text())] if lines else []),
            Line(line((job["id"], "bold"), f"  {job['optimizer']}  ", (job["status"], style)), job["id"]),
        ]
        cost = "unknown cost" if job.get("unpriced") and not float(job["spent"]) else dollars(job["spent"])
        paid = f"{cost}, {count(job['tokens'])} tokens for {count(job['evaluations'])} evaluations"
        lines.append(Line(line(paid, (f"  {job['told']['error']}" if "error" in job["told"] else "", "red"))))
        if job["verdict"] is not None:
            lines.append(Line(line((f"Verdict: {job['verdict']}", "bold"))))
        if job["status"] not in ("finished", "failed", "cancelled"):
            by = job.get("steered_by", ())
            told = [
                f"dspex jobs {'resume' if job.get('held') else 'pause'} {job['id']}",
                f"dspex jobs cancel {job['id']}",
            ]
            told += [f"dspex jobs steer {job['id']} --{' --'.join(by)}"] if by else []
            lines.append(Line(line((cut(", ".join(told), width), "dim"))))
        if len(job["points"]) > 1:
            lines.append(Line(_sparks(job["points"], width)))
        lines += table(_CANDIDATE, [_candidate(each, job) for each in job["candidates"]], width)
    for job in reversed(snapshot.get("indexings", {}).values()):  # an older recording has none
        style = {"finished": "green", "failed": "red"}.get(job["status"], "yellow")
        lines += [
            *([Line(Text())] if lines else []),
            Line(line((job["id"], "bold"), f"  into {job['index']}  ", (job["status"], style)), job["id"]),
            Line(line(_indexed(job), (f"  {job['error']}" if job["error"] else "", "red"))),
        ]
    return lines or [Line(line(("No job has been started: app.compile(…) or app.index(…) starts one.", "dim")))]


def _indexed(job: Plain) -> str:
    counted = [f"{count(job[name])} {name}" for name in ("added", "unchanged", "embedded")]
    left_out = [f"{count(job['bad'])} left out"] if job["bad"] else []
    return job["report"] or f"{count(job['read'])} passages read: {', '.join([*counted, *left_out])}"


def _sparks(points: Sequence[Sequence[Any]], width: int) -> Text:
    means = [float(each[2]) for each in points]
    room = max(4, min(60, width - 44))
    shown = [means[int(place * (len(means) - 1) / max(1, room - 1))] for place in range(min(room, len(means)))]
    low, high = min(shown), max(shown)
    marks = "".join(SPARKS[int((each - low) / (high - low) * 7) if high > low else 3] for each in shown)
    return line(("best mean by money: ", "dim"), f"{means[0]:.3f} ", (marks, "cyan"), f" {means[-1]:.3f}")


def _candidate(row: Plain, job: Plain) -> TableRow:
    mean = "-" if row["mean"] is None else f"{row['mean']:.3f}"
    bounds = "-" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"
    squares = Text(no_wrap=True)
    for cell in job["matrix"]["scores"].get(row["key"], ()):
        if cell is None:
            squares.append(" ")
        elif cell == "failed":
            squares.append("x", "red")
        else:
            squares.append("#" if cell >= 1 else str(max(0, int(cell * 10))), "green" if cell >= 0.5 else "yellow")
    failed = TableCell(count(row["failed"]), "red" if row["failed"] else "")
    return TableRow(
        (
            TableCell(row["key"][:10]),
            TableCell(mean),
            TableCell(bounds),
            TableCell(count(row["rows"])),
            failed,
            squares,
        ),
        f"{job['id']} {row['key']}",
    )


def _evaluations(snapshot: Plain, width: int, order: str, open_: str | None) -> list[Line]:
    del order, open_
    rows = []
    for each in snapshot["evaluations"].values():
        score = "-" if each.get("score") is None else f"{each['score']:.3f}"
        bounds = "{:.3f} to {:.3f}".format(*each["interval"]) if each.get("interval") else "-"
        failed = TableCell(count(each.get("failed", 0)), "red" if each.get("failed") else "")
        done = f"{count(each.get('done', 0))} of {count(each.get('total', '?'))}"
        took = seconds(each.get("end", snapshot["at"]) - each["at"])
        state = TableCell(f"{each['state']}, {took}", {"ended": "green", "failed": "red"}.get(each["state"], "yellow"))
        cells = (
            TableCell(score),
            TableCell(bounds),
            TableCell(done),
            failed,
            TableCell(dollars(each.get("cost"))),
            state,
        )
        rows.append(TableRow((TableCell(each["id"], "cyan"), TableCell(each["program"]), *cells)))
    if not rows:
        return [Line(line(("Nothing has been evaluated: app.evaluate(…) does it.", "dim")))]
    return table(_EVALUATION, rows, width)


VIEWS: Final = (
    View("now", "Now", "Now", ("oldest", "program", "cost"), _now),
    View("tree", "Tree", "Tree", ("tree", "restarts", "mailbox"), _tree),
    View("models", "Models", "Models", ("name", "slowest", "dearest"), _models),
    View("stores", "Cache & budgets", "Cache", ("name",), _stores),
    View("jobs", "Jobs", "Jobs", ("newest",), _jobs),
    View("evaluations", "Evaluations", "Evals", ("oldest",), _evaluations),
    View("kept", "Kept requests", "Kept", ("newest", "took", "cost", "program"), _kept),
)
