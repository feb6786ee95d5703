"""Protocols and frozen records that rooms exchange: no I/O, no state."""
