"""Optimizers: algorithms that make a better program out of a program and examples, as jobs that survive kills."""

from dspex.optimizers._job_service import OPTIMIZERS, JobService, JobSettings
from dspex.optimizers._record import JobEvent
from dspex.optimizers.bootstrap import BootstrapFewShot
from dspex.optimizers.bootstrap_finetune import BootstrapFinetune
from dspex.optimizers.candidate import Candidate
from dspex.optimizers.copro import COPRO
from dspex.optimizers.ensemble_of import EnsembleOf
from dspex.optimizers.feedback_descent import FeedbackDescent
from dspex.optimizers.gepa import GEPA
from dspex.optimizers.headroom import HeadroomReport, Variant
from dspex.optimizers.infer_rules import InferRules
from dspex.optimizers.job import Job, JobEvents
from dspex.optimizers.jobs import JobStatus
from dspex.optimizers.labeled import LabeledFewShot
from dspex.optimizers.miprov2 import MIPROv2
from dspex.optimizers.plans import (
    DONE,
    WAIT,
    Algorithm,
    Embed,
    Embedded,
    Evaluation,
    Found,
    Plan,
    Run,
    Search,
    Signal,
    Steer,
    Task,
    Train,
    Trained,
    Write,
    Written,
)
from dspex.optimizers.playbook import Playbook
from dspex.optimizers.race import Raced, Tally, cheapest, race
from dspex.optimizers.random_search import BootstrapFewShotWithRandomSearch
from dspex.optimizers.simba import SIMBA
from dspex.optimizers.together import BetterTogether
from dspex.optimizers.training_data import TrainingFormat, save_training_data, training_data
from dspex.optimizers.verdict import Better, NoHeadroom, NotShownBetter, Unmeasured, Verdict, Worse
from dspex.programs import NearestDemos

__all__ = [
    "COPRO",
    "DONE",
    "GEPA",
    "OPTIMIZERS",
    "SIMBA",
    "WAIT",
    "Algorithm",
    "Better",
    "BetterTogether",
    "BootstrapFewShot",
    "BootstrapFewShotWithRandomSearch",
    "BootstrapFinetune",
    "Candidate",
    "Embed",
    "Embedded",
    "EnsembleOf",
    "Evaluation",
    "FeedbackDescent",
    "Found",
    "HeadroomReport",
    "InferRules",
    "Job",
    "JobEvent",
    "JobEvents",
    "JobService",
    "JobSettings",
    "JobStatus",
    "LabeledFewShot",
    "MIPROv2",
    "NearestDemos",
    "NoHeadroom",
    "NotShownBetter",
    "Plan",
    "Playbook",
    "Raced",
    "Run",
    "Search",
    "Signal",
    "Steer",
    "Tally",
    "Task",
    "Train",
    "Trained",
    "TrainingFormat",
    "Unmeasured",
    "Variant",
    "Verdict",
    "Worse",
    "Write",
    "Written",
    "cheapest",
    "race",
    "save_training_data",
    "training_data",
]
