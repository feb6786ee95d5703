"""The judge of prompts: tasks, plain prompts, intervals, journal, relay and report; a simulator answers."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
from benchmarks.real.report import in_short, known_rows, markdown, of_another, pooled, result_file
from benchmarks.real.run import Plan, measure
from benchmarks.real.signatures import INTENTS, Order, make_signature
from benchmarks.real.statistics import difference, interval, paired
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


def test_the_interval_of_a_difference_is_bonetts_and_prices() -> None:
    """The figures follow from their formula by hand: 43 pairs, of which 8 and 1 differ."""
    low, high = difference(8, 1, 43)
    middle = 9 / 45 - 2 / 45
    half = 1.959963984540054 * math.sqrt((11 / 45 - middle**2) / 45)
    assert math.isclose(low, middle - half)
    assert math.isclose(high, middle + half)
    assert difference(3, 3, 20) == tuple(-each for each in reversed(difference(3, 3, 20)))
    for wrong in ((0, 0, 0), (2, 2, 3), (-1, 2, 3)):
        with pytest.raises(ValueError, match="not a difference"):
            difference(*wrong)


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
    assert pooled(result, "dspex/chat", "plain").rows == 6


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
    assert pooled(result, "dspex/chat", "plain") == ([True, True], [False, True])
    assert lines[-1] == "| `dspex/chat` | all | 2 | 100 | 50 | +1 -0 (p 1) | -56 to +100 |"


KEPT = {"score": 0.0, "first": True, "readable": True, "calls": 1, "tokens": [10, 2, 5], "seconds": 1.0}


def measured(rows: Mapping[int, bool], **more: object) -> dict[int, dict[str, object]]:
    return {number: {**KEPT, "right": right, **more} for number, right in rows.items()}


def test_in_short_compares_on_rows_that_both_have() -> None:
    """The peer's better adapter is the one that is right more often on those rows."""

    def rows(right: str, tokens: int) -> dict[int, dict[str, object]]:
        return measured({at: each == "1" for at, each in enumerate(right)}, tokens=[tokens, 0, 5])

    cells = [
        (Cell("tool", "dspex/auto", 0), rows("1101", 10)),
        (Cell("tool", "plain", 0), rows("1000", 20)),
        (Cell("tool", "dspy/chat", 0), rows("0000", 30)),
        (Cell("tool", "dspy/json", 0), rows("010", 40)),
        (Cell("tool", "dspex/auto", 4), rows("1111", 50)),
        (Cell("order", "dspex/auto", 0), rows("1111", 60)),
    ]

    assert in_short(result_file(cells, {}, []), "DSPy 9").splitlines() == [
        "1 tasks. DSPy was asked 3 of the rows: dspex gets 67 % of these right.",
        "",
        "| | rows | right | read at the first turn | tokens a row |",
        "|---|---|---|---|---|",
        "| dspex, by default | 4 | 75 % | 100 % | 15 |",
        "| the best plain prompts by hand, and regular expressions | 4 | 25 % | 100 % | 25 |",
        "| DSPy 9, its better adapter | 3 | 33 % | 100 % | 45 |",
    ]


def test_the_average_of_a_task_counts_as_many_rows_as_are_compared() -> None:
    cells = []
    for form in ("dspex/auto", "plain", "dspy/chat", "dspy/json"):
        cells += [
            (Cell("order", form, 0), measured({0: True}, tokens=[100, 0, 0])),
            (Cell("tool", form, 0), measured(dict.fromkeys(range(1 if form == "plain" else 9), False))),
        ]

    lines = in_short(result_file(cells, {}, []), "DSPy 9").splitlines()

    assert lines[-3] == "| dspex, by default | 2 | 50 % | 100 % | 58 |"


def test_a_share_is_not_rounded_to_all_or_none() -> None:
    first = [measured(dict.fromkeys(range(300), True), first=found) for found in (True, False)]
    mixed = {**first[0], 299: first[1][299]}
    cells = [(Cell("tool", "plain", 0), mixed), (Cell("tool", "dspex/auto", 0), first[0])]

    lines = markdown(result_file(cells, {}, []), TITLES).splitlines()

    assert [line.split(" | ")[5] for line in lines[4:6]] == ["100", ">99"]


def test_in_short_tells_of_the_rows_on_which_no_words_were_chosen() -> None:
    right = {"dspex/auto": {9: False, 10: True, 11: True}, "plain": {9: True, 10: True, 11: False}}
    cells = [(Cell("tool", form, 0), measured(right.get(form, right["plain"]))) for form in ("dspex/auto", "plain")]
    cells += [(Cell("tool", form, 0), measured(right["plain"])) for form in ("dspy/chat", "dspy/json")]

    said = in_short(result_file(cells, {}, []), "DSPy 9").splitlines()[0]

    assert said.endswith("On the 2 rows on which no words were chosen, dspex gets 100 %, the plain prompts 50 %.")


