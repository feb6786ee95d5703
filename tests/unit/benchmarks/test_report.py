"""Ratios, table and JSON from fixed numbers."""

import json

import pytest

from benchmarks._budget import Budget
from benchmarks._publish import FIGURES, figures_of_readme
from benchmarks._report import FORMAT, Result, Turn, figures, markdown, summary, table, to_json
from benchmarks._row import Row
from benchmarks._rows import GROUPS


def row(budget: str | None = "<= 2.0x", **changes: object) -> Row:
    fields: dict[str, object] = {"name": "call", "title": "a call", "ours": "a", "peer": "b", "versus": "a floor"}
    return Row(**{**fields, "budget": Budget.parse(budget) if budget else None, **changes})  # type: ignore[arg-type]  # of fields


def rounds(*costs: tuple[float, float]) -> list[dict[str, Turn]]:
    """Make rounds from CPU seconds; elapsed time is ten times that."""
    return [{"a": Turn(ours, 10 * ours), "b": Turn(peer, 10 * peer)} for ours, peer in costs]


def test_each_round_has_its_own_ratio() -> None:
    """A round in which everything was slow counts like any other."""
    result = summary(row(), rounds((3.0, 2.0), (30.0, 20.0), (4.0, 2.0)))

    assert result.ratio == 1.5
    assert (result.low, result.high) == (1.5, 1.75)
    assert result.verdict == "met"
    assert result.rounds == 3
    assert (result.ours, result.peer, result.unit) == (4e6, 2e6, "us")


def test_at_least_is_the_peer_over_ours() -> None:
    """A budget of "so many times cheaper" turns the ratio around."""
    result = summary(row(">= 8x"), rounds((1.0, 7.0)))

    assert result.ratio == 7.0
    assert result.verdict == "missed"


def test_elapsed_time_where_the_row_says_so() -> None:
    """The other clock's numbers are not mixed in."""
    turns = [{"a": Turn(1.0, 4.0), "b": Turn(1.0, 2.0)}]

    assert summary(row(), turns).ratio == 1.0
    assert summary(row(clock="wall"), turns).ratio == 2.0


def test_the_best_of_the_peers_is_the_one_that_counts() -> None:
    """Best over the rounds: one lucky round does not make it so."""
    turns = [
        {"a": Turn(1.0, 1.0), "b": Turn(9.0, 9.0), "c": Turn(8.0, 8.0, 0.0, {"threads": 2.0})},
        {"a": Turn(1.0, 1.0), "b": Turn(2.0, 2.0), "c": Turn(8.0, 8.0, 0.0, {"threads": 2.0})},
        {"a": Turn(1.0, 1.0), "b": Turn(9.0, 9.0), "c": Turn(7.0, 7.0, 0.0, {"threads": 2.0})},
    ]

    result = summary(row(">= 8x", rivals=("c",)), turns)

    assert (result.ratio, result.peer) == (8.0, 8e6)
    assert result.peer_figures == {"threads": 2.0}


def told(value: float, **more: float) -> Turn:
    return Turn(1.0, 1.0, value, more)


def test_memory_is_compared_in_bytes() -> None:
    """The contenders' own figures are taken, not their time; further figures are kept beside them."""
    turns = [{"a": told(3000.0, pause=1.0), "b": told(1000.0)}, {"a": told(5000.0, pause=3.0), "b": told(1000.0)}]

    result = summary(row(clock="memory"), turns)

    assert (result.ratio, result.ours, result.unit) == (4.0, 4000.0, "bytes")
    assert (result.ours_figures, result.peer_figures) == ({"pause": 2.0}, {})
    assert figures([result]) == ["call, dspex: pause 2"]
    assert json.loads(json.dumps(to_json([result], {}, quick=False)))["rows"][0]["ours_figures"] == {"pause": 2.0}


def test_a_percentile_is_compared_in_microseconds() -> None:
    """It comes in seconds."""
    result = summary(row(clock="p99"), [{"a": told(0.002), "b": told(0.001)}])

    assert (result.ratio, result.ours, result.unit) == (2.0, 2000.0, "us")


