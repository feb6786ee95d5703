"""Jobs seen and steered from outside: by whoever can read and write the folder that their journals are in."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dspex._clock import wall_time
from dspex._files import make_private
from dspex.errors import ConfigError, OptimizationError
from dspex.optimizers._answers import spending_of
from dspex.optimizers.journal import Record, lives, read_page
from dspex.protocols.money import Spending

__all__ = ["JobFolder", "JobOverview", "Word", "is_job_name", "spending_of"]

Word = Literal["pause", "resume", "cancel", "steer"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

_STATES = {
    "started": "running",
    "resumed": "running",
    "held": "paused",
    "released": "running",
    "paused": "paused",
    "evaluation": "running",
    "answer": "running",
    "progress": "running",
    "finished": "finished",
    "failed": "failed",
    "cancelled": "cancelled",
}
"""Records after which a job is in a state, as far as the journal tells."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS words (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, job TEXT NOT NULL, epoch INTEGER NOT NULL,
    word TEXT NOT NULL, taken INTEGER NOT NULL DEFAULT 0
)
"""


_TROUBLES = (sqlite3.Error, UnicodeDecodeError)
"""A file that cannot be used; the last one where SQLite's message quotes bytes of a damaged file."""


@dataclass(frozen=True, slots=True)
class JobOverview:
    """
    A job as its journal has it, whoever runs it.

    Attributes:
        id: Its name.
        status: ``running``, ``paused``, ``finished``, ``failed``, ``cancelled``; ``interrupted`` when the process that
            ran it is gone and it had not ended: the same job, compiled again, continues.
        pid: The process that runs it; None when none does.
        epoch: How often it has been begun or continued.
        optimizer: The optimizer's class.
        program: The program's class.
        evaluations: Rows that have been run.
        failed: Those of them without a score.
        spent: The cost of all answers so far.
        started: When it was first begun, in seconds since 1970; None before that.
        changed: When its latest record was written.
        verdict: The verdict, as JSON values; None before the end.
        error: Why it has failed, or is waiting.
        candidates: The words of the search about its candidates, as JSON values.
        held: True when somebody has paused it; a pause by an outage is none.
        index: Of a job that indexes passages: which index; empty otherwise.
        passages: Passages that such a job has read, since it was last begun or continued.
        steered: Words of people that the search has been told.
    """

    id: str
    status: str
    pid: int | None
    epoch: int
    optimizer: str
    program: str
    evaluations: int
    failed: int
    spent: Spending
    started: float | None
    changed: float | None
    verdict: dict[str, object] | None
    error: str
    candidates: tuple[dict[str, object], ...] = ()
    held: bool = False
    index: str = ""
    passages: int = 0
    steered: int = 0

    def plain(self) -> dict[str, object]:
        """Return it as JSON values; ``usd`` is None where the price of a call is unknown."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "spent"}
        usd = str(self.spent.usd) if not self.spent.unpriced else None
        return {**values, "usd": usd, "tokens": self.spent.tokens, "calls": self.spent.calls}

    @property
    def cost(self) -> str:
        """The cost of all answers so far, for people."""
        return "price unknown" if self.spent.unpriced else f"{self.spent.usd:.6f} USD"


def is_job_name(name: str) -> bool:
    """True when a job may have this name; every such name is a file's name, too."""
    return _NAME.fullmatch(name) is not None


def _read_overview(path: Path) -> JobOverview:
    """
    Return what a journal tells, while somebody else may be writing it. Blocks.

    Raises:
        OptimizationError: There is no such journal, or the file cannot be read.
    """
    job = path.name.removesuffix(".db")
    if not path.is_file():
        raise OptimizationError(f"there is no job {job!r}: no file {path}")
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=10.0)) as db:
            epoch, pid, born = db.execute("SELECT epoch, pid, born FROM writer").fetchone()
        about: dict[str, object] = {}
        error, status, held = "", "starting", False
        evaluations, failed, spent, after = 0, 0, Spending(), 0
        started: float | None = None
        changed: float | None = None
        verdict: dict[str, object] | None = None
        candidates: list[dict[str, object]] = []
        passages = steered = 0
        while page := read_page(path, after, 1_000):
            for each in page:
                started = each.at if started is None else started
                steered += each.kind == "steered"
                held = each.kind == "held" or (held and each.kind not in ("released", "started", "resumed"))
                status = "paused" if held and each.kind != "cancelled" else _STATES.get(each.kind, status)
                if each.kind in ("evaluation", "answer"):
                    evaluations += each.kind == "evaluation"
                    failed += each.kind == "evaluation" and each.data.get("score") is None
                    spent += spending_of(each.data)
                elif each.kind in ("started", "resumed"):
                    about, passages = dict(each.data), 0
                elif each.kind == "candidate":
                    candidates.append(dict(each.data))
                error = _error_of(each, error)
                if each.kind == "finished" and "verdict" in each.data:
                    verdict = dict(each.data["verdict"])
                elif each.kind in ("progress", "finished"):
                    passages = int(each.data.get("read", passages))
            changed, after = page[-1].at, page[-1].seq
    except (sqlite3.Error, TypeError, KeyError, ValueError, ArithmeticError) as trouble:
        raise OptimizationError(f"the journal {path} cannot be read: {trouble}") from trouble
    running = pid is not None and lives(pid, born)
    if not running and status not in ("finished", "failed", "cancelled"):
        status = "interrupted"
    names = (str(about.get("optimizer", "")), str(about.get("program", "")))
    return JobOverview(
        job,
        status,
        pid if running else None,
        epoch,
        *names,
        evaluations=evaluations,
        failed=failed,
        spent=spent,
        started=started,
        changed=changed,
        verdict=verdict,
        error=error,
        candidates=tuple(candidates),
        held=held and running,
        index=str(about.get("index", "")),
        passages=passages,
        steered=steered,
    )


