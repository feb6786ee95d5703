"""The quick form of the judge: a change of a prompt or a reader does not cost a small model its answers."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest

from benchmarks.real.journal import Journal
from benchmarks.real.report import result_file
from benchmarks.real.run import Plan, measure
from benchmarks.real.statistics import paired
from benchmarks.real.tasks import Row, Task, read_tasks
from dspex.app.demo.local.banking import read_banking
from dspex.protocols.model import LM

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(7200)]

ROWS = int(os.environ.get("DSPEX_JUDGE_ROWS", "20"))
FORM = "dspex/auto"
WITHOUT_DATA = frozenset({"order", "review", "tool"})
WITH_DATA = frozenset({"hotpot", "gsm8k"})
SURE = 0.05
MOST_TOKENS = 1.15
"""Of those that the plain prompt takes."""
MORE = {"gsm8k": 1.3}
"""A thought that goes round in circles is cut off, and a shorter one is asked for."""


def tasks() -> list[Task]:
    """The tasks that need no data of others; all six where ``DSPEX_BENCH_DATA`` names a folder."""
    folder = os.environ.get("DSPEX_BENCH_DATA")
    if folder:
        return read_tasks(Path(folder), WITHOUT_DATA | WITH_DATA | {"banking"}, ROWS)
    banking = tuple(Row({"message": each["message"]}, {"intent": each["intent"]}) for each in read_banking().held_out)
    found = read_tasks(None, WITHOUT_DATA, ROWS)
    sort = Task("banking", banking[:ROWS], (), False, 96, lambda said, truth: float(said["intent"] == truth["intent"]))
    return [sort, *found]


async def test_few_words_get_as_much_right_as_a_plain_prompt_for_as_many_tokens(lm: LM, tmp_path: Path) -> None:
    """Both are asked here and now, so that it holds for any model and server."""
    assert lm.api_base is not None
    asked = tasks()
    journal = Journal(tmp_path / "journal.jsonl")
    try:
        assert await measure(Plan(asked, (FORM, "plain"), (0,), ROWS), journal, lm.api_base, until=math.inf)
    finally:
        journal.close()

    found: list[Any] = result_file(list(journal.cells()), {}, [])["cells"]  # type: ignore[assignment]  # JSON
    cells = {(each["task"], each["form"]): each for each in found}
    for task in asked:
        ours, plain = cells[task.name, FORM], cells[task.name, "plain"]
        assert ours["rows"] == plain["rows"] == list(range(len(task.rows)))
        assert ours["unreadable"] == 0, ours
        assert ours["first"] >= 0.95 * len(task.rows), ours
        better, worse, p_value = paired(*([each == "1" for each in cell["right"]] for cell in (ours, plain)))
        assert better >= worse or p_value >= SURE, (ours, plain)
        tokens, least = (cell["tokens_in"] + cell["tokens_out"] for cell in (ours, plain))
        assert tokens <= MORE.get(task.name, MOST_TOKENS) * least, (ours, plain)
