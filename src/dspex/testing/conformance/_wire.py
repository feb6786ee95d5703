"""The contract of a wire: bytes that may be sent, whole answers or typed errors, however an answer was cut."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Final, NamedTuple

from dspex.errors import AuthFailed, LMError, RateLimited, RequestRejected, ServerFailed
from dspex.protocols.lm import Capabilities, LMDelta, LMRequest, LMResponse, Message
from dspex.protocols.model import LM, LMParams, Secret
from dspex.protocols.wire import Wire

__all__ = ["Recorded", "WireContract"]

_KEY: Final = "key-4711-not-to-be-told"
_JUNK: Final = (
    *(b"", b" ", b"null", b"true", b"[]", b"{}", b'""', b"0", b"NaN", b"\xff\xfe", b"<html>busy</html>"),
    *(b'{"a": 1}', b'{"error": null}', b'{"choices": 3}', b"[" * 100_000, b'{"a":' * 100_000, b"\x00" * 64),
)


class Recorded(NamedTuple):
    """An answer as the provider sends it; names of headers in lower case."""

    headers: Mapping[str, str]
    body: bytes


class WireContract(ABC):
    """
    The contract of every ``Wire``.

    A subclass makes the wire, and writes a short answer as the provider would: whole, and where it streams, as a
    stream.
    """

    text: str = "Grüße, one two three."
    """The text of the recorded answers."""
    model: str = "model-1"
    """The model's name, without the provider's."""

    @abstractmethod
    def make_wire(self) -> Wire:
        """Return the wire."""

    @abstractmethod
    def whole_answer(self) -> Recorded:
        """Return an answer that says ``text``, of status 200."""

    def streamed_answer(self) -> Recorded | None:
        """Return the same answer as a stream; None where the provider does not stream."""
        return None

    def failed_answer(self, status: int) -> Recorded:
        """Return a failure answer; one in another form than this belongs into the subclass."""
        return Recorded({"content-type": "application/json"}, b'{"error": {"message": "it did not work"}}')

    # --- what is sent ---------------------------------------------------------------------------------------

    def test_a_path_can_be_sent(self) -> None:
        """It begins with a slash and holds nothing that an address may not hold, whatever the model is called."""
        wire = self.make_wire()
        for model in (self.model, "org/model-1", "model:7b"):
            for stream in (False, True):
                path = wire.path(model, stream=stream)
                assert path.startswith("/"), f"the path {path!r} does not begin with a slash"
                assert path.isascii(), f"the path {path!r} is not ASCII"
                assert path.isprintable(), f"the path {path!r} holds characters that cannot be sent"
                assert " " not in path, f"the path {path!r} holds a space"

    def test_a_request_is_the_same_bytes_each_time(self) -> None:
        """The cache, cassettes and retries rely on it; and it holds the prompt and the model's own limits."""
        wire = self.make_wire()
        request = LMRequest((Message("system", "Be brief."), Message("user", "say-this-4711")), LMParams(max_tokens=77))
        for stream in (False, True):
            body = wire.encode(self.model, request, stream=stream)
            assert isinstance(body, bytes), f"the body is {type(body).__name__}, not bytes"
            assert body == wire.encode(self.model, request, stream=stream), "two bodies of one request differ"
            assert b"say-this-4711" in body, "the prompt is not in the body"
            assert b"Be brief." in body, "the system turn is not in the body"
            assert b"77" in body, "max_tokens=77 is not in the body"

    def test_a_request_that_cannot_be_written_is_rejected(self) -> None:
        """``RequestRejected``, and nothing else: it is the request's fault, and nothing was sent."""
        wire = self.make_wire()
        prompts = ["lone surrogate \ud800", "say this"]
        bodies: list[Mapping[str, object]] = [{}, {"own": object()}, {"own": float("nan")}, {"own": {1j: 2}}]
        for prompt in prompts:
            for extra in bodies:
                request = LMRequest((Message("user", prompt),), LMParams(extra_body=extra))
                try:
                    body = wire.encode(self.model, request)
                except RequestRejected:
                    continue
                assert isinstance(body, bytes), "the body is not bytes"
                assert not extra, f"extra_body={extra!r} was left out without a word"

    def test_headers_can_be_sent(self) -> None:
        """Names in lower case, values of printable ASCII; the call's key for idempotency is among them."""
        headers = self.make_wire().headers(Secret(_KEY), idempotency_key="call-4711", attempt=2)
        for name, value in headers.items():
            assert name == name.lower(), f"the header {name!r} is not in lower case"
            assert isinstance(value, str), f"the header {name!r} is not text"
            assert value.isascii(), f"the header {name!r} is not ASCII"
            assert value.isprintable(), f"the header {name!r} cannot be sent"
        assert any(_KEY in value for value in headers.values()), "no header has the key"
        assert "content-type" in headers, "no header tells the type of the body"
        assert any("call-4711" in value for value in headers.values()), "no header has the idempotency key"

    def test_a_key_that_cannot_be_sent_is_not_told(self) -> None:
        """``AuthFailed``, before anything is sent, and without the key in its words."""
        for key in (f"{_KEY}\r\nx-evil: 1", f"{_KEY}\n", f"{_KEY} Grüße"):
            try:
                self.make_wire().headers(Secret(key), idempotency_key="call", attempt=1)
            except AuthFailed as error:
                assert _KEY not in f"{error} {error!r}", "the error tells the key"  # noqa: PT017 - not only its type
            else:
                raise AssertionError("a key with a line break or a letter beyond ASCII was made a header")

    def test_without_a_key_there_is_no_header_of_one(self) -> None:
        """A server of one's own may want none."""
        with_key = self.make_wire().headers(Secret(_KEY), idempotency_key="call", attempt=1)
        without = self.make_wire().headers(None, idempotency_key="call", attempt=1)
        told = [name for name, value in with_key.items() if _KEY in value and name in without]
        assert not told, f"without a key, {told} are sent all the same"

    def test_capabilities_are_known_before_a_call(self) -> None:
        """Of a model that nobody has heard of, too."""
        known = self.make_wire().capabilities(LM("somebody/never-heard-of"))
        assert isinstance(known, Capabilities), f"capabilities() returned {type(known).__name__}"

    # --- what comes back ------------------------------------------------------------------------------------

    def test_a_whole_answer_is_read(self) -> None:
        """Its text, its end, and counts that are not negative."""
        answer = self._decoded(200, self.whole_answer())
        assert [each.text for each in answer.completions] == [self.text], "the text is another"
        assert answer.completions[0].finish_reason == "stop", "a whole answer ends with 'stop'"
        usage = answer.usage
        counts = (usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.reasoning_tokens)
        assert min(counts) >= 0, f"negative counts of tokens: {usage}"

    def test_an_answer_that_was_cut_is_never_an_answer(self) -> None:
        """At every byte: an ``LMError``, or the same answer where only an end without meaning is missing."""
        recorded = self.whole_answer()
        whole = self._decoded(200, recorded)
        for cut in range(len(recorded.body)):
            try:
                answer = self._decoded(200, Recorded(recorded.headers, recorded.body[:cut]))
            except LMError:
                continue
            assert answer == whole, f"cut at byte {cut}, it is read as another answer"

    def test_junk_is_a_typed_error(self) -> None:
        """Under any status: an ``LMError``, in bounded time."""
        for status in (200, 204, 301, 400, 401, 404, 429, 500, 503, 599):
            for junk in _JUNK:
                try:
                    self._decoded(status, Recorded({"content-type": "application/json"}, junk))
                except LMError:
                    continue
                raise AssertionError(f"status {status} with {junk[:30]!r} was read as an answer")

    def test_failures_say_what_they_mean(self) -> None:
        """The retry policy goes by the class of the error."""
        for status, kind in ((401, AuthFailed), (429, RateLimited), (500, ServerFailed), (503, ServerFailed)):
            error = self._error(status)
            assert isinstance(error, kind), f"status {status} is {type(error).__name__}, not {kind.__name__}"
            assert error.status == status, f"the error of status {status} says {error.status}"
        assert not self._error(400).is_retryable, "a request that is wrong would be sent again"
        for status in (429, 500, 503):
            assert self._error(status).is_retryable, f"status {status} would not be tried again"

    def test_headroom_of_headers_that_say_nothing_is_none(self) -> None:
        """And of junk it is not an exception."""
        wire = self.make_wire()
        assert wire.headroom({}, now=0.0) is None, "headroom was read from no headers"
        junk = ("", "-1", "nan", "inf", "9" * 400, "2026-13-45", "a b", "1e309", "²")
        known = ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests", "x-ratelimit-remaining-tokens")
        for value in junk:
            wire.headroom(dict.fromkeys(known, value), now=0.0)

    # --- streams --------------------------------------------------------------------------------------------

    def test_a_stream_is_the_same_answer_however_it_is_cut(self) -> None:
        """Byte by byte, in sevens, and whole; its pieces add up to the text."""
        recorded = self.streamed_answer()
        if recorded is None:
            return
        whole = self._decoded(200, self.whole_answer())
        answers = [self._streamed(recorded, step) for step in (1, 7, max(1, len(recorded.body)))]
        for deltas, answer in answers:
            assert answer.completions == whole.completions, "the streamed answer is not the whole one"
            assert "".join(each.text for each in deltas) == self.text, "the pieces do not add up to the text"

    def test_a_stream_that_was_cut_is_never_an_answer(self) -> None:
        """At every byte: an ``LMError``, or the same answer where only an end without meaning is missing."""
        recorded = self.streamed_answer()
        if recorded is None:
            return
        _, whole = self._streamed(recorded, len(recorded.body))
        for cut in range(len(recorded.body)):
            try:
                _, answer = self._streamed(Recorded(recorded.headers, recorded.body[:cut]), 64)
            except LMError:
                continue
            assert answer.completions == whole.completions, f"cut at byte {cut}, it is read as another answer"

    def test_junk_in_a_stream_is_a_typed_error(self) -> None:
        """Before the answer and in the middle of it."""
        recorded = self.streamed_answer()
        if recorded is None:
            return
        for junk in (*_JUNK, b"data: {\n\n", b"data: [1, 2]\n\n", b"data: " + b"[" * 100_000 + b"\n\n"):
            try:
                self._streamed(Recorded(recorded.headers, junk), 4_096)
            except LMError:
                continue
            raise AssertionError(f"a stream of {junk[:30]!r} was read as an answer")

    # --- helpers --------------------------------------------------------------------------------------------

    def _decoded(self, status: int, recorded: Recorded) -> LMResponse:
        return self.make_wire().decode(status, recorded.headers, recorded.body)

    def _error(self, status: int) -> LMError:
        try:
            self._decoded(status, self.failed_answer(status))
        except LMError as error:
            return error
        raise AssertionError(f"status {status} was read as an answer")

    def _streamed(self, recorded: Recorded, step: int) -> tuple[list[LMDelta], LMResponse]:
        decoder = self.make_wire().decoder(recorded.headers)
        deltas: list[LMDelta] = []
        for at in range(0, len(recorded.body), step):
            deltas += decoder.feed(recorded.body[at : at + step])
        return deltas, decoder.finish()