def _error_of(record: Record, before: str) -> str:
    """Return why a job waits or has failed, after one more record."""
    if record.kind in ("failed", "paused"):
        return str(record.data.get("error", ""))
    return "" if record.kind in ("started", "resumed", "evaluation", "finished") else before


class JobFolder:
    """
    The folder of a home in which jobs keep their journals; every method blocks.

    Args:
        path: ``jobs`` below an App's home; it need not be there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._control = path / ".control"

    def all(self) -> list[JobOverview | OptimizationError]:
        """Return every job, by name; a journal that cannot be read is its error."""
        found: list[JobOverview | OptimizationError] = []
        for path in sorted(self.path.glob("*.db")):
            try:
                found.append(_read_overview(path))
            except OptimizationError as error:
                found.append(error)
        return found

    def show(self, job: str) -> JobOverview:
        """
        Return one job.

        Raises:
            ConfigError: No job can have this name.
            OptimizationError: There is no such job, or its journal cannot be read.
        """
        if not is_job_name(job):
            raise ConfigError(f"{job!r} is not the name of a job")
        return _read_overview(self.path / f"{job}.db")

    def say(self, job: str, word: Word, more: str = "") -> int:
        """
        Leave a word for the process that runs a job; return its number, for ``is_taken``.

        ``more`` is what is said with ``steer``, as JSON.

        It is for the incarnation that runs now: no later one heeds it.

        Raises:
            ConfigError: Nobody runs the job.
            OptimizationError: There is no such job, or a file cannot be used.
        """
        overview = self.show(job)
        if overview.pid is None:
            raise ConfigError(f"job {job} is not running ({overview.status}); compile it again to continue it")
        entry = (wall_time(), job, overview.epoch, f"{word} {more}".rstrip())
        try:
            make_private(self._control)
            with _opened(self._control) as db:
                db.execute(_SCHEMA)
                return db.execute("INSERT INTO words (at, job, epoch, word) VALUES (?, ?, ?, ?)", entry).lastrowid or 0
        except (*_TROUBLES, OSError) as error:
            raise OptimizationError(f"{self._control} cannot be written: {error}") from error

    def is_taken(self, number: int) -> bool:
        """True when the job's process has heard the word; raises OptimizationError as ``say``."""
        try:
            with _opened(self._control) as db:
                row = db.execute("SELECT taken FROM words WHERE id = ?", (number,)).fetchone()
        except _TROUBLES as error:
            raise OptimizationError(f"{self._control} cannot be read: {error}") from error
        return bool(row is not None and row[0])

    def take(self, job: str, epoch: int) -> list[str]:
        """
        Return the words for this incarnation that nobody has taken, oldest first; each is handed out once.

        Where nobody has ever said anything there is no file, and this costs one look at the folder. A file that cannot
        be read has no words: a job goes on without it.
        """
        if not self._control.exists():
            return []
        query = "SELECT id, word FROM words WHERE job = ? AND epoch = ? AND taken = 0 ORDER BY id"
        try:
            with _opened(self._control) as db:
                found = db.execute(query, (job, epoch)).fetchall()
                db.executemany("UPDATE words SET taken = 1 WHERE id = ?", [(number,) for number, _ in found])
        except _TROUBLES:
            return []
        return [str(word) for _, word in found]


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the file for one transaction."""
    with contextlib.closing(sqlite3.connect(path, timeout=5.0)) as db, db:
        yield db
