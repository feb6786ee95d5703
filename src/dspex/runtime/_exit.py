"""Why a process ended: runtime data, never an exception type."""

from __future__ import annotations

from dataclasses import dataclass

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
        return "shutdown" if self.detail is None else f"shutdown ({self.detail})"


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
        try:
            message = str(self.error)
        except Exception:  # noqa: BLE001 - an exception that cannot be shown must still be reported
            message = "<message that cannot be shown>"
        return f"crashed: {type(self.error).__name__}: {message}"


@dataclass(frozen=True, slots=True)
class Other(ExitReason):
    """Any reason of the users' own; counts as abnormal."""

    value: object

    def __str__(self) -> str:
        return str(self.value)


NORMAL = Normal()
SHUTDOWN = Shutdown()
KILL = Kill()
KILLED = Killed()
NO_PROCESS = NoProcess()


def is_abnormal(reason: ExitReason) -> bool:
    """Say whether a transient child with this reason is restarted: all but normal and shutdown are."""
    return not isinstance(reason, (Normal, Shutdown))
