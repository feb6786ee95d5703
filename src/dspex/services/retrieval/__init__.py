"""Indexes that answer searches."""
