"""A job as the data of a page: the verdict, the curve, candidates with what they change, rows and candidates. Pure."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from dspex._clock import day_text, wall_time
from dspex._html import write_page
from dspex.errors import OptimizationError
from dspex.optimizers.candidate import Candidate
from dspex.optimizers.journal import Record, read_page
from dspex.optimizers.tally import JobTally, Plain
from dspex.optimizers.verdict import verdict_of
from dspex.protocols.json_values import Json

__all__ = ["JobStory", "changes_of", "save_story", "story_of"]

PAGE: Final = 1_000
"""Records that are read at once."""

CANDIDATES: Final = 100
"""Candidates that a page tells one by one: the best by their mean."""

ROWS: Final = 400
"""Rows of the matrix: those with the most failures and the lowest scores."""

WORDS: Final = 1_500
"""Words of an instruction that are compared one by one; longer ones are shown whole, before and after."""

LONGEST: Final = 20_000
DEMOS: Final = 16
"""Demonstrations of a predictor that are shown."""

DEMO: Final = 2_000
"""Characters of one demonstration."""

_WORD: Final = re.compile(r"\S+\s*|\s+")


class JobStory:
    """
    Follows the records of a job's journal.

    Args:
        job: Its name.
    """

    def __init__(self, job: str) -> None:
        self._job = job
        self._tally = JobTally()
        self._about: Plain = {}
        self._contents: dict[str, Plain] = {}
        self._own: Json = {}
        self._verdict: Json | None = None
        self._handed: str | None = None
        self._found: str | None = None
        self._error = ""

    def take(self, records: Iterable[Record]) -> None:
        """Take in records, in their order."""
        for each in records:
            data = each.data
            self._tally.take(each.kind, data)
            if each.kind in ("started", "resumed"):
                self._about = dict(data)
            elif each.kind == "proposed":
                self._contents[data["candidate"]] = data["_content"]
                self._own = data.get("_own", self._own)
            elif each.kind == "verdict":
                self._verdict = data
            elif each.kind == "finished":
                self._verdict = data["verdict"]
                self._handed, self._found = Candidate.of(data["_candidate"]).key, Candidate.of(data["_found"]).key
                self._contents[self._found] = data["_found"]
            elif each.kind in ("failed", "paused"):
                self._error = str(data.get("error", ""))[:LONGEST]

    def changes(self, key: str) -> list[Plain] | None:
        """Return what a candidate changes; None where its words were not written down."""
        content = self._contents.get(key)
        if content is None:
            return [] if key == "student" else None
        return changes_of(self._own, content)

    def page(self, status: str, now: float) -> Plain:
        """
        Return the data of the page.

        Args:
            status: How the job stands.
            now: Seconds since 1970, for the page's date.
        """
        tally = self._tally
        told = tally.plain(candidates=CANDIDATES, rows=0)
        hardest = tally.hardest()
        matrix = tally.matrix(hardest[:ROWS], CANDIDATES)
        for each in told["candidates"]:
            changes = self.changes(each["key"])
            each |= {"changes": changes or [], "known": changes is not None, "short": _short(changes)}
        verdict = self._verdict
        return {
            **told,
            "kind": "job",
            "id": self._job,
            "made": f"written {day_text(now)}",
            "status": status,
            "optimizer": str(self._about.get("optimizer", "")),
            "program": str(self._about.get("program", "")),
            "verdict": {"kind": verdict["kind"], "text": str(verdict_of(verdict))} if verdict is not None else None,
            "handed_out": self._handed,
            "found": self._found,
            "failed": tally.failed,
            "error": self._error if verdict is None else "",
            "left_out": max(0, tally.count - CANDIDATES),
            "matrix": {**matrix, "left_out": max(0, len(hardest) - ROWS)},
        }


def story_of(path: Path, job: str) -> JobStory:
    """
    Return what a journal tells, while somebody else may be writing it. Blocks.

    Raises:
        OptimizationError: The file cannot be read, or holds something else.
    """
    story, after = JobStory(job), 0
    try:
        while page := read_page(path, after, PAGE):
            story.take(page)
            after = page[-1].seq
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise OptimizationError(f"the journal {path} cannot be read: {error!r:.200}") from error
    return story


def save_story(path: Path, job: str, status: str, target: Path, overwrite: bool) -> None:
    """Write a journal's page to a file; raises as ``Job.save_html``."""
    data = story_of(path, job).page(status, wall_time())
    write_page(target, "report.js", data, title=f"job {job}", overwrite=overwrite)


def changes_of(own: Json, content: Json) -> list[Plain]:
    """
    Return what a candidate changes, predictor by predictor.

    Args:
        own: The given program's ``instructions`` and ``demos`` by predictor path.
        content: As ``Candidate.plain`` wrote it.
    """
    found: list[Plain] = []
    for path, text in content.get("instructions", {}).items():
        before = str(own.get(path, {}).get("instructions", ""))
        if before != text:
            found.append({"path": path, "what": "instructions", "words": _words(before, str(text))})
    for path, demos in content.get("demos", {}).items():
        old = [_demo(each) for each in own.get(path, {}).get("demos", ())]
        new = [_demo(each) for each in demos]
        shown = [["+" if each not in old else "=", each] for each in new]
        shown += [["-", each] for each in old if each not in new]
        if any(how != "=" for how, _ in shown):
            left = max(0, len(shown) - DEMOS)
            found.append({"path": path, "what": "demonstrations", "demos": shown[:DEMOS], "left_out": left})
    for path, model in content.get("lms", {}).items():
        found.append({"path": path, "what": "model", "words": [["+", str(model)]]})
    if content.get("program"):
        found.append({"path": "", "what": "program", "words": [["+", str(content["program"])]]})
    return found


def _words(before: str, after: str) -> list[list[str]]:
    """Return runs of words: ``=`` in both, ``-`` before, ``+`` after."""
    before, after = before[:LONGEST], after[:LONGEST]
    one, other = _WORD.findall(before), _WORD.findall(after)
    if max(len(one), len(other)) > WORDS:
        return [["-", before], ["+", after]]
    runs: list[list[str]] = []
    for how, i, j, k, m in difflib.SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
        if how == "equal":
            runs.append(["=", "".join(one[i:j])])
            continue
        if j > i:
            runs.append(["-", "".join(one[i:j])])
        if m > k:
            runs.append(["+", "".join(other[k:m])])
    return runs


def _demo(demo: Json) -> str:
    lines = [
        f"{name}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for name, value in demo.items()
    ]
    text = "\n".join(lines)
    return text if len(text) <= DEMO else f"{text[:DEMO]}…"


def _short(changes: list[Plain] | None) -> str:
    """Return in a few words what a candidate changes."""
    if changes is None:
        return "not written down"
    parts = []
    for each in changes:
        what = each["what"]
        if "demos" in each:
            what = f"{sum(how != '-' for how, _ in each['demos']) + each['left_out']} demonstrations"
        parts.append(f"{each['path']}: {what}" if each["path"] else what)
    return "; ".join(parts[:6]) + ("; …" if len(parts) > 6 else "") or "nothing"
