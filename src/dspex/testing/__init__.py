"""
What tests of programs and actors need.

A model, an index and a scope that play a script; time that stands still; faults at numbered points; who ended and
why; nothing left behind.
``dspex.testing.strategies`` has what needs hypothesis.
"""

from dspex.testing._cassette import Cassette, cassette
from dspex.testing._exit_recorder import Began, Exited, ExitRecorder, GaveUp, Restarted, StartRefused
from dspex.testing._fault_points import AppliedFaults, applied
from dspex.testing._faults import Action, Delay, Fault, FaultPlan, FaultPoint, KillProcess, PointKind, Raise
from dspex.testing._fixed_retriever import FixedRetriever
from dspex.testing._leaks import assert_no_leaks
from dspex.testing._scripted_lm import BrokenOff, ScriptedAnswer, ScriptedLM, ScriptedRequest
from dspex.testing._virtual_clock import VirtualClock
from dspex.testing.scripted import ScriptedScope

__all__ = [
    "Action",
    "AppliedFaults",
    "Began",
    "BrokenOff",
    "Cassette",
    "Delay",
    "ExitRecorder",
    "Exited",
    "Fault",
    "FaultPlan",
    "FaultPoint",
    "FixedRetriever",
    "GaveUp",
    "KillProcess",
    "PointKind",
    "Raise",
    "Restarted",
    "ScriptedAnswer",
    "ScriptedLM",
    "ScriptedRequest",
    "ScriptedScope",
    "StartRefused",
    "VirtualClock",
    "applied",
    "assert_no_leaks",
    "cassette",
]
