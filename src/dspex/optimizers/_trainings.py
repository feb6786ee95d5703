"""Trainings of a job: submitted once, found again after a kill, waited for, and paid by their tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Final, TypeVar

from dspex.errors import BudgetExceeded, LMError, ResponseInvalid
from dspex.evaluation.faults import is_outage
from dspex.evaluation.outage_gate import OutageGate
from dspex.optimizers._answers import plain_spending
from dspex.optimizers._writer import JobWriter
from dspex.optimizers.fingerprint import digest
from dspex.optimizers.plans import Train
from dspex.protocols.executor import RunOptions
from dspex.protocols.lm import Usage
from dspex.protocols.model import LM
from dspex.protocols.money import Estimate, Reservation, Spending
from dspex.protocols.training import TrainingJob, TrainingOrder, TrainingRoom
from dspex.runtime import Runtime

__all__ = ["Trainings"]

T = TypeVar("T")

NONSENSE: Final = 5
"""Answers in a row that are none, after which a provider's are given up."""

STOPPING: Final = 30.0
"""Seconds in which a provider must have taken a cancellation."""

RESERVING: Final = 60.0
"""Seconds in which the ledger must have answered."""

MOST_TOLD: Final = 1_000
"""Lines of a training's log that go into the journal."""

_MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class _Order:
    """One submission of one training: after a cancellation of ours there may be another."""

    ask: Train
    lm: LM
    key: str
    mark: str


