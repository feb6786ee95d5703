"""Words on standard error while rows wait for a provider that is down."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from dspex.app._app import App

__all__ = ["tell_pauses"]


def tell_pauses(app: App) -> None:
    """
    Say when rows of the App begin to wait for their provider, and why; and when they go on.

    A command that is silent for minutes looks as if it hung.
    """
    begin = "\r" if sys.stderr.isatty() else ""
    is_paused = False

    def tell(name: str, _numbers: Mapping[str, float], facts: Mapping[str, object]) -> None:
        nonlocal is_paused
        if name == "dspex.rows.go":
            if is_paused:
                sys.stderr.write(f"{begin}dspex: the provider answers again\n")
            is_paused = False
        elif not is_paused:
            is_paused = True
            why = " ".join(str(facts["error"]).split())
            sys.stderr.write(f"{begin}dspex: waiting for the provider (Ctrl-C ends it, nothing is lost): {why}\n")
        sys.stderr.flush()

    app.telemetry.attach("dspex.rows.", tell)
