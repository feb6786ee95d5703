"""The actor of one job that indexes passages, and the supervisors above it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from dspex.errors import (
    ActorError,
    ActorExited,
    ConfigError,
    JobBusy,
    OptimizationError,
    RequestRejected,
)
from dspex.evaluation import OpenStream, RowRunner
from dspex.evaluation.outage_gate import OutageGate
from dspex.evaluation.row_runner import together
from dspex.indexing.embedding import EmbedTexts
from dspex.indexing.files import Batch, IndexFiles
from dspex.indexing.record import IndexCounts, IndexRecord, IndexReport, plain_counts
from dspex.optimizers.control import spending_of
from dspex.optimizers.jobs import WorkingActor
from dspex.optimizers.journal import Journal
from dspex.protocols.executor import Executor, Failed
from dspex.protocols.money import Spending
from dspex.protocols.retrieval import Passage, Vector, embedded_text
from dspex.protocols.scope import RequestTotals
from dspex.runtime import (
    Backoff,
    Continue,
    Crashed,
    WorkerThread,
)

__all__ = ["IndexActor", "IndexServices"]

PAUSES = Backoff(initial=0.5, maximum=60.0)
"""The wait of a job while the provider is down, in seconds."""

TELLING = 1.0
"""Seconds between two records of how far the job is."""

_PAGE = 1_000
_SETTLED = "settled"


class _Ready(NamedTuple):
    """A batch to be written: what is fresh of so many passages, their vectors by id, and what it took to get them."""

    read: int
    fresh: Sequence[Passage]
    vectors: Mapping[str, Vector] | None = None
    embedded: int = 0
    bad: int = 0
    totals: RequestTotals | None = None


class IndexServices:
    """
    The parts of an App that jobs need.

    Args:
        executor: Where texts are embedded.
        open_stream: Returns what opens streams of tasks.
    """

    def __init__(self, executor: Executor, open_stream: Any) -> None:  # an async function that returns an OpenStream
        self.executor = executor
        self.open_stream = open_stream


class IndexActor(WorkingActor[IndexRecord]):
    """
    Runs one job in a task of its own, so that the mailbox always answers.

    ``init`` opens the journal and takes the next epoch. The job then reads the passages from the first on, leaves out
    what the index holds already, has the rest embedded, several batches at a time, and writes them in their order. It
    is begun again when it is killed; what the work raises is the job's end.
    """

    def __init__(self, record: IndexRecord, services: IndexServices) -> None:
        super().__init__(record)
        self._services = services
        self._writing: WorkerThread
        self._files: IndexFiles | None = None
        self._reading: WorkerThread
        self._source: Iterator[Passage] | None = None
        self._may_go = asyncio.Event()
        self._counts = IndexCounts()
        self._told = 0.0

    async def init(self) -> Continue | None:
        """Open the journal; fails with the job when it belongs to another index or to another process."""
        record = self._record
        record.incarnations += 1
        if record.settled:
            return Continue(_SETTLED)
        try:
            self._journals = self.own(WorkerThread("dspex-index-journal"), self._close_journal)
            await self._journals.run(self._open_journal)
        except OptimizationError as error:
            record.fail(error)
            raise
        self._writing = self.own(WorkerThread("dspex-index-writer"), self._close_files)
        self._reading = self.own(WorkerThread("dspex-index-reader"), self._close_source)
        record.status = "paused" if record.held else "running"
        if not record.held:
            self._may_go.set()
        self._begin(f"indexing of {record.spec.target.name}")
        return None

    # --- resources ------------------------------------------------------------------------------------------

    def _open_journal(self) -> None:
        """Open it in its thread, and note it there: it is closed even if we are killed before we hear of it."""
        spec = self._record.spec
        self._journal = Journal(spec.path, spec.id, spec.identity)
        self._journal.take()
        account = spec.options.paying_account
        if account is not None and self._record.incarnations == 1:
            account.spent += self._spent_before(self._journal)

    def _spent_before(self, journal: Journal) -> Spending:
        """Return what starts of the job have paid since it was last finished: it counts against the same budget."""
        spent, after = Spending(), 0
        while page := journal.read(after, _PAGE):
            for each in page:
                if each.kind == "finished":
                    spent = Spending()
                elif each.kind == "answer":
                    spent += spending_of(each.data)
            after = page[-1].seq
        return spent

    def _open_files(self) -> None:
        spec = self._record.spec
        self._files = IndexFiles(spec.target, spec.mode, self.runtime.loop)

    def _shut_files(self) -> None:
        if self._files is not None:
            self._files.close()

    async def _close_files(self, worker: WorkerThread) -> None:
        if self._files is not None:
            self._files.interrupt()
        await worker.aclose(self._shut_files)

    def _shut_source(self) -> None:
        close = getattr(self._source, "close", None)  # a generator's: what it holds is given back in its thread
        if close is not None:
            close()

    async def _close_source(self, worker: WorkerThread) -> None:
        stop = getattr(self._record.spec.passages, "close", None)
        if stop is not None and hasattr(self._record.spec.passages, "skipped"):  # Documents: a file under way is let go
            stop()
        await worker.aclose(self._shut_source)

    def _go(self, go: bool) -> None:
        (self._may_go.set if go else self._may_go.clear)()

    def describe(self) -> str:
        """Tell how far the job is."""
        return f"{self._record.status}, {self._counts.read} passages read"

    # --- the work -------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        record = self._record
        try:
            await self._note_start()
            report = await self._index()
            about = {**plain_counts(report.counts), "removed": report.removed, "skipped": report.skipped}
            await self._append("finished", {**about, "size": report.size})
        except ActorError:
            raise  # somebody killed a part of it: it is begun again
        except Exception as error:  # noqa: BLE001 - the error that the work raises is how its job ends
            if not isinstance(error, JobBusy):
                await self._try_append("failed", {"error": f"{type(error).__name__}: {error}"})
            record.fail(error)
        else:
            record.finish(report)

    async def _index(self) -> IndexReport:
        spec = self._record.spec
        await self._writing.run(self._open_files)
        files = self._files
        assert files is not None
        open_stream: OpenStream = await self._services.open_stream()
        gate = OutageGate(self.runtime, PAUSES, on_pause=self._note_pause, on_go=self._note_go)
        runner = RowRunner(self._services.executor, spec.options, gate, insists=True)
        stream = open_stream(
            lambda batch: self._embedded(runner, batch),
            self._batches(files),
            max_concurrency=spec.max_concurrency,
            ordered=True,
            context=spec.options.context,
        )
        try:
            async for result in stream:
                if not result.ok or result.value is None:
                    raise _error_of(result.reason)
                await self._write(files, result.value)
        finally:
            await stream.aclose()
        removed, size = await self._writing.run(files.finish)
        skipped = getattr(spec.passages, "bad", 0)
        return IndexReport(self._counts, removed, size, skipped if isinstance(skipped, int) else 0)

    async def _batches(self, files: IndexFiles) -> AsyncIterator[Batch]:
        """Yield what is new or changed, batch by batch, while the job is not paused."""
        async for passages in self._read():
            batch = await self._writing.run(files.look, passages)
            yield batch

    async def _read(self) -> AsyncIterator[Sequence[Passage]]:
        given, size = self._record.spec.passages, self._record.spec.batch
        if self._record.incarnations > 1 and isinstance(given, (Iterator, AsyncIterator)):
            raise ConfigError(  # what a predecessor had read and not written would be missing, and nobody would know
                f"job {self._record.spec.id} was killed, and its passages can be read only once: start it again with "
                f"passages that can be read from their beginning, a list or Documents for example"
            )
        if isinstance(given, AsyncIterable):
            gathered: list[Passage] = []
            async for passage in given:
                gathered.append(passage)
                if len(gathered) == size:
                    await self._may_go.wait()
                    yield gathered
                    gathered = []
            if gathered:
                yield gathered
            return
        while True:
            await self._may_go.wait()
            passages = await self._reading.run(self._take, size)
            if not passages:
                return
            yield passages

    def _take(self, size: int) -> Sequence[Passage]:
        if self._source is None:
            self._source = iter(self._record.spec.passages)  # type: ignore[arg-type]  # not an AsyncIterable here
        return list(islice(self._source, size))

    async def _embedded(self, runner: RowRunner, batch: Batch) -> _Ready:
        """Return a batch ready to be written; in a task of its own."""
        assert self._files is not None
        if not self._files.abilities.embeds:
            return _Ready(batch.read, batch.fresh)
        wanted = [each for each in batch.fresh if each.id not in batch.vectors]
        if not wanted:
            return _Ready(batch.read, batch.fresh, batch.vectors)
        program = EmbedTexts(self._files.index.embedder)  # type: ignore[attr-defined]  # its abilities say so
        outcome = await runner.run(program, {"texts": [embedded_text(each) for each in wanted]}, {})
        if not isinstance(outcome, Failed):
            vectors = dict(zip([each.id for each in wanted], outcome.value, strict=True))
            return _Ready(batch.read, batch.fresh, {**batch.vectors, **vectors}, len(wanted), 0, outcome.totals)
        if not (self._record.spec.skip_bad and isinstance(outcome.reason, RequestRejected)):
            raise outcome.reason
        if len(wanted) > 1:
            return await self._one_by_one(runner, batch, wanted)
        [bad] = wanted
        await self._append("left out", {"id": bad.id, "error": f"{type(outcome.reason).__name__}: {outcome.reason}"})
        kept = [each for each in batch.fresh if each is not bad]
        return _Ready(batch.read, kept, batch.vectors, 0, 1, outcome.totals)

    async def _one_by_one(self, runner: RowRunner, batch: Batch, wanted: Sequence[Passage]) -> _Ready:
        """Find out which passages the model refuses, and leave them out."""
        each = [await self._embedded(runner, Batch(1, [one])) for one in wanted]
        vectors = {**batch.vectors, **{id_: vector for one in each for id_, vector in (one.vectors or {}).items()}}
        totals: RequestTotals | None = None
        for one in each:
            totals = together(totals, one.totals)
        kept = [one for one in batch.fresh if one.id in vectors]
        return _Ready(
            batch.read, kept, vectors, sum(one.embedded for one in each), len(batch.fresh) - len(kept), totals
        )

    async def _write(self, files: IndexFiles, ready: _Ready) -> None:
        """Write a batch into the index, and only then say that it is there."""
        if ready.totals is not None:  # paid, whatever becomes of the index: it counts against the next start's budget
            await self._append("answer", {**_spent(ready.totals), "texts": ready.embedded})
        vectors = ready.vectors
        ordered = [vectors[each.id] for each in ready.fresh] if vectors is not None else None
        await self._writing.run(files.write, ready.fresh, ordered)
        self._counts = self._counts.plus(
            read=ready.read,
            added=len(ready.fresh),
            unchanged=ready.read - len(ready.fresh) - ready.bad,
            embedded=ready.embedded,
            bad=ready.bad,
        )
        self._record.note(self._counts)
        now = self.runtime.clock.now()
        if now - self._told >= TELLING:
            self._told = now
            await self._append("progress", plain_counts(self._counts))
        if self.runtime.telemetry.active:
            counts = self._counts
            measurements = {"read": counts.read, "added": counts.added, "embedded": counts.embedded}
            self.runtime.telemetry.emit("dspex.index.progress", measurements, {"job": self._record.spec.id})

    # --- the journal ----------------------------------------------------------------------------------------

    async def _append(self, kind: str, data: Mapping[str, object]) -> None:
        assert self._journal is not None
        await self._journals.run(self._journal.append, kind, data)
        self._journal.written.clear()

    async def _note_start(self) -> None:
        spec, journal = self._record.spec, self._journal
        assert journal is not None
        about = {"index": spec.target.name, "mode": spec.mode}
        await self._append("started" if journal.epoch == 1 else "resumed", about)
        if self._record.held:
            await self._append("held", {})


def _spent(totals: RequestTotals) -> dict[str, object]:
    """Return the cost of a request as journals of jobs have it; each attempt is a call."""
    calls, known = len(totals.attempts), totals.cost is not None
    tokens = totals.usage.input_tokens + totals.usage.output_tokens
    spent = {"usd": str(totals.cost if known else 0), "tokens": tokens, "calls": calls}
    return {"spent": {**spent, "unpriced": 0 if known else calls}}


def _error_of(reason: object) -> Exception:
    """Return what ended a task of the stream: its own error, or that it was killed."""
    if isinstance(reason, Crashed) and isinstance(reason.error, Exception):
        return reason.error
    return ActorExited("a batch of the job", reason)
