"""What tests of programs and actors need: a scope that plays a script, and time that stands still."""

from dspex.testing._virtual_clock import VirtualClock
from dspex.testing.scripted import ScriptedScope

__all__ = ["ScriptedScope", "VirtualClock"]
