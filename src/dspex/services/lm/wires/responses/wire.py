"""OpenAI's Responses protocol; nothing is kept on the server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from dspex.errors import LMError, StreamTruncated
from dspex.protocols.lm import LMDelta, LMRequest, LMResponse
from dspex.protocols.model import Secret
from dspex.protocols.wire import Headroom
from dspex.services.lm.wires._capabilities import TabledWire
from dspex.services.lm.wires._error_table import ErrorBody
from dspex.services.lm.wires._errors import (
    billed,
    document_of,
    error_body,
    failure,
    inner_status,
    openai_failure,
)
from dspex.services.lm.wires._event_reader import EventReader
from dspex.services.lm.wires._headers import bearer, openai_headroom
from dspex.services.lm.wires._json import parse, shown, string, to_json
from dspex.services.lm.wires._sse import ServerSentEvent
from dspex.services.lm.wires.responses.answer import invalid, read_response, usage_of
from dspex.services.lm.wires.responses.request import response_fields

__all__ = ["OpenAIResponses", "ResponsesStream"]


@dataclass(frozen=True, slots=True)
class OpenAIResponses(TabledWire):
    """
    The wire of ``POST {base}/responses``.

    Requests that the protocol has no words for are rejected before anything is sent: several answers to one request,
    stop sequences, sound. It has no seed either; since a seed only tells rollouts of one prompt apart, it is left out.
    """

    def path(self, model_name: str, *, stream: bool) -> str:
        """Return what follows the base URL; the model is named in the body."""
        return "/responses"

    def encode(self, model_name: str, request: LMRequest, *, stream: bool = False) -> bytes:
        """
        Return the compact JSON body; only parameters that were set are sent.

        Raises:
            RequestRejected: Something cannot be written as JSON, or the protocol does not support it; nothing was
                sent.
        """
        fields = response_fields(model_name, request)
        if stream:
            fields["stream"] = True
        return to_json(fields)

    def headers(self, key: Secret | None, *, idempotency_key: str, attempt: int) -> dict[str, str]:
        """
        Return the request headers of one attempt; without a key there is no ``authorization``.

        Raises:
            AuthFailed: The key holds characters that no header may hold; the message does not show it.
        """
        return bearer(key, idempotency_key=idempotency_key, attempt=attempt)

    def decode(self, status: int, headers: Mapping[str, str], body: bytes) -> LMResponse:
        """
        Return the answer of a success status; unknown fields and items are ignored.

        Raises:
            LMError: The meaning of a failure answer, or of a response that failed, by the table of ``wires._errors``.
            ResponseInvalid: A success status with a body that is not a response.
            ContentRefused: The model or a filter withheld the answer, or cut it off.
        """
        success = 200 <= status < 300
        document = document_of(status, headers, body, invalid)
        if success:
            if not isinstance(document, dict):
                raise invalid(f"a JSON {type(document).__name__} instead of an object", headers, status)
            if "output" in document or document.get("status") == "failed":
                return read_response(document, status, headers)
            if not isinstance(document.get("error"), (dict, str)):
                raise billed(invalid(f"no output: {shown(body)}", headers, status), usage_of(document.get("usage")))
            status = inner_status(document, status)
        raise openai_failure(status, headers, document, body)

    def decoder(self, headers: Mapping[str, str]) -> ResponsesStream:
        """Return the reader of one streamed answer."""
        return ResponsesStream(headers)

    def headroom(self, headers: Mapping[str, str], *, now: float) -> Headroom | None:
        """Return what the ``x-ratelimit-…`` headers say."""
        return openai_headroom(headers)


_TERMINAL: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})
_THOUGHTS: Final = frozenset({"response.reasoning_summary_text.delta", "response.reasoning_text.delta"})


class ResponsesStream(EventReader):
    """Reads the events of a streamed response; the one that holds the whole response ends it."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__(headers)
        self._response: dict[str, object] | None = None  # the provider's own JSON
        self._items: dict[int, dict[str, object]] = {}  # finished ones, for servers whose last event has none
        self._calls: dict[int, int] = {}  # output index to the call's place among the calls
        self._told: set[int] = set()  # calls whose arguments have come piece by piece
        self._thought: dict[int, tuple[str, object]] = {}  # which part of an item's thoughts came last

    def _read(self, event: ServerSentEvent, deltas: list[LMDelta]) -> None:
        name, text = event
        if self._response is not None or text == "[DONE]":
            return
        try:
            document = parse(text)
        except ValueError as error:
            raise self._invalid(f"an event is not JSON: {shown(text.encode())}") from error
        self._take(name, document, deltas)

    def _invalid(self, problem: str) -> LMError:
        return invalid(problem, self._headers)

    def finish(self) -> LMResponse:
        """Return the whole answer; raises ``StreamTruncated`` without a last event, else as unstreamed decoding."""
        if self._response is None:
            self._take_rest()
        if self._response is None:
            problem = "the stream ended without an event that says so (response.completed, .incomplete or .failed)"
            raise StreamTruncated(problem, request_id=self._headers.get("x-request-id"))
        document = self._response
        if not document.get("output") and self._items:
            document = {**document, "output": [self._items[place] for place in sorted(self._items)]}
        return read_response(document, 200, self._headers)

    def _take_rest(self) -> None:
        """Read an event whose empty line never came; one that was cut short says nothing."""
        for name, text in self._rest():
            try:
                event = parse(text)
            except ValueError:
                return
            self._take(name, event, [])

    def _take(self, name: str, event: object, deltas: list[LMDelta]) -> None:
        if not isinstance(event, dict):
            raise self._invalid(f"an event is a JSON {type(event).__name__}")
        kind = string(event, "type") or name
        index = event.get("output_index")
        index = index if type(index) is int else 0
        if kind == "response.output_text.delta":
            if text := string(event, "delta"):
                deltas.append(LMDelta(text=text))
        elif kind in _THOUGHTS:
            self._take_thought(kind, index, event, deltas)
        elif kind == "response.function_call_arguments.delta":
            if arguments := string(event, "delta"):
                self._told.add(index)
                deltas.append(LMDelta(tool=self._place(index), arguments=arguments))
        elif kind == "response.output_item.added":
            item = event.get("item")
            if isinstance(item, dict) and item.get("type") == "function_call":
                self._begin_call(index, item, deltas)
        elif kind == "response.output_item.done":
            item = event.get("item")
            if isinstance(item, dict):
                self._items[index] = item
                if item.get("type") == "function_call":
                    self._end_call(index, item, deltas)
        elif kind in _TERMINAL:
            response = event.get("response")
            if not isinstance(response, dict):
                raise self._invalid(f"the event {kind} holds no response")
            self._response = {"status": kind.removeprefix("response."), **response}
        elif kind == "error" or (not kind and "error" in event):
            raise self._failure(event)

    def _place(self, index: int) -> int:
        return self._calls.setdefault(index, len(self._calls))

    def _begin_call(self, index: int, item: Mapping[str, object], deltas: list[LMDelta]) -> None:
        arguments = string(item, "arguments")
        if arguments:
            self._told.add(index)
        deltas.append(LMDelta(tool=self._place(index), tool_name=string(item, "name"), arguments=arguments))

    def _end_call(self, index: int, item: Mapping[str, object], deltas: list[LMDelta]) -> None:
        """Hand on what a server told only at the end."""
        name = "" if index in self._calls else string(item, "name")
        arguments = "" if index in self._told else string(item, "arguments")
        if name or arguments:
            self._told.add(index)
            deltas.append(LMDelta(tool=self._place(index), tool_name=name, arguments=arguments))

    def _take_thought(self, kind: str, index: int, event: Mapping[str, object], deltas: list[LMDelta]) -> None:
        text = string(event, "delta")
        if not text:
            return
        part = (kind, event.get("summary_index", event.get("content_index")))
        before = self._thought.get(index, part)
        self._thought[index] = part
        deltas.append(LMDelta(reasoning=text if before == part else f"\n\n{text}"))

    def _failure(self, event: Mapping[str, object]) -> Exception:
        found = event if isinstance(event.get("error"), (dict, str)) else {"error": event}
        body = error_body(found) or ErrorBody()
        if body.type == "error":  # the event's own type, not the error's
            body = ErrorBody(body.message, body.code)
        return failure(
            inner_status(found, 200),
            self._headers,
            body,
            request_id=self._headers.get("x-request-id"),
            in_stream=True,
        )
