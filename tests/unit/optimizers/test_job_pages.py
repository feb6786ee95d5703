"""A job's journal as the data of a page: what candidates change, what stands first, and what is not known."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dspex.optimizers.candidate import Candidate
from dspex.optimizers.journal import Record
from dspex.optimizers.pages import JobStory, changes_of

OWN = {"answer": {"instructions": "Answer the question in short.", "demos": [{"question": "a", "answer": "b"}]}}
BETTER = Candidate({"answer": "Answer the question at length."}, {"answer": ({"question": "c", "answer": "<b>d</b>"},)})


def records(*told: tuple[str, dict[str, Any]]) -> list[Record]:
    return [Record(number, 1, 0.0, kind, None, data) for number, (kind, data) in enumerate(told, 1)]


def run(candidate: str, row: int, score: float | None) -> tuple[str, dict[str, Any]]:
    spent = {"usd": "0.01", "tokens": 5, "calls": 1}
    return "evaluation", {"candidate": candidate, "row": row, "score": score, "spent": spent}


def test_instructions_are_compared_word_by_word_and_demonstrations_one_by_one() -> None:
    words, demos = changes_of(OWN, BETTER.plain())

    assert words["words"] == [["=", "Answer the question "], ["-", "in short."], ["+", "at length."]]
    assert demos["demos"] == [["+", "question: c\nanswer: <b>d</b>"], ["-", "question: a\nanswer: b"]]


def test_what_is_the_same_is_no_change() -> None:
    same = Candidate({"answer": OWN["answer"]["instructions"]}, {"answer": ({"question": "a", "answer": "b"},)})  # type: ignore[dict-item]
    assert changes_of(OWN, same.plain()) == []


@given(st.text(max_size=200), st.text(max_size=200))
def test_the_runs_of_words_are_both_texts(before: str, after: str) -> None:
    found = changes_of({"p": {"instructions": before}}, Candidate({"p": after}).plain())
    runs = found[0]["words"] if found else [["=", before]]

    assert "".join(text for how, text in runs if how != "+") == before
    assert "".join(text for how, text in runs if how != "-") == after


def test_a_page_has_the_hardest_rows_first_and_says_what_is_not_known() -> None:
    story = JobStory("capitals")
    story.take(
        records(
            ("started", {"optimizer": "COPRO", "program": "Ask", "learn": 2, "choose": 3, "hold": 0}),
            ("proposed", {"candidate": "student", "_content": Candidate().plain(), "_own": OWN}),
            ("proposed", {"candidate": BETTER.key, "_content": BETTER.plain()}),
            *(run("student", row, score) for row, score in ((0, 1.0), (1, 0.0), (2, None))),
            *(run(BETTER.key, row, score) for row, score in ((0, 1.0), (1, 0.5), (2, 1.0))),
            run("unknown", 0, 0.0),
        )
    )
    page = story.page("running", 0.0)

    assert page["matrix"]["rows"] == [2, 1, 0]
    assert page["matrix"]["scores"][BETTER.key] == [1.0, 0.5, 1.0]
    assert page["matrix"]["scores"]["student"] == ["failed", 0.0, 1.0]
    assert [each["key"] for each in page["candidates"]] == [BETTER.key, "student", "unknown"]
    assert [each["short"] for each in page["candidates"]] == [
        "answer: instructions; answer: 1 demonstrations",
        "nothing",
        "not written down",
    ]
    assert (page["spent"], page["failed"], page["verdict"], page["status"]) == ("0.07", 1, None, "running")
