"""Answers kept: memory, disk, and one flight for many askers."""
