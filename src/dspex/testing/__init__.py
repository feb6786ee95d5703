"""
Tools for tests of programs and actors.

A model, an index and a scope that play a script; time that stands still; faults at numbered points; who ended and
why; nothing left behind.
``dspex.testing.strategies`` has what needs hypothesis.

Tools are imported when they are first used: tests of actors load the runtime alone.
"""

from typing import TYPE_CHECKING

from dspex._names import lazy

if TYPE_CHECKING:
    from dspex.testing._cassette import Cassette as Cassette
    from dspex.testing._cassette import cassette as cassette
    from dspex.testing._exit_recorder import Began as Began
    from dspex.testing._exit_recorder import Exited as Exited
    from dspex.testing._exit_recorder import ExitRecorder as ExitRecorder
    from dspex.testing._exit_recorder import GaveUp as GaveUp
    from dspex.testing._exit_recorder import Restarted as Restarted
    from dspex.testing._exit_recorder import StartRefused as StartRefused
    from dspex.testing._fault_points import AppliedFaults as AppliedFaults
    from dspex.testing._fault_points import applied as applied
    from dspex.testing._faults import Action as Action
    from dspex.testing._faults import Delay as Delay
    from dspex.testing._faults import Fault as Fault
    from dspex.testing._faults import FaultPlan as FaultPlan
    from dspex.testing._faults import FaultPoint as FaultPoint
    from dspex.testing._faults import KillProcess as KillProcess
    from dspex.testing._faults import PointKind as PointKind
    from dspex.testing._faults import Raise as Raise
    from dspex.testing._fixed_retriever import FixedRetriever as FixedRetriever
    from dspex.testing._leaks import assert_no_leaks as assert_no_leaks
    from dspex.testing._scripted_lm import BrokenOff as BrokenOff
    from dspex.testing._scripted_lm import ScriptedAnswer as ScriptedAnswer
    from dspex.testing._scripted_lm import ScriptedLM as ScriptedLM
    from dspex.testing._scripted_lm import ScriptedRequest as ScriptedRequest
    from dspex.testing._virtual_clock import VirtualClock as VirtualClock
    from dspex.testing.scripted import ScriptedScope as ScriptedScope

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

if not TYPE_CHECKING:  # or a checker would take every name for one of ours
    __getattr__, __dir__ = lazy(__name__, globals())
