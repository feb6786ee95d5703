"""Running one program on one input, with the outcome as a value: what evaluation and optimizers are built on."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, Protocol

from typing_extensions import TypeVar

from dspex.protocols.cache import CacheMode
from dspex.protocols.model import LMChoice
from dspex.protocols.money import Account, Budget, DryRun
from dspex.protocols.scope import DeltaSink, RequestTotals, TraceStep

__all__ = ["Executor", "Failed", "Ok", "Outcome", "RunOptions"]

R = TypeVar("R", default=Any)
"""The return type of a program; ``Ok`` alone is that of any."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Options of a run: the App's ``options(…)``. ``deadline`` is seconds from the start."""

    deadline: float = 120.0
    lm: LMChoice = None
    adapter: Any = None  # an Adapter: programs define it, and this room does not know them
    """The adapter of predictors that name none; None for ``auto``."""
    cache: CacheMode = "use"
    priority: int = 0
    """Lower numbers go first when requests wait for a place: 0 interactive, 10 optimizer."""
    budget: Budget | None = None
    """The most that what is started may spend: one request, a job, or all rows of a map or an evaluation."""
    paying_account: Account | None = None
    """The account above the request's; the App sets it for jobs, maps and evaluations."""
    deps: object = None
    """The value for tools that ask for it by a parameter annotated ``dspex.Run[…]``."""
    on_interrupt: Literal["raise", "reset"] = "raise"
    """The action when a streamed answer breaks off: StreamInterrupted, or the call starts again after a Reset."""
    stream: DeltaSink | None = None
    """Where pieces of answers go; ``app.stream`` sets it."""
    learn_forms: bool = True
    """True when predictors of ``adapter="auto"`` go by what their model showed; jobs and evaluations never do."""
    trace: bool = False
    """True when ``Ok.trace`` is wanted."""
    dry: DryRun | None = None
    """Where calls are counted instead of made; ``app.estimate`` sets it, and what is started inside inherits it."""
    context: Context | None = field(default=None, repr=False, compare=False)
    """The caller's context variables, which each row of a map, an evaluation or a job sees; the App sets it."""


@dataclass(frozen=True, slots=True)
class Ok(Generic[R]):
    """
    A row that ended in a value.

    Attributes:
        value: The return value of ``forward``.
        row: The row it was run on, by field name.
        trace: The predictors' calls, where they were wanted.
        totals: The usage of the row's request.
    """

    value: R
    row: Mapping[str, object] = field(default_factory=dict)
    trace: tuple[TraceStep, ...] = ()
    totals: RequestTotals | None = None
    recorded: bool = False
    """True when it was read from a journal: an earlier run had it."""


@dataclass(frozen=True, slots=True)
class Failed:
    """
    A row that ended in an error; never a score, never an empty value.

    Attributes:
        reason: The exception.
        row: The row it was run on, by field name.
        totals: The usage of the row's request, where one was started.
    """

    reason: Exception
    row: Mapping[str, object] = field(default_factory=dict)
    totals: RequestTotals | None = None
    recorded: bool = False
    """True when it was read from a journal: an earlier run had it."""


Outcome = Ok | Failed


class Executor(Protocol):
    """Where programs run."""

    async def run(self, program: object, inputs: Mapping[str, object], options: RunOptions) -> Outcome:
        """
        Run ``program.forward(**inputs)`` as its own request.

        Never raises for what the program or its services did: that is ``Failed``.
        Cancellation: the request is stopped before the cancellation travels on.
        """
        ...
