"""A provider in a box: a server that speaks the providers' wires, answers by rules and fails on request."""

from dspex.simulator._stats import SimulatorStats
from dspex.simulator.faults import Fault, FaultKind, FaultPlan, FaultPlanInvalid, Latency
from dspex.simulator.process import SimulatorProcess, SimulatorStartFailed
from dspex.simulator.server import Simulator

__all__ = [
    "Fault",
    "FaultKind",
    "FaultPlan",
    "FaultPlanInvalid",
    "Latency",
    "Simulator",
    "SimulatorProcess",
    "SimulatorStartFailed",
    "SimulatorStats",
]
