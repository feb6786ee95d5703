"""A journal belongs to what decides its rows: code, arguments, state, model. Whatever changes is named."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex.errors import ConfigError, JobMismatch
from dspex.testing import ScriptedLM

HELPER = """
FACTOR = 2
TABLE = {"plus": 0}
SEEN = []


def scaled(value):
    return value * FACTOR + TABLE["plus"]


def unused(value):
    return value
"""
PROGRAM = """
import dataclasses

import dspex
import journal_helper
from journal_helper import SEEN


@dataclasses.dataclass
class Found:
    number: int


def lookup(number: int) -> int:
    '''Look a number up.'''
    return number


class Scale(dspex.Module):
    def __init__(self, plus=0, tools=(lookup,)):
        self.plus = plus
        self.tools = [dspex.Tool(each) for each in tools]
        self.say = dspex.Predict("question -> answer: int")

    async def forward(self, value):
        SEEN.append(value)
        # a comment
        return Found(journal_helper.scaled(value) + self.plus)
"""


class Folder:
    """Two modules of a user, which may be edited between runs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.write()

    def write(self, program: str = PROGRAM, helper: str = HELPER) -> None:
        (self.path / "journal_program.py").write_text(program)
        (self.path / "journal_helper.py").write_text(helper)

    def load(self) -> Any:
        for name in ("journal_program", "journal_helper"):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        for cached in self.path.glob("__pycache__/*"):
            cached.unlink()  # two edits in one second have the same cache
        return importlib.import_module("journal_program")

    async def run(self, make: str = "Scale()", app: dspex.App | None = None, **options: Any) -> list[Any]:
        module = self.load()
        program = {"Scale()": lambda: module.Scale(), "Scale(1)": lambda: module.Scale(1)}[make]()
        async with app or dspex.App() as running:
            journal = self.path / "rows.db"
            rows = [{"id": n, "value": n} for n in range(3)]
            async with running.map(program, rows, journal=journal, ordered=True, **options) as results:
                found = [each async for each in results]
            self.recorded = results.recorded
        return found

    async def refused(self, *arguments: Any, **options: Any) -> JobMismatch:
        with pytest.raises(JobMismatch) as caught:
            await self.run(*arguments, **options)
        return caught.value


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Folder(tmp_path)
    for name in ("journal_program", "journal_helper"):
        sys.modules.pop(name, None)


async def test_the_same_program_goes_on_and_its_rows_have_their_class(folder: Folder) -> None:
    """Also without a return annotation; comments, layout and what is not used take no part."""
    first = await folder.run()
    assert [each.value.number for each in first] == [0, 2, 4]
    folder.write(
        PROGRAM.replace("# a comment", "#  another  comment").replace("value) + self", "value)  +  self"),
        HELPER.replace("return value\n", "return value + 1\n"),
    )

    again = await folder.run()

    assert folder.recorded == 3
    assert [each.value.number for each in again] == [0, 2, 4]
    assert {type(each.value).__name__ for each in again} == {"Found"}


@pytest.mark.parametrize(
    ("edit", "part", "told"),
    [
        (("program", "+ self.plus", "- self.plus"), "source journal_program:Scale", "`return Found(journal_helper.sc"),
        (("helper", "value * FACTOR", "value ** FACTOR"), "source journal_helper:scaled", "line 2 is now `return val"),
        (("helper", "FACTOR = 2", "FACTOR = 3"), "source journal_helper:FACTOR", "line 1 is now `3`"),
        (("helper", '"plus": 0', '"plus": 1'), "source journal_helper:TABLE", "line 1 is now `TABLE = {'plus': 1}`"),
        (("program", "    return number\n", "    return -number\n"), "source journal_program:lookup", "`return -numb"),
        (("program", "answer: int", "answer: float"), "predictor say", "output answer"),
    ],
)
async def test_code_that_changed_is_named(folder: Folder, edit: tuple[str, str, str], part: str, told: str) -> None:
    """Class, function, constant, table, tool, signature: each is refused, with what is new."""
    await folder.run()
    where, old, new = edit
    if where == "program":
        folder.write(program=PROGRAM.replace(old, new, 1))
    else:
        folder.write(helper=HELPER.replace(old, new, 1))

    refusal = await folder.refused()

    assert part in refusal.changed
    assert told in next(each for each in refusal.differences if each.startswith(part))
    assert "accept_changed=" in str(refusal)
    assert len(await folder.run(accept_changed=list(refusal.changed))) == 3
    assert folder.recorded == 3
    assert len(await folder.run()) == 3  # taken over: the next run need not say it