class Trainings:
    """
    Trains models for one incarnation of a job.

    Each step is in the journal before the next begins: that the data is about to be submitted, and the provider's name
    of the training. Between the two a process may die; then the training is looked for by its mark.

    Args:
        room: Where it is done, and who keeps the books.
        runtime: Whose clock counts.
        writer: The journal.
        gate: Where an outage is waited out.
        options: Of the job's requests: the default model, and the account that pays.
    """

    def __init__(
        self, room: TrainingRoom, runtime: Runtime, writer: JobWriter, gate: OutageGate, options: RunOptions
    ) -> None:
        self._service = room.service
        self._money = room.money
        self._runtime = runtime
        self._writer = writer
        self._gate = gate
        self._options = options
        self._account = options.paying_account or room.account
        self._under_way: dict[str, tuple[LM, str]] = {}
        """Submitted trainings that have not ended: the model, and the provider's name of the training."""

    async def train(self, ask: Train, key: str) -> Mapping[str, object]:
        """
        Train, and return the answer under ``key`` as a journal has it.

        Raises:
            ConfigError: The model cannot be trained; nothing was sent.
            LMError: The provider refuses what is not the training's own fault: the key, the model, the form.
            BudgetExceeded: A budget does not allow it; nothing was sent.
        Cancellation: the training goes on at the provider, and is found again.
        """
        lm = self._service.record(ask.lm if ask.lm is not None else self._options.lm)
        order = await self._order(ask, lm, key)
        known = await self._writer.find_note("training", f"{order.key}/submitted")
        held = await self._reserve(ask, lm, submitted=known is not None)
        try:
            job = await self._submitted(order) if known is None else known["training"]
            self._under_way[order.key] = (lm, job)
            found = await self._ended(order, job)
            self._under_way.pop(order.key, None)
        finally:
            if held is not None:
                self._money.release(held)
        return self._answer(ask, lm, found)

    async def _order(self, ask: Train, lm: LM, key: str) -> _Order:
        """Return the submission that is under way, or the next one after those that were cancelled by us."""
        content = digest([lm.model, lm.api_base, ask.data, ask.options])[:32]
        number = 0
        while await self._writer.find_note("training", f"{key}/{number}/stopped") is not None:
            number += 1
        return _Order(ask, lm, f"{key}/{number}", f"{content}-{number}" if number else content)

    # --- submitting -----------------------------------------------------------------------------------------

    async def _submitted(self, order: _Order) -> str:
        """Return the provider's name of the training, which is submitted unless it was before."""
        begun = await self._writer.find_note("training", f"{order.key}/begun") is not None
        while True:
            found = await self._tried(partial(self._service.find, order.lm, order.mark))
            # One of another job, or of a lost journal, is as good as ours; but not one that came to nothing.
            if found is not None and (begun or found.status in ("under way", "succeeded")):
                break
            await self._note(order, "begun", "")
            begun = True
            file = await self._uploaded(order)
            wanted = TrainingOrder(order.lm.model_name, file, order.mark, order.ask.options)
            ticket = await self._gate.enter()
            try:
                found = await self._service.submit(order.lm, wanted)
            except LMError as error:
                if not (is_outage(error) or isinstance(error, ResponseInvalid)):
                    raise
                await self._gate.close(ticket, error)
                continue  # nobody knows whether it was taken: look before sending it again
            self._gate.succeeded(ticket)
            break
        await self._note(order, "submitted", found.id)
        return found.id

    async def _uploaded(self, order: _Order) -> str:
        known = await self._writer.find_note("training", f"{order.key}/uploaded")
        if known is not None:
            return str(known["file"])
        name = f"dspex-{order.mark}.jsonl"
        file = await self._tried(partial(self._service.upload, order.lm, name, order.ask.data))
        data = {"step": "uploaded", "file": file, "examples": len(order.ask.data)}
        await self._writer.append("training", data, f"{order.key}/uploaded")
        return file

    # --- waiting --------------------------------------------------------------------------------------------

    async def _ended(self, order: _Order, job: str) -> TrainingJob:
        """Wait until the provider says that the training has ended."""
        told: set[str] = set()
        while True:
            found = await self._tried(partial(self._service.look, order.lm, job))
            if len(told) < MOST_TOLD:
                await self._tell(order, job, told)
            if found.status != "under way":
                return found
            await self._runtime.sleep(order.ask.look_every)

    async def _tell(self, order: _Order, job: str, told: set[str]) -> None:
        """Write down what the training's log says anew; a provider that does not tell it holds nothing up."""
        try:
            events = await self._service.events(order.lm, job)
        except LMError:
            return
        for each in events:
            if each.id not in told:
                told.add(each.id)
                data = {"step": "told", "training": job, "told": each.text}
                await self._writer.append("training", data, f"{order.key}/told/{each.id}")

    async def _tried(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask until there is an answer: an outage is waited for."""
        nonsense = 0
        while True:
            ticket = await self._gate.enter()
            try:
                answer = await ask()
            except LMError as error:
                nonsense = nonsense + 1 if isinstance(error, ResponseInvalid) else 0
                if not is_outage(error) and not 0 < nonsense < NONSENSE:
                    raise
                await self._gate.close(ticket, error)
            else:
                self._gate.succeeded(ticket)
                return answer

    async def _note(self, order: _Order, step: str, job: str) -> None:
        await self._writer.append("training", {"step": step, "training": job}, f"{order.key}/{step}")

    # --- money ----------------------------------------------------------------------------------------------

    async def _reserve(self, ask: Train, lm: LM, *, submitted: bool) -> Reservation | None:
        """Set aside what the training may cost; one that is submitted is waited for in any case."""
        account = self._account
        if not account.limited:
            return None
        usd = ask.expected.usd if ask.price is not None else None
        estimate = Estimate(ask.expected.tokens, 0, usd)
        try:
            return await self._money.set_aside(account, lm, estimate, self._runtime.clock.now() + RESERVING)
        except BudgetExceeded:
            if submitted:
                return None
            raise

    def _answer(self, ask: Train, lm: LM, job: TrainingJob) -> Mapping[str, object]:
        """Pay for a training, and return its answer."""
        tokens = job.trained_tokens
        if tokens is None:  # the provider does not say: what was expected, unless nothing was trained
            tokens = ask.expected.tokens if job.status == "succeeded" else 0
        usd = ask.price * tokens / _MILLION if ask.price is not None else None
        paid = LM(f"training/{lm.model}")
        self._money.book(self._account, paid, Usage(input_tokens=tokens, charged=usd), 0, paid=False)
        spent = Spending(usd if usd is not None else Decimal(0), tokens, 1, int(usd is None))
        told = {"spent": plain_spending(spent), "training": job.id}
        if job.status == "succeeded":
            return {"model": f"{lm.provider}/{job.model}", "error": "", **told}
        return {"model": "", "error": f"the training {job.id} {job.status}: {job.told or 'no reason given'}", **told}

    # --- stopping -------------------------------------------------------------------------------------------

    async def stop(self) -> None:
        """
        Stop the trainings under way at their providers, and note it; one that cannot be stopped is noted as well.

        Cancellation: some may go on.
        """
        for key, (lm, job) in tuple(self._under_way.items()):
            try:
                async with asyncio.timeout(STOPPING):
                    found = await self._service.cancel(lm, job)
            except (LMError, TimeoutError) as error:
                data = {"step": "not stopped", "training": job, "told": f"{type(error).__name__}: {error}"}
                await self._writer.append("training", data)
                continue
            data = {"step": "stopped", "training": job, "told": found.told}
            await self._writer.append("training", data, f"{key}/stopped")
            self._under_way.pop(key, None)
