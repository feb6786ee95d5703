"""Many rows through one program: back-pressure, journal, and what becomes of rows that fail."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex.errors import (
    AppClosed,
    AppNotRunning,
    ConfigError,
    JobBusy,
    JobMismatch,
    MissingInput,
    RecordedFailure,
)
from dspex.simulator import Simulator
from tests.support.programs import Ask, Question

OK, FAILED = dspex.Ok, dspex.Failed


class Counted(dspex.Module):
    """Doubles numbers, notes which it was given, and refuses 13 while told to."""

    seen: list[int] = []  # noqa: RUF012 - shared on purpose: a module is frozen
    refuses = True

    def __init__(self) -> None:
        pass

    async def forward(self, value: int) -> int:
        Counted.seen.append(value)
        if value == 13 and Counted.refuses:
            raise ArithmeticError("13 is refused")
        return value * 2


class Other(Counted):
    """Another program."""


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    Counted.seen.clear()
    Counted.refuses = True
    yield
    Counted.refuses = True


def rows(count: int) -> list[dict[str, Any]]:
    return [{"id": f"n{number}", "value": number, "label": number * 2} for number in range(count)]


async def outcomes(app: dspex.App, given: Any, **options: Any) -> list[dspex.Ok[int] | dspex.Failed]:
    async with app.map(Counted(), given, **options) as results:
        return [result async for result in results]


async def test_every_row_ends_in_ok_or_failed_and_carries_its_fields() -> None:
    """A failed row is a value beside the others, never an abort and never an empty result."""
    async with dspex.App() as app:
        found = await outcomes(app, rows(20), ordered=True)

    assert [each.row["id"] for each in found] == [f"n{number}" for number in range(20)]
    assert [each.value for each in found if isinstance(each, OK)] == [2 * n for n in range(20) if n != 13]
    (failed,) = [each for each in found if isinstance(each, FAILED)]
    assert isinstance(failed.reason, ArithmeticError)
    assert failed.row["label"] == 26


async def test_row_without_its_inputs_fails_alone_and_names_its_number() -> None:
    """Rows come from a stream: one bad row of a million must not end the run."""
    async with dspex.App() as app:
        found = await outcomes(app, [{"value": 1}, {"other": 2}, {"value": 3}], ordered=True)

    assert isinstance(found[1], FAILED)
    assert isinstance(found[1].reason, MissingInput)
    assert "row 1: " in str(found[1].reason)
    assert [type(each) for each in found] == [OK, FAILED, OK]


async def test_rows_are_read_no_faster_than_results_are_taken() -> None:
    """Memory is bounded by the concurrency, whatever the input's length."""
    read = 0

    async def endless() -> AsyncIterator[dict[str, int]]:
        nonlocal read
        while True:
            read += 1
            yield {"value": read}

    async with dspex.App() as app, app.map(Counted(), endless(), max_concurrency=4) as results:
        taken = 0
        async for _ in results:
            taken += 1
            assert read <= taken + 10
            if taken == 50:
                break
    assert read <= 60


async def test_second_start_runs_only_what_is_missing(tmp_path: Path) -> None:
    """Recorded rows are handed out again as they were, of the program's own type, without being run."""
    journal = tmp_path / "answers.db"
    async with dspex.App() as app:
        await outcomes(app, rows(5), journal=journal)
        Counted.seen.clear()
        async with app.map(Counted(), rows(8), journal=journal, ordered=True) as results:
            found = [result async for result in results]
            counts = (results.done, results.failed, results.recorded)

    assert Counted.seen == [5, 6, 7]
    assert [each.value for each in found if isinstance(each, OK)] == [0, 2, 4, 6, 8, 10, 12, 14]
    assert [each.recorded for each in found] == [True] * 5 + [False] * 3
    assert counts == (8, 0, 5)


async def test_failed_rows_stay_failed_until_they_are_to_be_retried(tmp_path: Path) -> None:
    """A failed row is not paid again behind the user's back; retry_failed repeats exactly those."""
    journal = tmp_path / "answers.db"
    async with dspex.App() as app:
        await outcomes(app, rows(15), journal=journal)
        Counted.seen.clear()
        again = await outcomes(app, rows(15), journal=journal, ordered=True)
        assert Counted.seen == []
        failed = again[13]
        assert isinstance(failed, FAILED)
        assert isinstance(failed.reason, RecordedFailure)
        assert failed.reason.error == "ArithmeticError"

        Counted.refuses = False
        retried = await outcomes(app, rows(15), journal=journal, ordered=True, retry_failed=True)
        assert Counted.seen == [13]
        assert isinstance(retried[13], OK)
        Counted.seen.clear()
        await outcomes(app, rows(15), journal=journal)
        assert Counted.seen == []


async def test_recorded_records_are_records_again(tmp_path: Path) -> None:
    """A prediction comes back as its signature's record, not as a mapping."""
    questions = [{"id": 1, "question": "Who?"}]
    async with Simulator() as simulator:
        lm = dspex.LM("openai/rules", api_base=simulator.url, api_key="key")
        async with dspex.App(lm) as app:
            for _ in range(2):
                async with app.map(Ask(), questions, journal=tmp_path / "a.db") as results:
                    found = [result async for result in results]
            last = found[0]
            assert isinstance(last, OK)
            assert last.recorded
            assert type(last.value) is Question
            assert last.value.question == "Who?"
            assert simulator.requests["ok"] == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([{"id": 1, "value": 1}, {"id": 1, "value": 2}], "another row has the key 1"),
        ([{"value": 1}], "no field 'id'"),
        ([{"id": 1.5, "value": 1}], "must be a text or a whole number"),
    ],
)
async def test_rows_that_cannot_be_told_apart_end_the_run(tmp_path: Path, given: list[Any], said: str) -> None:
    """A row that cannot be found again cannot be recorded: nothing is paid for it."""
    async with dspex.App() as app:
        with pytest.raises(ConfigError, match=said):
            await outcomes(app, given, journal=tmp_path / "answers.db", max_concurrency=1)


