"""Seeing an App run: one presenter of snapshots, the JSON API and the page that read them."""

from dspex.app.dashboard.options import Dashboard

__all__ = ["Dashboard"]
