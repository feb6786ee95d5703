"""Why a process ended: runtime data, never an exception type."""

from __future__ import annotations

from dataclasses import dataclass

from dspex._guard import class_name, text_of

__all__ = [
    "KILL",
    "KILLED",
    "NORMAL",
    "NO_PROCESS",
    "SHUTDOWN",
    "Crashed",
    "ExitReason",
    "Kill",
    "Killed",
    "NoProcess",
    "Normal",
    "Other",
    "Shutdown",
    "as_reason",
    "is_abnormal",
]


class ExitReason:
    """Base of all exit reasons; compare with ``==`` or ``match`` on the subclass."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Normal(ExitReason):
    """The process had done its work."""

    def __str__(self) -> str:
        return "normal"


@dataclass(frozen=True, slots=True)
class Shutdown(ExitReason):
    """The process was asked to end; ``detail`` is what the asker had to say about it."""

    detail: object = None

    def __str__(self) -> str:
        return "shutdown" if self.detail is None else f"shutdown ({text_of(self.detail)})"


@dataclass(frozen=True, slots=True)
class Kill(ExitReason):
    """The untrappable exit signal; who receives it dies ``Killed``."""

    def __str__(self) -> str:
        return "kill"


@dataclass(frozen=True, slots=True)
class Killed(ExitReason):
    """The process was killed, without a chance to clean up."""

    def __str__(self) -> str:
        return "killed"


@dataclass(frozen=True, slots=True)
class NoProcess(ExitReason):
    """There was no such process when it was monitored or linked."""

    def __str__(self) -> str:
        return "no such process"


@dataclass(frozen=True, slots=True)
class Crashed(ExitReason):
    """The process's code raised; the traceback is on ``error``."""

    error: BaseException

    def __str__(self) -> str:
        return f"crashed: {class_name(self.error)}: {text_of(self.error)}"


@dataclass(frozen=True, slots=True)
class Other(ExitReason):
    """Any reason of the users' own; counts as abnormal."""

    value: object

    def __str__(self) -> str:
        return text_of(self.value)


NORMAL = Normal()
SHUTDOWN = Shutdown()
KILL = Kill()
KILLED = Killed()
NO_PROCESS = NoProcess()


def as_reason(reason: object) -> ExitReason:
    """Return ``reason``; some other object is wrapped in ``Other``, so that a death needs to know nothing of it."""
    return reason if issubclass(type(reason), ExitReason) else Other(reason)  # type: ignore[return-value]  # just asked


def is_abnormal(reason: ExitReason) -> bool:
    """Say whether a transient child with this reason is restarted: all but normal and shutdown are."""
    return not isinstance(reason, (Normal, Shutdown))
