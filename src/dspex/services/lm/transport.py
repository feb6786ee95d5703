"""The sockets beneath the language models: one POST, one whole answer, one connection each."""

from __future__ import annotations

import ssl
from typing import Literal

import httpx

from dspex._clock import Clock
from dspex.errors import MissingExtra
from dspex.services.lm._fast import FastTransport
from dspex.services.lm._http import HttpReply, Timeouts, Transport
from dspex.services.lm._slots import SlotTransport
from dspex.services.lm._users import HttpxTransport

__all__ = ["FastTransport", "HttpReply", "HttpxTransport", "SlotTransport", "Timeouts", "Transport", "open_transport"]


def open_transport(
    kind: Literal["auto", "slots", "fast"] = "auto",
    *,
    clock: Clock,
    timeouts: Timeouts | None = None,
    verify: ssl.SSLContext | bool = True,
    transport: httpx.AsyncBaseTransport | None = None,
) -> Transport:
    """
    Return a transport; no connection is opened yet.

    Args:
        kind: ``auto`` takes the fast one where its extra is installed.
        clock: The clock of the loop it will run on.
        timeouts: For posts that bring none of their own.
        verify: False accepts any certificate; a context decides for itself.
        transport: The user's own, used instead of ours and left open.

    Raises:
        MissingExtra: ``fast`` was asked for and is not installed.
    """
    if transport is not None:
        return HttpxTransport(transport, timeouts=timeouts)
    if kind != "slots":
        try:
            return FastTransport(timeouts=timeouts, verify=verify)
        except MissingExtra:
            if kind == "fast":
                raise
    return SlotTransport(clock=clock, timeouts=timeouts, verify=verify)