async def test_keys_of_text_and_number_are_different_keys(tmp_path: Path) -> None:
    """1 and "1" are two rows."""
    given = [{"n": 1, "value": 1}, {"n": "1", "value": 2}]
    async with dspex.App() as app:
        found = await outcomes(app, given, journal=tmp_path / "a.db", key=lambda row: row["n"])
    assert [type(each) for each in found] == [OK, OK]


async def test_journal_refuses_another_program_and_another_model(tmp_path: Path) -> None:
    """Answers of two programs never mix in one file."""
    journal = tmp_path / "answers.db"
    async with dspex.App() as app:
        await outcomes(app, rows(2), journal=journal)
        with pytest.raises(JobMismatch) as refused:
            async with app.map(Other(), rows(2), journal=journal):
                pass
        assert refused.value.changed == ("program", f"source {__name__}:Other")
    async with dspex.App("openai/gpt-5-mini") as app:
        with pytest.raises(JobMismatch) as refused:
            await outcomes(app, rows(2), journal=journal)
        assert refused.value.changed == ("lm",)


async def test_value_without_json_form_ends_the_run_with_a_word_about_the_journal(tmp_path: Path) -> None:
    """Every row would fail the same way after it was paid."""

    class Makes(dspex.Module):
        def __init__(self) -> None:
            pass

        async def forward(self, value: int) -> object:
            return object()

    async with dspex.App() as app:
        with pytest.raises(ConfigError, match="cannot be written to a journal"):
            async with app.map(Makes(), rows(1), journal=tmp_path / "answers.db") as results:
                async for _ in results:
                    pass


async def test_leaving_early_stops_what_is_under_way() -> None:
    """Requests of rows nobody will see do not run on."""

    class Waits(dspex.Module):
        def __init__(self) -> None:
            pass

        async def forward(self, value: int) -> int:
            if value:
                await asyncio.get_running_loop().create_future()
            return value

    async with dspex.App() as app:
        async with app.map(Waits(), rows(10), max_concurrency=5) as results:
            async for _ in results:
                break
        assert app.health()["running"] == 0


async def test_closing_the_app_is_an_error_of_the_run_not_of_its_rows(tmp_path: Path) -> None:
    """No row is recorded as failed because the App went away."""
    started = asyncio.Event()

    class Waits(dspex.Module):
        def __init__(self) -> None:
            pass

        async def forward(self, value: int) -> int:
            started.set()
            await asyncio.get_running_loop().create_future()
            return value

    app = dspex.App()
    await app.start()

    async def closing() -> None:
        await started.wait()
        await app.aclose(drain=0.0)

    async with asyncio.TaskGroup() as group:
        group.create_task(closing())
        with pytest.raises(AppClosed):
            async with app.map(Waits(), rows(2), journal=tmp_path / "a.db") as results:
                async for result in results:
                    pytest.fail(f"{result} ended")
    with pytest.raises(AppNotRunning):
        async with app.map(Waits(), rows(2)):
            pass


async def test_bad_concurrency_is_refused_at_once() -> None:
    """Before anything runs."""
    with pytest.raises(ConfigError, match="max_concurrency=0"):
        dspex.App().map(Counted(), [], max_concurrency=0)


SCRIPT = """
    import asyncio, sys
    import dspex

    class Slow(dspex.Module):
        def __init__(self) -> None:
            pass

        async def forward(self, value: int) -> int:
            print("ran", value, flush=True)
            if value == 3 and sys.argv[2] == "hang":
                await asyncio.get_running_loop().create_future()
            return value * 2

    async def main() -> None:
        rows = [{"id": n, "value": n} for n in range(6)]
        async with dspex.App() as app:
            async with app.map(Slow(), rows, journal=sys.argv[1], max_concurrency=1) as results:
                async for result in results:
                    print("got", result.value, result.recorded, flush=True)

    asyncio.run(main())
"""


def test_killed_process_loses_no_finished_row(tmp_path: Path) -> None:
    """A row handed out before SIGKILL is in the journal; the next start runs the rest, and only that."""
    script = tmp_path / "run.py"
    script.write_text(textwrap.dedent(SCRIPT))
    command = [sys.executable, str(script), str(tmp_path / "rows.db")]
    with subprocess.Popen([*command, "hang"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line.strip())
            if said[-1] == "ran 3":
                process.send_signal(signal.SIGKILL)
    assert said.count("got 4 False") == 1

    again = subprocess.run([*command, "go"], capture_output=True, text=True, timeout=60, check=True)

    assert again.stdout.split("\n")[:3] == ["got 0 True", "got 2 True", "got 4 True"]
    assert [line for line in again.stdout.split("\n") if line.startswith("ran")] == ["ran 3", "ran 4", "ran 5"]


async def test_journal_belongs_to_one_process_at_a_time(tmp_path: Path) -> None:
    """Two runs over one journal would pay every row twice."""
    script = tmp_path / "run.py"
    script.write_text(textwrap.dedent(SCRIPT))
    command = [sys.executable, str(script), str(tmp_path / "rows.db"), "hang"]
    first = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    try:
        assert first.stdout is not None
        async for line in first.stdout:
            if line == b"ran 3\n":
                break
        second = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        _, complaint = await second.communicate()
        assert JobBusy.__name__ in complaint.decode()
        assert str(first.pid) in complaint.decode()
    finally:
        first.kill()
        await first.wait()
