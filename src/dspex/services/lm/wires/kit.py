"""Parts for a wire of one's own: what every request carries, how errors are told, and how streams are read."""

from dspex.services.lm.wires._error_table import ErrorBody
from dspex.services.lm.wires._errors import failure
from dspex.services.lm.wires._headers import bearer, checked_key, openai_headroom, request_headers
from dspex.services.lm.wires._sse import EventParser, ServerSentEvent

__all__ = [
    "ErrorBody",
    "EventParser",
    "ServerSentEvent",
    "bearer",
    "checked_key",
    "failure",
    "openai_headroom",
    "request_headers",
]
