"""The judge of prompts: tasks, plain prompts, intervals, journal, relay and report; a simulator answers."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dspex
from benchmarks.real.__main__ import main
from benchmarks.real.generate import make_orders, make_requests, make_reviews
from benchmarks.real.journal import Cell, Journal
from benchmarks.real.plain import plain_messages, read_plain
from benchmarks.real.relay import Relay, digest_of
from benchmarks.real.report import in_short, markdown, pooled, result_file
from benchmarks.real.run import Plan, measure
from benchmarks.real.signatures import INTENTS, Order, make_signature
from benchmarks.real.statistics import interval, paired
from benchmarks.real.tasks import TITLES, DataMissing, read_tasks
from dspex.simulator import Simulator, SimulatorThread

WITHOUT_DATA = frozenset({"order", "review", "tool"})


# --- intervals and tests ------------------------------------------------------------------------------------------


def test_an_interval_is_wilsons() -> None:
    """Figures from Newcombe 1998, table I."""
    assert [round(each, 4) for each in interval(81, 263)] == [0.2553, 0.3662]
    assert [round(each, 4) for each in interval(15, 148)] == [0.0624, 0.1605]
    assert [round(each, 4) for each in interval(0, 20)] == [0.0, 0.1611]
    assert [round(each, 4) for each in interval(1, 29)] == [0.0061, 0.1718]


@given(st.integers(1, 400).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_an_interval_holds_the_share(found: tuple[int, int]) -> None:
    right, total = found
    low, high = interval(right, total)

    assert 0.0 <= low <= right / total <= high <= 1.0


@pytest.mark.parametrize(("right", "total"), [(0, 0), (3, 2), (-1, 2)])
def test_no_share_has_no_interval(right: int, total: int) -> None:
    with pytest.raises(ValueError, match="not a share"):
        interval(right, total)


def test_a_paired_test_is_the_sign_test_of_the_rows_that_differ() -> None:
    ours = [True] * 10 + [False] * 1 + [True] * 5 + [False] * 4
    theirs = [False] * 10 + [True] * 1 + [True] * 5 + [False] * 4

    better, worse, p_value = paired(ours, theirs)

    assert (better, worse) == (10, 1)
    assert math.isclose(p_value, 2 * (1 + 11) / 2**11)
    assert paired(ours, ours) == (0, 0, 1.0)
    with pytest.raises(ValueError, match="cannot be paired"):
        paired(ours, theirs[:-1])


# --- tasks and plain prompts --------------------------------------------------------------------------------------


def test_texts_made_from_templates_say_what_is_known() -> None:
    for text, order in make_orders(50):
        read = Order.model_validate(order)
        assert read.model_dump(mode="json") == order
        assert all(word in text for word in (read.number, read.customer.name, read.customer.city, str(read.ordered_on)))
        assert all(f"{each.quantity} x {each.item}" in text for each in read.lines)
    for text, review in make_reviews(50):
        assert review["product"] in text
        assert all(each in text for each in review["problems"])
    assert {call["name"] for _, call in make_requests(5)} == {
        "get_weather",
        "convert_money",
        "set_alarm",
        "send_message",
        "book_table",
    }


def test_more_rows_begin_with_the_same() -> None:
    """A journal's rows stay what they are when more are asked for."""
    assert make_orders(20)[:5] == make_orders(5)


def test_the_plain_reader_reads_what_its_demonstrations_say() -> None:
    """The truth as the plain prompt has it written is the truth as it is read, and is right."""
    for task in read_tasks(None, WITHOUT_DATA, 30):
        for row in task.rows:
            said = plain_messages(task.name, row.inputs, [row])[1]["content"]
            assert task.score(read_plain(task.name, said), row.truth) == 1.0, (said, row.truth)


@pytest.mark.parametrize(
    ("task", "said", "read"),
    [
        ("banking", "The category is `age_limit`.", {"intent": "age_limit"}),
        ("gsm8k", "4 + 4 = 8, so \\boxed{$1,208}", {"answer": 1208}),
        ("gsm8k", "The answer is 12.", {"answer": 12}),
        ("hotpot", "Answer: Latin", {"answer": "Latin"}),
        (
            "tool",
            "```python\nset_alarm(7, 30, repeat=True)\n```",
            {"calls": [{"name": "set_alarm", "args": {"hour": 7, "minute": 30, "repeat": True}}]},
        ),
    ],
)
def test_the_plain_reader_forgives(task: str, said: str, read: object) -> None:
    assert read_plain(task, said) == read


