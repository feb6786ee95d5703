"""What tests of programs and actors need: time that stands still."""

from dspex.testing._virtual_clock import VirtualClock

__all__ = ["VirtualClock"]
