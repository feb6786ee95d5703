"""The quick form of the judge: a change of a prompt or a reader does not cost a small model its answers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from benchmarks.real.__main__ import RESULTS
from benchmarks.real.journal import Journal
from benchmarks.real.report import result_file
from benchmarks.real.run import Plan, measure
from benchmarks.real.statistics import paired
from benchmarks.real.tasks import Row, Task, read_tasks
from dspex.app.demo.local.banking import read_banking
from dspex.protocols.model import LM

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(7200)]

ROWS = 20
FORM = "dspex/auto"
WITHOUT_DATA = frozenset({"order", "review", "tool"})
SURE = 0.05


def tasks() -> list[Task]:
    """The tasks that need no data of others: generated texts, and the messages that come with the demo."""
    banking = tuple(Row({"message": each["message"]}, {"intent": each["intent"]}) for each in read_banking().held_out)
    found = read_tasks(None, WITHOUT_DATA, ROWS)
    sort = Task("banking", banking[:ROWS], (), False, 96, lambda said, truth: float(said["intent"] == truth["intent"]))
    return [sort, *found]


async def test_few_words_are_read_at_the_first_turn_and_cost_no_answers(lm: LM, tmp_path: Path) -> None:
    """Rows that were right when the committed table was made may change one by one, but not for the worse."""
    assert lm.api_base is not None
    journal = Journal(tmp_path / "journal.jsonl")
    try:
        assert await measure(Plan(tasks(), (FORM,), (0,), ROWS), journal, lm.api_base, until=math.inf)
    finally:
        journal.close()

    cells: Any = result_file(list(journal.cells()), {}, [])["cells"]
    committed = {each["task"]: each for each in json.loads(RESULTS.read_text())["cells"] if each["form"] == FORM}
    for cell in cells:
        assert cell["unreadable"] == 0, cell
        assert cell["first"] >= 0.95 * len(cell["rows"]), cell
        before = committed.get(cell["task"])
        if before is None or cell["task"] == "banking":  # the table's messages are others
            continue
        now, then = (dict(zip(each["rows"], each["right"], strict=True)) for each in (cell, before))
        common = sorted(now.keys() & then.keys())
        better, worse, p_value = paired([now[row] == "1" for row in common], [then[row] == "1" for row in common])
        assert better >= worse or p_value >= SURE, cell