@pytest.mark.parametrize(
    ("task", "said"),
    [("banking", "other"), ("gsm8k", "none"), ("hotpot", " "), ("tool", "set_alarm"), ("order", ""), ("review", "[]")],
)
def test_the_plain_reader_refuses(task: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"no|nothing"):
        read_plain(task, said)


def test_one_wrong_field_is_not_right() -> None:
    for task in read_tasks(None, WITHOUT_DATA, 10):
        first = task.rows[0].truth
        others = [task.score(row.truth, first) for row in task.rows[1:]]
        assert task.score(first, first) == 1.0
        assert max(others) < 1.0


def test_data_that_is_missing_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataMissing, match=r"banking77_test\.jsonl.*--data"):
        read_tasks(None)
    with pytest.raises(DataMissing, match=r"no gsm8k\.jsonl"):
        read_tasks(tmp_path, frozenset({"gsm8k"}))
    assert main(["--data", str(tmp_path), "--journal", str(tmp_path / "journal.jsonl")]) == 2
    assert "DSPEX_BENCH_DATA" in capsys.readouterr().err


def test_data_of_a_folder_becomes_rows(tmp_path: Path) -> None:
    def write(name: str, *rows: object) -> None:
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    intents = [{"text": f"{intent} {number}", "intent": intent} for number in range(2) for intent in INTENTS]
    write("banking77_test.jsonl", *intents, {"text": "other", "intent": "other"})
    write("banking77_train.jsonl", *({**each, "text": f"shown {each['text']}"} for each in intents))
    problem = {"question": "1 + 1?", "gold_reasoning": "1 + 1 = <<1+1=2>>2", "answer": "2"}
    write("gsm8k.jsonl", *[problem] * 6, {**problem, "answer": "1/2"})
    write("hotpotqa_corpus.jsonl", {"title": "A", "text": "a text"})
    asked = {"question": "Who?", "answer": "Ada", "gold_titles": ["A"]}
    write("hotpotqa.jsonl", *[asked] * 6, {**asked, "gold_titles": ["B"]})

    tasks = {each.name: each for each in read_tasks(tmp_path, frozenset({"banking", "gsm8k", "hotpot"}))}

    assert [row.truth["intent"] for row in tasks["banking"].rows[:10]] == list(INTENTS)
    assert not {row.inputs["message"] for row in tasks["banking"].demos} & {
        row.inputs["message"] for row in tasks["banking"].rows
    }
    assert tasks["gsm8k"].rows[0].truth == {"reasoning": "1 + 1 = 2", "answer": 2}
    assert len(tasks["hotpot"].rows) == 2
    assert tasks["hotpot"].rows[0].inputs["passages"] == ["A | a text"]
    assert tasks["hotpot"].score({"answer": "the ADA."}, {"answer": "Ada"}) == 1.0
    assert 0 < tasks["hotpot"].score({"answer": "Ada Lovelace"}, {"answer": "Ada"}) < 1


@pytest.mark.parametrize("task", TITLES)
def test_every_task_has_a_signature(task: str) -> None:
    assert issubclass(make_signature(task, dspex), dspex.Signature)


# --- journal and relay --------------------------------------------------------------------------------------------


def test_a_journal_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "journal.jsonl"
    cell = Cell("order", "plain", 0)
    journal = Journal(path)
    journal.add(cell, 0, {"right": True})
    journal.add(cell, 1, {"right": False})
    journal.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])

    again = Journal(path)
    assert again.has(cell, 0)
    assert not again.has(cell, 1)
    again.add(cell, 1, {"right": False})
    again.close()

    assert path.read_bytes() == whole
    last = Journal(path)
    last.close()
    [(found, rows)] = last.cells()
    assert found == cell
    assert list(rows) == [0, 1]


def test_a_relay_keeps_what_was_said_by_lane() -> None:
    body = {"model": "sim", "messages": [{"role": "user", "content": "Say hello."}]}
    with SimulatorThread() as simulator, Relay(simulator.url) as relay:
        direct = httpx.post(f"{simulator.url}/chat/completions", json=body).json()
        passed = httpx.post(f"{relay.url(3)}/chat/completions", json=body)
        assert relay.take(0) == []
        [exchange] = relay.take(3)
        assert relay.take(3) == []

    text = direct["choices"][0]["message"]["content"]
    assert passed.json()["choices"][0]["message"]["content"] == text
    assert exchange.record()["text"] == text
    assert exchange.usage[0] == direct["usage"]["prompt_tokens"]
    assert exchange.record()["digest"] == digest_of(body)
    assert digest_of(body) != digest_of({**body, "response_format": {"type": "json_object"}})


