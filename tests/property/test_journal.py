"""The journal: whatever the interleaving of writers and kills, it holds what the last of them was told it holds."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from dspex.errors import JobBusy, JobMismatch, OptimizationError
from dspex.optimizers.journal import Journal, Record

FINGERPRINT = {"program": "p", "metric": "m"}


def written(record: Record) -> tuple[int, str, str | None, Any]:
    return record.epoch, record.kind, record.key, record.data


class Writers(RuleBasedStateMachine):
    """Any number of writers, of which only the latest may write."""

    writers = Bundle("writers")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="journal-"))
        self.epoch = 0
        self.model: list[tuple[int, str, str | None, Any]] = []
        self.open: list[Journal] = []

    @rule(target=writers)
    def begin(self) -> Journal:
        journal = Journal(self.folder / "job.db", "job", FINGERPRINT)
        self.open.append(journal)
        self.epoch += 1
        assert journal.take() == self.epoch
        return journal

    @rule(
        writer=writers,
        kind=st.sampled_from(["evaluation", "progress"]),
        key=st.sampled_from([None, "a", "b", "c"]),
        value=st.integers(0, 3),
    )
    def append(self, writer: Journal, kind: str, key: str | None, value: int) -> None:
        known = [each for each in self.model if key is not None and each[1:3] == (kind, key)]
        if known:
            assert written(writer.append(kind, {"value": value}, key)) == known[0]
        elif writer.epoch == self.epoch:
            record = writer.append(kind, {"value": value}, key)
            self.model.append((self.epoch, kind, key, {"value": value}))
            assert written(record) == self.model[-1]
        else:
            with pytest.raises(JobBusy):
                writer.append(kind, {"value": value}, key)

    @rule(writer=consumes(writers))
    def close(self, writer: Journal) -> None:
        self.open.remove(writer)
        writer.close()

    @rule(writer=consumes(writers))
    def kill(self, writer: Journal) -> None:
        """End without a word, as a killed process does."""
        self.open.remove(writer)
        writer._db.close()

    @rule(writer=consumes(writers), value=st.integers(0, 3))
    def kill_in_a_transaction(self, writer: Journal, value: int) -> None:
        """Die between the write and the commit: the record has never been there."""
        self.open.remove(writer)
        if writer.epoch == self.epoch:
            writer._db.execute("BEGIN IMMEDIATE")
            row = (writer.epoch, 0.0, "progress", None, str(value))
            writer._db.execute("INSERT INTO records (epoch, at, kind, key, data) VALUES (?, ?, ?, ?, ?)", row)
        writer._db.close()

    @invariant()
    def the_file_holds_what_was_written(self) -> None:
        if self.epoch:
            reader = Journal(self.folder / "job.db", "job", FINGERPRINT)
            records = reader.read()
            reader.close()
            assert [written(record) for record in records] == self.model
            assert [record.seq for record in records] == list(range(1, len(records) + 1))

    def teardown(self) -> None:
        for journal in self.open:
            journal.close()
        shutil.rmtree(self.folder)


TestWriters = Writers.TestCase
TestWriters.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "job.db"


@pytest.mark.parametrize("statement", ["DELETE FROM records", "UPDATE records SET data = '{}'"])
def test_records_can_neither_change_nor_go(path: Path, statement: str) -> None:
    journal = Journal(path, "job", FINGERPRINT)
    journal.take()
    journal.append("progress", {"n": 1})

    with pytest.raises(sqlite3.IntegrityError, match="append only"):
        journal._db.execute(statement)
    journal.close()


def test_who_has_not_taken_it_cannot_write(path: Path) -> None:
    first = Journal(path, "job", FINGERPRINT)
    first.take()
    second = Journal(path, "job", FINGERPRINT)

    with pytest.raises(JobBusy):
        second.append("progress", {})
    first.close()
    second.close()


def test_another_fingerprint_is_named(path: Path) -> None:
    journal = Journal(path, "job", FINGERPRINT)
    journal.take()
    journal.append("started", {})
    journal.close()

    with pytest.raises(JobMismatch) as caught:
        Journal(path, "job", {**FINGERPRINT, "metric": "other", "seed": "1"})
    assert caught.value.changed == ("metric", "seed")


def test_another_version_is_another_job(path: Path) -> None:
    journal = Journal(path, "job", FINGERPRINT)
    journal._db.execute("PRAGMA user_version = 99")
    journal.close()

    with pytest.raises(JobMismatch, match="journal version"):
        Journal(path, "job", FINGERPRINT)


def test_another_living_process_keeps_it(path: Path) -> None:
    parent = os.getppid()
    journal = Journal(path, "job", FINGERPRINT)
    journal.take()
    born = Path(f"/proc/{parent}/stat")
    started = born.read_text().rpartition(")")[2].split()[19] if born.exists() else ""
    journal._db.execute("UPDATE writer SET pid = ?, born = ?", (parent, started))

    with pytest.raises(JobBusy) as caught:
        journal.take()
    assert caught.value.pid == parent
    journal._db.execute("UPDATE writer SET pid = ?", (2**22 + 1,))
    assert journal.take() == 2
    journal.close()


def test_a_file_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(OptimizationError, match="cannot be used"):
        Journal(tmp_path / "file" / "job.db", "job", FINGERPRINT)
