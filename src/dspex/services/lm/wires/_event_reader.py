"""The half of a stream's decoder that does not depend on the provider."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

from dspex.errors import LMError
from dspex.protocols.lm import LMDelta
from dspex.services.lm.wires._sse import EventParser, ServerSentEvent

__all__ = ["EventReader"]


class EventReader(ABC):
    """
    Reads one streamed answer, event by event; the subclass knows what they say, and ``finish`` what they add up to.

    Args:
        headers: The answer's, names in lower case.
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = headers
        self._events = EventParser()

    def feed(self, data: bytes) -> list[LMDelta]:
        """Take the next bytes and return the pieces that became whole, as ``StreamDecoder.feed``."""
        deltas: list[LMDelta] = []
        for event in self._whole(lambda: self._events.feed(data)):
            self._read(event, deltas)
        return deltas

    def _rest(self) -> list[ServerSentEvent]:
        """Return the event whose empty line never came, if there is one."""
        return self._whole(self._events.finish)

    def _whole(self, read: Callable[[], list[ServerSentEvent]]) -> list[ServerSentEvent]:
        try:
            return read()
        except UnicodeDecodeError as error:
            raise self._invalid("its bytes are not UTF-8") from error

    @abstractmethod
    def _invalid(self, problem: str) -> LMError:
        """Return the error for bytes that are not a stream of this protocol."""

    @abstractmethod
    def _read(self, event: ServerSentEvent, deltas: list[LMDelta]) -> None:
        """Take one event, adding its pieces; raises an ``LMError`` for one that is an error or cannot be read."""