# --- the run and what it writes -----------------------------------------------------------------------------------


async def test_a_run_is_whole_after_two_sittings(tmp_path: Path) -> None:
    tasks = read_tasks(None, frozenset({"review"}), 6)
    plan = Plan(tasks, ("dspex/chat", "dspex/json", "plain"), (0,), 6, lanes=2)
    journal = Journal(tmp_path / "journal.jsonl")
    async with Simulator() as simulator:
        assert not await measure(plan, journal, simulator.url, until=time.monotonic() - 1)
        assert not journal.rows
        assert await measure(plan, journal, simulator.url, until=math.inf)
        asked = sum(simulator.requests.values())
        assert await measure(plan, journal, simulator.url, until=math.inf)
        assert sum(simulator.requests.values()) == asked

    assert len(journal.rows) == 18
    assert asked == sum(each["calls"] for each in journal.rows.values())
    for (cell, _), row in journal.rows.items():
        assert row["calls"] == len(row["exchanges"]) >= 1
        assert row["tokens"][0] > 0
        assert row["readable"] or row["error"]
        assert row["readable"] or cell.form == "plain"  # the simulator fills our forms, and no form by hand

    result = result_file(list(journal.cells()), {"model": "sim"}, ["a note"])
    journal.close()
    assert [(each["form"], len(each["rows"])) for each in result["cells"]] == [  # type: ignore[attr-defined]  # a list
        ("dspex/chat", 6),
        ("dspex/json", 6),
        ("plain", 6),
    ]
    table = markdown(result, TITLES)
    assert table.startswith("### Five outputs from a review\n\n| form | rows |")
    assert table.count("\n| `") == 5
    assert pooled(result, "dspex/chat", "plain")[2] == 6


def test_the_table_pairs_rows_that_both_have() -> None:
    def rows(*right: bool) -> dict[int, dict[str, object]]:
        kept = {"score": 0.0, "first": True, "readable": True, "calls": 1, "tokens": [10, 0, 5], "seconds": 1.0}
        return {number: {**kept, "right": each} for number, each in enumerate(right)}

    result = result_file(
        [
            (Cell("gsm8k", "dspex/chat", 0), rows(True, True, True, False)),
            (Cell("gsm8k", "plain", 0), rows(False, True)),
        ],
        {},
        [],
    )
    lines = markdown(result, TITLES).splitlines()

    assert lines[4] == "| `dspex/chat` | 4 | 75 | 30-95 | +1 -0 (p 1) | 100 | 0 | 1.0 | 10 | 5 |"
    assert lines[5] == "| `plain` | 2 | 50 | 9-91 | - | 100 | 0 | 1.0 | 10 | 5 |"
    assert pooled(result, "dspex/chat", "plain") == (1.0, 0.5, 2)
    assert lines[-1] == "| `dspex/chat` | 2 | 100 | 50 |"


def test_in_short_counts_the_rows_that_all_have() -> None:
    """The peer's better adapter is the one that is right more often on those rows."""

    def rows(right: str, tokens: int) -> dict[int, dict[str, object]]:
        return {at: {"right": each == "1", "first": True, "tokens": [tokens, 0, 5]} for at, each in enumerate(right)}

    cells = [
        (Cell("tool", "dspex/auto", 0), rows("1101", 10)),
        (Cell("tool", "plain", 0), rows("100", 20)),
        (Cell("tool", "dspy/chat", 0), rows("0000", 30)),
        (Cell("tool", "dspy/json", 0), rows("0101", 40)),
        (Cell("tool", "dspex/auto", 4), rows("1111", 50)),
        (Cell("order", "dspex/auto", 0), rows("1111", 60)),
    ]

    assert in_short(cells, "DSPy 9").splitlines() == [
        "Rows: 3 of 1 tasks.",
        "",
        "| | right | read at the first turn | tokens a row |",
        "|---|---|---|---|",
        "| dspex, by default | 67 % | 100 % | 15 |",
        "| the best plain prompts by hand, and regular expressions | 33 % | 100 % | 25 |",
        "| DSPy 9, its better adapter | 33 % | 100 % | 45 |",
    ]
