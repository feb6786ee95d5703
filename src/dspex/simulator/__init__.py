"""A provider in a box: a server that speaks the providers' dialects, answers by rules, fails on request, and judges."""

from dspex.simulator._stats import SimulatorStats
from dspex.simulator.faults import Fault, FaultKind, FaultPlan, FaultPlanInvalid, Latency
from dspex.simulator.judge import Arrival, ConformanceReport, Finding, FindingKind, NotResilient, judge
from dspex.simulator.limits import Limits
from dspex.simulator.process import SimulatorProcess, SimulatorStartFailed
from dspex.simulator.server import Simulator
from dspex.simulator.thread import SimulatorThread
from dspex.simulator.training import TrainingPlan, TrainingRun

__all__ = [
    "Arrival",
    "ConformanceReport",
    "Fault",
    "FaultKind",
    "FaultPlan",
    "FaultPlanInvalid",
    "Finding",
    "FindingKind",
    "Latency",
    "Limits",
    "NotResilient",
    "Simulator",
    "SimulatorProcess",
    "SimulatorStartFailed",
    "SimulatorStats",
    "SimulatorThread",
    "TrainingPlan",
    "TrainingRun",
    "judge",
]