# --- a result file is what the next sitting begins with ----------------------------------------------------------


def test_a_report_adds_the_rows_that_the_earlier_one_has_not() -> None:
    cell, other, new = (Cell("tool", form, 0) for form in ("plain", "dspex/auto", "dspy/json"))
    earlier = result_file(
        [
            (cell, measured({0: True, 2: True, 5: False}, score=0.5)),
            (other, measured({0: True, 1: True}, tokens=[100, 0, 9])),
        ],
        {},
        [],
    )
    journal = [
        (cell, measured({1: False, 2: False, 3: True}, first=False, readable=False, calls=3, seconds=2.0)),
        (other, measured({0: False, 1: False, 2: True})),
        (new, measured({7: True})),
    ]

    result = result_file(journal, {}, [], earlier=earlier)

    found = {each["form"]: each for each in result["cells"]}  # type: ignore[attr-defined]  # a list
    assert found["plain"] == {
        "task": "tool",
        "form": "plain",
        "demos": 0,
        "rows": [0, 1, 2, 3, 5],
        "right": "10110",  # row 2 is the earlier one: its sums hold it
        "interval": [round(each, 4) for each in interval(3, 5)],
        "score": 0.3,
        "first": 3,
        "unreadable": 2,
        "calls": 9,
        "tokens_in": 50,
        "tokens_cached": 10,
        "tokens_out": 25,
        "seconds": 7.0,
    }
    assert (found["dspex/auto"]["rows"], found["dspex/auto"]["right"]) == ([0, 1, 2], "001")  # measured whole, anew
    assert found["dspex/auto"]["tokens_in"] == 30
    assert found["dspy/json"]["rows"] == [7]
    assert pooled(result, "dspex/auto", "plain") == ([False, False, True], [True, False, True])
    assert result_file(journal, {}, [], earlier=result) == result  # a second report adds nothing
    assert result_file([], {}, [], earlier=result) == result
    untimed = result_file([], {}, [], times=False, earlier=result)
    assert {each["seconds"] for each in result_file(journal, {}, [], earlier=untimed)["cells"]} == {None, 1.0, 3.0}  # type: ignore[attr-defined]  # a list


@given(
    st.dictionaries(st.integers(0, 20), st.booleans(), min_size=1),
    st.dictionaries(st.integers(0, 20), st.booleans(), min_size=1),
)
def test_every_row_counts_once(before: dict[int, bool], now: dict[int, bool]) -> None:
    cell = Cell("tool", "plain", 0)
    earlier = result_file([(cell, measured(before))], {}, [])

    cells: Any = result_file([(cell, measured(now))], {}, [], earlier=earlier)["cells"]
    [found] = cells

    wins = {**before, **now} if now.keys() >= before.keys() else {**now, **before}
    assert dict(zip(found["rows"], found["right"], strict=True)) == {row: "01"[wins[row]] for row in wins}
    assert (found["calls"], found["tokens_in"]) == (len(wins), 10 * len(wins))
    assert known_rows({"cells": [found]}) == {(cell, row) for row in wins}


def test_rows_that_the_earlier_file_has_are_not_asked() -> None:
    cell = Cell("tool", "plain", 0)
    plan = Plan(read_tasks(None, frozenset({"tool"}), 4), ("plain",), (0,), 4, known=frozenset({(cell, 0), (cell, 2)}))

    assert [(each, row) for _, each, row in plan.work()] == [(cell, 1), (cell, 3)]


def test_rows_of_words_that_were_chosen_are_left_out() -> None:
    cells = [
        (Cell(task, form, 0), measured(dict.fromkeys((0, 9, 10, 19, 20), form == "plain")))
        for task in ("hotpot", "tool")
        for form in ("plain", "dspex/auto")
    ]
    result = result_file(cells, {}, [])

    assert pooled(result, "dspex/auto", "plain").rows == 10
    assert pooled(result, "dspex/auto", "plain", unseen=True).rows == 4
    lines = markdown(result, TITLES).splitlines()
    assert lines[-2].startswith("| `dspex/auto` | all | 10 | 0 | 100 | +0 -10 (p 0.002) | ")
    assert lines[-1].startswith("| `dspex/auto` | unseen | 4 | 0 | 100 | +0 -4 (p 0.12) | ")


def test_an_earlier_file_of_another_model_is_not_added_to() -> None:
    facts = {"model": "small", "packages": {"dspy": "3"}}

    assert of_another(facts, facts) == ""
    assert of_another(facts, {**facts, "model": "large"}) == "small"
    assert of_another(facts, {**facts, "packages": {"dspy": "4"}}) == "DSPy 3"
