"""``dspex jobs`` beside the process that runs a job: it sees it, steers it, and tells what a kill has left."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dspex.app.cli import main
from dspex.optimizers import GEPA, LabeledFewShot
from dspex.optimizers.control import JobFolder
from dspex.optimizers.journal import read_keyed, read_page
from dspex.optimizers.plans import Steer
from dspex.optimizers.steering import heard

SCRIPT = """
import asyncio

import dspex


class Stops(dspex.Module):
    def __init__(self) -> None:
        self.answer = dspex.Predict("number -> answer")

    async def forward(self, number: int) -> int:
        if number == 2:
            print("waiting", flush=True)
            await asyncio.get_running_loop().create_future()
        return number


def right(example, prediction):
    return True


async def main():
    async with dspex.App(dspex.testing.ScriptedLM([]), home="home", cache=None) as app:
        optimizer = dspex.BootstrapFewShot(right, max_bootstrapped_demos=8, width=1)
        rows = [dspex.Example(number=n) for n in range(8)]
        job = await app.compile(Stops(), optimizer, trainset=rows, job="j", max_concurrency=1)
        async with job.events() as events:
            async for event in events:
                print(event.kind, flush=True)


import dspex.testing
asyncio.run(main())
"""

SEARCH = """
import asyncio

import dspex
import dspex.testing
from dspex.optimizers import GEPA

asked = 0


async def answer(request):
    global asked
    asked += 1
    if asked == 24:
        print("waiting", flush=True)
        await asyncio.get_running_loop().create_future()
    return {"instruction": f"Try {asked}."} if "judgement" in request.messages[-1].text else {"answer": "?"}


def right(example, prediction):
    return dspex.Score(False, "wrong")


async def main():
    rows = [dspex.Example(question=f"What is {n}?", answer=f"a{n}") for n in range(12)]
    async with dspex.App(dspex.testing.ScriptedLM(answer), home="home", cache=None) as app:
        search = GEPA(right, max_children=6, minibatch_size=2, merge_share=0.0, width=2)
        program = dspex.Predict("question -> answer")
        job = await app.compile(program, search, trainset=rows[:8], holdset=rows[8:], job="j")
        await job.result()


asyncio.run(main())
"""


@contextmanager
def running(folder: Path, script: str = SCRIPT) -> Iterator[subprocess.Popen[str]]:
    """A process that runs the job ``j``, up to the row that never ends."""
    (folder / "script.py").write_text(script)
    with subprocess.Popen([sys.executable, "script.py"], cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert any(line == "waiting\n" for line in process.stdout)
            yield process
        finally:
            process.kill()


def test_a_job_is_steered_from_another_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each word is done when the command returns; what the process itself tells agrees."""
    home = ["--home", str(tmp_path / "home")]

    def dspex_jobs(*arguments: str) -> tuple[int, str]:
        code = main(["jobs", *arguments, *home])
        out, err = capsys.readouterr()
        return code, out + err

    with running(tmp_path) as process:
        assert dspex_jobs("list") == (0, "j  running      2 rows, 0.000000 USD\n")
        assert dspex_jobs("pause", "j") == (0, "job j: paused\n")
        assert process.stdout is not None
        assert any(line == "held\n" for line in process.stdout)
        assert dspex_jobs("list")[1].split()[:2] == ["j", "paused"]
        assert dspex_jobs("resume", "j") == (0, "job j: running\n")
        assert any(line == "released\n" for line in process.stdout)
        code, told = dspex_jobs("show", "j")
        assert told.startswith(f"job j: running, process {process.pid}\n  BootstrapFewShot on Stops, begun ")
        assert dspex_jobs("cancel", "j") == (0, "job j: cancelled\n")
        assert process.wait(20) == 0
        assert "cancelled\n" in process.stdout.readlines()

    assert dspex_jobs("pause", "j") == (
        2,
        "dspex: job j is not running (cancelled); compile it again to continue it\n",
    )
    code, told = dspex_jobs("list", "--json")
    assert (code, json.loads(told)["status"], json.loads(told)["evaluations"]) == (0, "cancelled", 2)


