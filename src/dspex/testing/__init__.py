"""
Tools for tests of programs and actors.

A model, an index and a scope that play a script; time that stands still; faults at numbered points; who ended and
why; nothing left behind.
``dspex.testing.strategies`` has what needs hypothesis.

Tools for tests of programs are imported when they are first used: tests of actors load the runtime alone.
"""

import importlib
from typing import TYPE_CHECKING, Any

from dspex.testing._exit_recorder import Began, Exited, ExitRecorder, GaveUp, Restarted, StartRefused
from dspex.testing._fault_points import AppliedFaults, applied
from dspex.testing._faults import Action, Delay, Fault, FaultPlan, FaultPoint, KillProcess, PointKind, Raise
from dspex.testing._leaks import assert_no_leaks
from dspex.testing._virtual_clock import VirtualClock

if TYPE_CHECKING:
    from dspex.testing._cassette import Cassette, cassette
    from dspex.testing._fixed_retriever import FixedRetriever
    from dspex.testing._scripted_lm import BrokenOff, ScriptedAnswer, ScriptedLM, ScriptedRequest
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

_WHEN_USED = {
    "_cassette": ("Cassette", "cassette"),
    "_fixed_retriever": ("FixedRetriever",),
    "_scripted_lm": ("BrokenOff", "ScriptedAnswer", "ScriptedLM", "ScriptedRequest"),
    "scripted": ("ScriptedScope",),
}
_MODULE_OF = {name: module for module, names in _WHEN_USED.items() for name in names}


if not TYPE_CHECKING:  # or a checker would take every name for one of ours

    def __getattr__(name: str) -> Any:  # any of the names above
        module = _MODULE_OF.get(name)
        if module is None:
            raise AttributeError(f"module 'dspex.testing' has no attribute {name!r}")
        value = globals()[name] = getattr(importlib.import_module(f"dspex.testing.{module}"), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
