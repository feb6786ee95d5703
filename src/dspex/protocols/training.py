"""Training a model at its provider: what is sent and read, as pure values, and the service that does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal, Protocol, runtime_checkable

from dspex.protocols.lm import Usage
from dspex.protocols.model import LM, LMChoice, LMPool
from dspex.protocols.money import Account, Estimate, Reservation

__all__ = [
    "TrainingCall",
    "TrainingEvent",
    "TrainingJob",
    "TrainingMoney",
    "TrainingOrder",
    "TrainingRoom",
    "TrainingService",
    "TrainingStatus",
    "TrainingWire",
]

TrainingStatus = Literal["under way", "succeeded", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class TrainingCall:
    """
    One request of a provider's training interface.

    Attributes:
        method: The HTTP method.
        path: The part of the address after the base URL, with its leading slash and its query.
        body: The bytes that are sent.
        content_type: Their type; empty where there are none.
    """

    method: Literal["GET", "POST"]
    path: str
    body: bytes = b""
    content_type: str = ""


@dataclass(frozen=True, slots=True)
class TrainingOrder:
    """
    A training to submit.

    Attributes:
        model: The model to start from, as the provider knows it.
        file: The id of the uploaded data.
        mark: The order's own name, by which it is found again.
        options: ``epochs``, ``seed`` and ``suffix`` (a part of the trained model's name), and others as the provider
            names them.
    """

    model: str
    file: str
    mark: str
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """
    A training as the provider tells it.

    Attributes:
        id: Its name at the provider.
        status: ``under way`` until it has ended.
        mark: The mark of the order; empty where it has none.
        model: The trained model's name, without the provider; empty until it has succeeded.
        trained_tokens: The tokens that are paid for; None where the provider does not say.
        told: The provider's words: its own status, or why it failed.
    """

    id: str
    status: TrainingStatus
    mark: str = ""
    model: str = ""
    trained_tokens: int | None = None
    told: str = ""


@dataclass(frozen=True, slots=True)
class TrainingEvent:
    """A line of a training's log at the provider."""

    id: str
    text: str


@runtime_checkable
class TrainingWire(Protocol):
    """
    One provider's training interface as a pure value: no socket, no clock, no environment.

    Every ``read_…`` takes the status, the headers (names in lower case) and the body of an answer, and raises an
    ``LMError``: the typed error of a failure answer, or ResponseInvalid.
    """

    def upload(self, name: str, lines: Sequence[Mapping[str, object]]) -> TrainingCall:
        """Return the request that uploads training data under a name of a file."""
        ...

    def read_upload(self, status: int, headers: Mapping[str, str], body: bytes) -> str:
        """Return the id of the uploaded file."""
        ...

    def submit(self, order: TrainingOrder) -> TrainingCall:
        """Return the request that begins a training."""
        ...

    def look(self, job: str) -> TrainingCall:
        """Return the request for the state of a training."""
        ...

    def cancel(self, job: str) -> TrainingCall:
        """Return the request that stops a training."""
        ...

    def read_job(self, status: int, headers: Mapping[str, str], body: bytes) -> TrainingJob:
        """Return a training: the answer to ``submit``, ``look`` and ``cancel``."""
        ...

    def jobs(self, mark: str, after: str) -> TrainingCall:
        """Return the request for a page of trainings, the latest first, with that mark if the provider can tell."""
        ...

    def read_jobs(self, status: int, headers: Mapping[str, str], body: bytes) -> tuple[tuple[TrainingJob, ...], str]:
        """Return a page of trainings, and where the next begins; empty at the end."""
        ...

    def events(self, job: str) -> TrainingCall:
        """Return the request for the latest lines of a training's log."""
        ...

    def read_events(self, status: int, headers: Mapping[str, str], body: bytes) -> tuple[TrainingEvent, ...]:
        """Return lines of the log, the oldest first."""
        ...


class TrainingService(Protocol):
    """Where trainings are submitted. Each method raises an ``LMError`` for what the provider, or the network, did."""

    def record(self, lm: LMChoice) -> LM:
        """
        Return the record of a model that can be trained.

        Raises:
            ConfigError: It is a pool, answers by itself, or its provider trains none as far as dspex knows.
        """
        ...

    async def find(self, lm: LM, mark: str) -> TrainingJob | None:
        """Return the latest training with that mark, among the thousands that came last."""
        ...

    async def upload(self, lm: LM, name: str, lines: Sequence[Mapping[str, object]]) -> str:
        """Upload training data, and return the file's id."""
        ...

    async def submit(self, lm: LM, order: TrainingOrder) -> TrainingJob:
        """Begin a training. Raises and is cancelled at any point: it may have begun all the same."""
        ...

    async def look(self, lm: LM, job: str) -> TrainingJob:
        """Return the state of a training."""
        ...

    async def events(self, lm: LM, job: str) -> tuple[TrainingEvent, ...]:
        """Return the latest lines of a training's log, the oldest first."""
        ...

    async def cancel(self, lm: LM, job: str) -> TrainingJob:
        """Stop a training."""
        ...


class TrainingMoney(Protocol):
    """The ledger's interface for trainings."""

    async def set_aside(self, account: Account, lm: LM, estimate: Estimate, deadline: float) -> Reservation:
        """
        Set aside what a training may cost; the running process holds it until ``release``, or until it dies.

        Raises:
            BudgetExceeded: A budget does not allow it, or is in dollars and the price unknown.
        """
        ...

    def release(self, held: Reservation) -> None:
        """Release it."""
        ...

    def book(self, account: Account, lm: LM | LMPool, usage: Usage, attempts: int, *, paid: bool) -> Decimal | None:
        """Note what a provider counted, and return its price."""
        ...


@dataclass(frozen=True, slots=True)
class TrainingRoom:
    """Where models are trained, and who keeps the books."""

    service: TrainingService
    money: TrainingMoney
    account: Account
    """The account that pays where a job has none of its own."""