@pytest.mark.slow
def test_a_search_is_steered_from_another_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By all that it takes; the command returns when the word is in the journal."""
    home = ["--home", str(tmp_path / "home")]
    (tmp_path / "mine.json").write_text(json.dumps({"instructions": {"self": "MAGIC"}}))
    (tmp_path / "other.json").write_text(json.dumps({"instructions": {"other": "MAGIC"}}))

    def dspex_jobs(*arguments: str) -> tuple[int, str]:
        code = main(["jobs", *arguments, *home])
        out, err = capsys.readouterr()
        return code, out + err

    with running(tmp_path, SEARCH):
        folder = JobFolder(tmp_path / "home" / "jobs")
        records = read_keyed(folder.path / "j.db", "proposed", "", 10)
        key = next(each.key for each in records if each.key and each.key != "student")
        code, told = dspex_jobs("show", "j", "--candidate", key[:6])
        assert (code, told.splitlines()[:2]) == (0, [f"candidate {key}", "self: instructions"])
        assert "{+Try " in told
        assert json.loads(dspex_jobs("show", "j", "--candidate", key, "--json")[1])["candidate"] == key
        assert dspex_jobs("steer", "j", "--hint", "say the word") == (0, "job j: running\n")
        assert dspex_jobs("steer", "j", "--drop", key[:6], "--add", str(tmp_path / "mine.json"))[0] == 0
        assert "no predictor 'other'" in dspex_jobs("steer", "j", "--add", str(tmp_path / "other.json"))[1]
        assert "is not JSON" in dspex_jobs("steer", "j", "--add", str(tmp_path / "script.py"))[1]
        assert "steer takes a hint" in dspex_jobs("steer", "j")[1]
        assert folder.show("j").steered == 2
    words = [each.data for each in read_page(folder.path / "j.db", 0, 1_000) if each.kind == "steered"]
    assert [(each["hint"], each["drop"], each["add"] is not None) for each in words] == [
        ("say the word", "", False),
        ("", key, True),
    ]
    assert dspex_jobs("steer", "j", "--hint", "x")[0] == 2


def test_words_that_make_no_sense_are_not_heeded() -> None:
    """Whoever can write the file could write anything into it."""
    good = json.dumps(Steer("a hint").plain())
    assert heard(f"steer {good}", GEPA) == Steer("a hint")
    for word in ("", "steer", "steer {", "steer []", "steer {}", "steer " + "[" * 9_000, f"say {good}"):
        assert heard(word, GEPA) is None
    assert heard(f"steer {good}", LabeledFewShot) is None


def test_a_killed_job_is_interrupted_and_words_for_it_do_not_wait(tmp_path: Path) -> None:
    """A word that nobody has heard is not for the incarnation that comes after."""
    with running(tmp_path) as process:
        folder = JobFolder(tmp_path / "home" / "jobs")
        assert folder.show("j").pid == process.pid
    killed = folder.show("j")
    assert (killed.status, killed.pid, killed.epoch, killed.evaluations) == ("interrupted", None, 1, 2)

    (folder.path / ".control").unlink(missing_ok=True)
    assert folder.take("j", 1) == []


def test_words_are_for_one_incarnation_and_come_once(tmp_path: Path) -> None:
    """In their order."""
    with running(tmp_path):
        folder = JobFolder(tmp_path / "home" / "jobs")
        numbers = [folder.say("j", "pause"), folder.say("j", "resume")]
        assert folder.take("j", 2) == []
        assert folder.take("other", 1) == []
    taken = folder.take("j", 1)  # what the process itself has not heard before it was killed
    assert taken in (["pause", "resume"], [])
    assert all(folder.is_taken(number) for number in numbers)
    assert folder.take("j", 1) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["list", "--home", "nowhere"], "there is no folder nowhere"),
        (["show", "absent", "--home", "."], "there is no job 'absent'"),
        (["show", "../x", "--home", "."], "'../x' is not the name of a job"),
        (["pause", "absent", "--home", "."], "there is no job 'absent'"),
        (["show", "broken", "--home", "."], "broken.db cannot be"),
        (["show", "empty", "--home", "."], "empty.db cannot be"),
    ],
)
def test_a_wrong_job_is_one_line(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "broken.db").write_bytes(b"no database" * 100)
    (tmp_path / "jobs" / "empty.db").write_bytes(b"")

    assert main(["jobs", *arguments]) == 2

    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1


def test_a_journal_that_cannot_be_read_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "broken.db").write_bytes(b"no database" * 100)

    assert main(["jobs", "list", "--home", "."]) == 1

    assert "broken.db" in capsys.readouterr().err