def test_a_contender_that_told_nothing_is_an_error() -> None:
    """Its time must not be taken for what the row is about."""
    with pytest.raises(ValueError, match="call: a contender told no memory"):
        summary(row(clock="memory"), rounds((1.0, 1.0)))


def test_a_row_without_budget_has_no_verdict() -> None:
    """It informs, in the direction it asks for."""
    assert summary(row(None), rounds((1.0, 4.0))).ratio == 0.25
    assert summary(row(None, reads="gain"), rounds((1.0, 4.0))).ratio == 4.0
    assert summary(row(None), rounds((1.0, 4.0))).verdict == "-"


def test_nothing_measured_is_an_error() -> None:
    """No number is better than a made-up one."""
    with pytest.raises(ValueError, match="call: nothing was measured"):
        summary(row(), [])


def results() -> list[Result]:
    return [
        summary(row(), rounds((3.0, 2.0), (3.0, 2.0))),
        summary(row(">= 12x", title="another | call", clock="wall"), rounds((1.0, 2.5))),
        summary(row(None), rounds((1.0, 4.0))),
    ]


def test_the_table_lines_up() -> None:
    """Every ratio stands beside its budget and its verdict."""
    lines = table(results()).splitlines()

    assert lines[0].split() == ["measured", "beside", "clock", "ratio", "quartiles", "budget", "verdict"]
    assert lines[2].split("  ")[0] == "a call"
    assert [line.split()[-1] for line in lines[2:]] == ["met", "missed", "-"]
    assert len({line.index(clock) for line, clock in zip(lines[2:], ["cpu", "wall", "cpu"], strict=True)}) == 1


def test_markdown_escapes_bars_and_marks_what_was_missed() -> None:
    """The page shows a miss as plainly as a hit."""
    lines = markdown(results()).splitlines()

    assert lines[1] == "| --- | --- | --- | --- | --- | --- | --- |"
    assert lines[2] == "| a call | a floor | cpu | 1.50x | 1.50-1.50 | ≤ 2x | met |"
    assert lines[3] == "| another \\| call | a floor | wall | 2.50x | 2.50-2.50 | ≥ 12x | **missed** |"


def test_json_holds_facts_and_rounded_rows() -> None:
    """Four digits are more than the measurements are worth."""
    held = json.loads(json.dumps(to_json(results(), {"cpu_count": "2"}, quick=True)))

    assert held["format"] == FORMAT
    assert held["quick"] is True
    assert held["facts"] == {"cpu_count": "2"}
    assert [each["verdict"] for each in held["rows"]] == ["met", "missed", "-"]
    thirds = to_json([summary(row(), rounds((1.0, 3.0)))], {}, quick=False)["rows"]
    assert thirds[0]["ratio"] == 0.3333  # type: ignore[index]  # a list of rows


def test_the_readme_shows_gains_costs_and_times_and_names_what_is_missed() -> None:
    """Each in its own words; a row that was not measured is left out."""
    gain = summary(row(">= 10x", name="http-fast"), rounds((1.0, 7.68)))
    cost = summary(row("<= 0.5x", name="call-asyncio"), rounds((0.4, 1.0)))
    time = summary(row("<= 150us", name="own-asyncio"), rounds((144e-6, 2e-6)))
    other = summary(row(name="not shown"), rounds((1.0, 1.0)))

    shown = [
        line.split(" | ")[-1].replace("\N{MULTIPLICATION SIGN}", "x")
        for line in figures_of_readme([gain, cost, time, other]).splitlines()[2:]
    ]

    assert shown == ["7.7x less (we want 10x) |", "142 µs more |", "0.40x |"]


def test_the_readme_shows_rows_that_there_are() -> None:
    """A row that was renamed would be left out in silence."""
    assert {name for name, _, _ in FIGURES} <= {each.name for group in GROUPS for each in group.rows}
