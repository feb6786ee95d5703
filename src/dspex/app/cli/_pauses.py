"""Words on standard error while rows wait for a provider that is down, or silent."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from typing import Final

from dspex.app._app import App

__all__ = ["tell_pauses"]

_SILENT_FOR: Final = 20.0
"""Seconds without any answer after which the first question's server is named."""


def tell_pauses(app: App, *, silent_for: float = _SILENT_FOR) -> None:
    """
    Say when rows of the App begin to wait for their provider, and why; when they go on; and when nothing answers.

    A command that is silent for minutes looks as if it hung.
    """
    begin = "\r" if sys.stderr.isatty() else ""
    is_paused = False
    first: asyncio.TimerHandle | None = None
    has_ended = False

    def tell(name: str, _numbers: Mapping[str, float], facts: Mapping[str, object]) -> None:
        nonlocal is_paused
        if name == "dspex.rows.go":
            if is_paused:
                _say(f"{begin}dspex: the provider answers again\n")
            is_paused = False
        elif not is_paused:
            is_paused = True
            why = " ".join(str(facts["error"]).split())
            _say(f"{begin}dspex: waiting for the provider (Ctrl-C ends it, nothing is lost): {why}\n")

    def watch(name: str, _numbers: Mapping[str, float], facts: Mapping[str, object]) -> None:
        nonlocal first, has_ended
        if has_ended:
            return
        if not name.endswith(".start"):  # an answer has begun, or an attempt has failed, which is told elsewhere
            has_ended = True
            if first is not None:
                first.cancel()
        elif first is None and facts.get("server"):
            words = f"{begin}dspex: {facts['server']} has not answered a question for {silent_for:g} s\n"
            first = asyncio.get_running_loop().call_later(silent_for, _say, words)

    app.telemetry.attach("dspex.rows.", tell)
    app.telemetry.attach("dspex.lm.attempt.", watch)
    app.telemetry.attach("dspex.lm.first_token", watch)


def _say(words: str) -> None:
    sys.stderr.write(words)
    sys.stderr.flush()
