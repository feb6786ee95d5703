"""Optimizers: algorithms that make a better program out of a program and examples, as jobs that survive kills."""

from dspex.optimizers._job_service import OPTIMIZERS, JobService
from dspex.optimizers._record import JobEvent, JobStatus
from dspex.optimizers.bootstrap import BootstrapFewShot
from dspex.optimizers.job import Job, JobEvents
from dspex.optimizers.labeled import LabeledFewShot
from dspex.optimizers.optimizer import Candidate, Evaluation, Optimizer, Study

__all__ = [
    "OPTIMIZERS",
    "BootstrapFewShot",
    "Candidate",
    "Evaluation",
    "Job",
    "JobEvent",
    "JobEvents",
    "JobService",
    "JobStatus",
    "LabeledFewShot",
    "Optimizer",
    "Study",
]
