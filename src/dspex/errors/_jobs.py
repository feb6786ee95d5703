"""Errors that stop an evaluation or an optimizer."""

from __future__ import annotations

from collections.abc import Sequence

from dspex.errors._base import DspexError

__all__ = [
    "EvaluationError",
    "JobBusy",
    "JobCancelled",
    "JobMismatch",
    "MetricFailed",
    "NoCandidate",
    "OptimizationError",
    "TrainingFailed",
]


class EvaluationError(DspexError):
    """Too many rows failed for a score to mean anything; ``partial`` is the report without one."""

    def __init__(self, message: str, partial: object = None) -> None:
        self.partial = partial
        super().__init__(message)


class MetricFailed(EvaluationError):
    """The metric raised, or returned something that is not a number; the cause is kept."""

    def __init__(self, example_id: str, problem: str) -> None:
        self.example_id = example_id
        super().__init__(f"the metric failed on {example_id}: {problem}")


class OptimizationError(DspexError):
    """An optimizer could not go on."""


class NoCandidate(OptimizationError):
    """No candidate program could be built or scored."""


class TrainingFailed(NoCandidate):
    """A provider took a training and could not finish it, or somebody stopped it there; the message has its words."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(f"{problem}; the same job will say the same: name another one to train again")


class JobCancelled(OptimizationError):
    """The job was cancelled before it had a result."""

    def __init__(self, job: str) -> None:
        self.job = job
        super().__init__(f"job {job} was cancelled; compile the same job again to continue it")


class JobMismatch(OptimizationError):
    """
    A job, or a journal, of this name exists for other inputs.

    Attributes:
        job: Its name.
        changed: The parts that differ, such as ``lm`` or ``source rag:RAG``.
        differences: A clause about each: how it was, and how it is now.
    """

    def __init__(self, job: str, changed: Sequence[str], advice: str = "", differences: Sequence[str] = ()) -> None:
        self.job = job
        self.changed = tuple(changed)
        self.differences = tuple(differences) or self.changed
        told = (
            f"was started with other inputs (changed: {'; '.join(self.differences)}); use another name, or where the "
            f"recorded answers hold all the same: accept_changed={list(self.changed)}"
        )
        super().__init__(f"job {job} {advice or told}")


class JobBusy(OptimizationError):
    """Another process is running this job; ``pid`` is its operating-system id."""

    def __init__(self, job: str, pid: int) -> None:
        self.job = job
        self.pid = pid
        super().__init__(f"job {job} is being run by process {pid}")
