"""``dspex index``: files into an index, and a look at what is in it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dspex._files import parse_json
from dspex.app._app import App
from dspex.app.cli._flags import AppFlags
from dspex.app.cli._index_file import AnyIndex, kind_of, named_index, open_index
from dspex.errors import ConfigError, JobCancelled, TargetExists
from dspex.indexing import IndexMode, IndexReport, target_of
from dspex.programs import Retrieve
from dspex.protocols.filters import Filter, as_filter
from dspex.protocols.retrieval import Passage
from dspex.services.documents.documents import Documents
from dspex.services.retrieval.embedding import is_embedded_outside
from dspex.services.retrieval.vector_index import VectorIndex

__all__ = ["IndexOptions", "delete", "run", "search", "stats"]

_SHOWN = 10
"""Bad files that are named one by one."""


@dataclass(frozen=True, slots=True)
class IndexOptions:
    """The command line of ``build`` and ``add``, checked for types only."""

    index: Path
    sources: tuple[Path, ...]
    asked: AppFlags
    mode: IndexMode
    least: int
    most: int
    overlap: int
    encoding: str
    kind: str
    skip_bad: bool
    job: str | None
    overwrite: bool
    embedder: str | None = None
    api_base: str | None = None


def run(options: IndexOptions) -> int:
    """
    Index files; returns the exit code: 1 when something was left out, or somebody has cancelled the job.

    Raises:
        ConfigError: The flags make no job; nothing was read.
        TargetExists: Something else than an index of this kind stands there; it is untouched.
        DocumentError: A file cannot be read; without ``--skip-bad``.
        LMError, BudgetExceeded: The model that embeds has refused, or costs more than ``--usd``.
    """
    target = _checked_target(options)
    for source in options.sources:
        if source.exists() and options.index.exists() and source.samefile(options.index):
            raise ConfigError(f"{source} is the index itself")
    documents = Documents(
        *options.sources,
        least=options.least,
        most=options.most,
        overlap=options.overlap,
        encoding=options.encoding,
        kind=options.kind,
        skip_bad=options.skip_bad,
    )

    async def index() -> IndexReport:
        async with options.asked.app() as app:
            job = await app.index(documents, target, mode=options.mode, job=options.job, skip_bad=options.skip_bad)
            sys.stderr.write(f"job {job.id}: `dspex jobs show {job.id}` tells how it stands\n")
            return await job.result()

    try:
        report = asyncio.run(index())
    except JobCancelled as error:
        sys.stderr.write(f"dspex: {error}\n")
        return 1
    finally:
        target.close()
    _tell(documents, options.mode)
    sys.stdout.write(f"{report}\n")
    return 1 if report.skipped or report.counts.bad else 0


def _tell(documents: Documents, mode: IndexMode) -> None:
    """Name on standard error what was not read: nothing is left out in silence."""
    lines = [f"not read: {error}" for error in documents.skipped[:_SHOWN]]
    if documents.bad > len(lines):
        lines.append(f"not read: {documents.bad - len(lines)} more")
    if documents.left_out:
        more = f" and {len(documents.left_out) - 3} more" if len(documents.left_out) > 3 else ""
        lines.append(f"left out, of no kind that is known: {', '.join(documents.left_out[:3])}{more}")
    lines += [f"note: {note}" for note in documents.notes[:_SHOWN]]
    if mode == "add" and not documents.passages:
        lines.append("note: there was nothing to add")
    sys.stderr.write("".join(f"dspex: {line}\n" for line in lines))


def _checked_target(options: IndexOptions) -> AnyIndex:
    index = options.index
    target_of(index)
    if index.exists() and not index.is_file():
        raise ConfigError(f"{index} is not a file")
    found = named_index(index, options.embedder, options.api_base)
    there, wanted = kind_of(index), "vectors" if isinstance(found, VectorIndex) else "words"
    if there not in (wanted, "none") and not options.overwrite:
        if there == "other":
            raise TargetExists(index, "it is not an index", "--overwrite")
        raise TargetExists(index, f"it is an index of {there}", "--overwrite")
    return found


# --- looking and deleting -------------------------------------------------------------------------------------


def search(
    index: Path, query: str, *, k: int, conditions: Iterable[str], as_json: bool, api_base: str | None = None
) -> int:
    """Print the best passages; returns the exit code: 1 when there are none."""
    opened, asked = open_index(index, api_base=api_base), as_filter(_filter_of(conditions))
    try:
        if isinstance(opened, VectorIndex) and is_embedded_outside(opened.embedder):
            found = asyncio.run(_searched_by_model(opened, query, k, asked))
        else:
            found = opened.search(query, k, asked)
    finally:
        opened.close()
    if as_json:
        sys.stdout.write("".join(json.dumps(_plain(each), ensure_ascii=False) + "\n" for each in found))
    else:
        sys.stdout.write("".join(map(_told, found)) or "nothing found\n")
    return 0 if found else 1


async def _searched_by_model(index: VectorIndex, query: str, k: int, asked: Filter | None) -> Sequence[Passage]:
    async with App(retriever=index) as app:
        return await app.run(Retrieve(k=k, filter=asked), query=query)


def delete(index: Path, ids: Iterable[str]) -> int:
    """Remove passages by id; returns the exit code: 1 when some were not there."""
    wanted = list(dict.fromkeys(ids))
    opened = open_index(index)
    try:
        removed = opened.delete(wanted)
    finally:
        opened.close()
    sys.stdout.write(f"{removed} of {len(wanted)} passages removed\n")
    return 0 if removed == len(wanted) else 1


def stats(index: Path, *, as_json: bool) -> int:
    """Print how many passages an index holds and from which files."""
    opened = open_index(index)
    try:
        told = {"index": str(index), "passages": len(opened), "bytes": index.stat().st_size, "version": opened.version}
        if isinstance(opened, VectorIndex):
            told |= {"embedder": opened.made_with, "dimensions": opened.dimensions}
    finally:
        opened.close()
    if as_json:
        sys.stdout.write(json.dumps(told) + "\n")
    else:
        more = (
            f", {told['dimensions']} numbers each by {told['embedder'] or 'a function'}" if "embedder" in told else ""
        )
        size = f"{told['passages']} passages{more}, {told['bytes']:,} bytes"
        sys.stdout.write(f"{index}: {size}, version {told['version']}\n")
    return 0


def _filter_of(conditions: Iterable[str]) -> dict[str, str | int | float | bool | None]:
    """Return the filter that ``--where NAME=VALUE`` means: a value is JSON where it can be, else text."""
    wanted: dict[str, str | int | float | bool | None] = {}
    for each in conditions:
        name, mark, text = each.partition("=")
        if not mark or not name:
            raise ConfigError(f"--where {each}: expected NAME=VALUE")
        try:
            value = parse_json(text)
        except ValueError:
            value = text
        wanted[name] = value if isinstance(value, (str, int, float, bool)) or value is None else text
    return wanted


def _plain(passage: Passage) -> dict[str, object]:
    names = ("id", "title", "text", "score")
    return {**{name: getattr(passage, name) for name in names}, "metadata": dict(passage.metadata)}


def _told(passage: Passage) -> str:
    source, page = passage.metadata.get("source", ""), passage.metadata.get("page", "")
    where = f"  ({source}{f', page {page}' if page else ''})" if source else ""
    text = " ".join(passage.text.split())
    shown = text if len(text) <= 200 else f"{text[:200]}…"
    return f"{_score(passage.score)}  {passage.title}{where}\n         {shown}\n"


def _score(score: float) -> str:
    """Three places, as most scores need; more where these would all be zeros, as in an index of few passages."""
    return f"{score:7.3f}" if score == 0 or abs(score) >= 0.0005 else f"{score:7.1e}"