async def test_arguments_and_models_are_named_with_both_values(folder: Folder) -> None:
    await folder.run()

    assert (await folder.refused("Scale(1)")).differences == ("argument plus: 0 → 1",)
    other = await folder.refused(app=dspex.App(dspex.LM("openai/x", api_key="sesame-open", temperature=0.5)))
    assert other.changed == ("lm",)
    assert "default nothing → openai/x {'temperature': 0.5}" in str(other)
    assert "sesame" not in str(other)
    assert (await folder.refused(app=dspex.App(adapter="json"))).changed == ("adapter",)


async def test_a_version_stands_for_the_code(folder: Folder) -> None:
    await folder.run(version="1")
    folder.write(helper=HELPER.replace("value * FACTOR", "FACTOR * value"))
    await folder.run(version="1")
    assert folder.recorded == 3
    assert (await folder.refused(version="2")).differences == ("version: 1 → 2",)
    assert "version" in (await folder.refused()).changed


async def test_a_group_may_be_accepted_and_one_text_is_refused(folder: Folder) -> None:
    await folder.run()
    folder.write(helper=HELPER.replace("value * FACTOR", "FACTOR * value"))
    with pytest.raises(ConfigError, match=r"give a list, \['source'\]"):
        await folder.run(accept_changed="source")
    await folder.run(accept_changed=["source"])
    assert folder.recorded == 3


async def test_a_class_that_is_gone_is_refused_clearly(folder: Folder) -> None:
    await folder.run()
    folder.write(PROGRAM.replace("Found", "Other"))

    with pytest.raises(
        dspex.OptimizationError, match=r"journal_program:Found.*rows\.db|rows\.db.*journal_program:Found"
    ):
        await folder.run(accept_changed=["source"])


async def test_the_secrets_of_a_program_are_not_in_its_journal(folder: Folder) -> None:
    """Neither source lines nor arguments are written, where they may be keys."""
    folder.write(PROGRAM.replace("self.plus = plus", "self.plus = plus; self.api_key = 'sk-very-secret'"))
    await folder.run()
    assert b"sk-very-secret" not in (folder.path / "rows.db").read_bytes()


async def test_a_job_notices_its_program_and_its_metrics_helpers(folder: Folder, tmp_path: Path) -> None:
    """``compile`` goes by the same parts."""
    lm = ScriptedLM({"self": [{"answer": 1}] * 20})
    train = [{"question": f"q{n}", "answer": 1} for n in range(4)]

    async def compiled(module: Any) -> None:
        async with dspex.App(lm, home=tmp_path) as app:
            optimizer = dspex.BootstrapFewShot(module.metric, max_bootstrapped_demos=1)
            job = await app.compile(module.Scale().say, optimizer, trainset=train, job="j")
            await asyncio.wait_for(job.result(), 20)

    source = PROGRAM + "\ndef metric(example, prediction):\n    return journal_helper.scaled(1) > 0\n"
    folder.write(source)
    await compiled(folder.load())
    await compiled(folder.load())
    folder.write(source, HELPER.replace("value * FACTOR", "FACTOR * value"))
    with pytest.raises(JobMismatch) as caught:
        await compiled(folder.load())
    assert caught.value.changed == ("metric",)


async def test_failures_alone_do_not_hold_up_what_was_corrected(folder: Folder) -> None:
    """A wrong address made every row fail: the right program begins anew, and nothing of the failures is handed out."""
    folder.write(PROGRAM.replace("return Found(", "raise LookupError(value)\n        return Found("))
    failed = await folder.run()
    assert {type(each).__name__ for each in failed} == {"Failed"}
    folder.write()

    corrected = await folder.run()

    assert folder.recorded == 0
    assert [each.value.number for each in corrected] == [0, 2, 4]


async def test_one_success_among_failures_is_kept(folder: Folder) -> None:
    """It was paid for: what it belongs to is told, and the journal stays."""
    once = "if value:\n            raise LookupError(value)\n        return Found("
    folder.write(PROGRAM.replace("return Found(", once))
    await folder.run()
    folder.write()

    refused = await folder.refused()

    assert "source journal_program:Scale" in refused.changed
