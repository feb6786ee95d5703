"""Requests: programs running as processes of their own, and the steps they take."""

from dspex.requests._admission import Admission
from dspex.requests._record import RequestRecord, StepNote
from dspex.requests._request import Request
from dspex.requests._runner import REQUESTS, LiveRequest, RequestRunner, Services
from dspex.requests._steps import StepPolicy
from dspex.requests._stream import ProgramStream
from dspex.requests._threads import ToolThreads

__all__ = [
    "REQUESTS",
    "Admission",
    "LiveRequest",
    "ProgramStream",
    "Request",
    "RequestRecord",
    "RequestRunner",
    "Services",
    "StepNote",
    "StepPolicy",
    "ToolThreads",
]
