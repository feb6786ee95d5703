"""Answers of real providers, recorded once and played ever after: a transport beneath the whole App."""

from __future__ import annotations

import base64
import codecs
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import httpx

from dspex._files import FileLock, json_text, parse_json, write_private
from dspex.errors import CassetteMiss, ConfigError, FileError
from dspex.protocols.headers import is_credential
from dspex.protocols.json_values import JsonDict
from dspex.services.lm.redact import Redactor

__all__ = ["Cassette", "cassette"]

_VERSION: Final = 1
_KEPT_HEADERS: Final = ("content-type", "request-id", "x-request-id")
"""Of an answer. Limits and waits are left out: they were about that day. No header of a request is kept."""
_PLAIN: Final = frozenset(
    (
        *("accept", "accept-encoding", "anthropic-version", "connection", "content-length", "content-type", "host"),
        *("idempotency-key", "user-agent", "x-attempt", "x-client-request-id"),
    )
)
"""Headers that every request carries; any other may hold a secret."""
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_PASSING: Final = frozenset({401, 402, 403, 408, 409, 425, 429})
"""Refusals that say nothing of the request: they are handed on and not recorded, as are all from 500 on."""
_ENCODING: Final = frozenset({"content-encoding", "content-length", "transfer-encoding"})
"""Headers of a body as it travelled."""

Entry = JsonDict  # a line of the file


def cassette(path: str | Path, *, strict: bool = False, through: httpx.AsyncBaseTransport | None = None) -> Cassette:
    """
    Return a transport that records with a key and plays without: ``App("openai/…", transport=cassette("rag.jsonl"))``.

    A request that is in the file is answered from it, and nothing is sent. Another one is sent and recorded when it
    carries a key. Requests are known by their address and their body, whatever the order of its members; the same
    request again has its own recorded answer. Play with ``cache=None`` or a fresh cache, so that calls are the same.

    The file holds one request and its answer a line, in an order of its own, so that recording again changes only what
    is different. It holds no header of a request, no key, and of an answer's headers only its type and id. Answers that
    ask to try again later (429, 5xx) and refused keys are not recorded.

    Args:
        path: The file; it and its folder are made when something is recorded.
        strict: Never send anything, key or not: for CI.
        through: The transport for requests that are to be recorded; httpx's own, if not given.

    Raises:
        ConfigError: The file is not a cassette.
        CassetteMiss: At the call: the request is not in the file and cannot or may not be recorded.
    """
    return Cassette(Path(path), strict=strict, through=through)


class Cassette(httpx.AsyncBaseTransport):
    """The value of ``cassette``; ``played`` and ``recorded`` count."""

    needs_key = False
    """The App asks it without a key, too."""

    def __init__(self, path: Path, *, strict: bool, through: httpx.AsyncBaseTransport | None) -> None:
        self.path = path
        self.played = 0
        self.recorded = 0
        self._strict = strict
        self._through = through
        self._entries = _read(path)
        self._arrived: Counter[str] = Counter()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """
        Play the recorded answer, or send the request and record what comes.

        Raises:
            CassetteMiss: It is not recorded, and cannot or may not be.
            httpx.TransportError: It was sent and no answer came.
        Cancellation: what was not answered to its end is not recorded.
        """
        body = await request.aread()
        digest = _digest(request.url, body)
        self._arrived[digest] += 1
        number = self._arrived[digest]
        entry = self._entries.get((digest, number))
        if entry is not None:
            self.played += 1
            pieces = entry["answer"]
            content = _Pieces(
                [base64.b64decode(each["base64"]) if isinstance(each, dict) else each.encode() for each in pieces]
            )
            return httpx.Response(entry["status"], headers=entry["headers"], stream=content)
        if self._strict or not _has_key(request.headers):
            why = "strict=True never records" if self._strict else "give the model its key to record it"
            advice = f"{why} ({len(self._entries)} answers are there)"
            raise CassetteMiss(str(self.path), digest, number, _shown(request.url, body), advice)
        return await self._record(request, digest, body, _secrets(request.headers))

    async def _record(self, request: httpx.Request, digest: str, body: bytes, keys: Sequence[str]) -> httpx.Response:
        """Send a request, and keep what comes of it once it was read to its end."""
        through = self._through or httpx.AsyncHTTPTransport(trust_env=False)
        close = through.aclose if self._through is None else None  # nobody else will: the App leaves us open
        try:
            response = await through.handle_async_request(request)
        except BaseException:  # whatever it is: undone here, then raised on
            self._arrived[digest] -= 1
            if close is not None:
                await close()
            raise
        kept = [each for each in _KEPT_HEADERS if each in response.headers]
        headers = {name: _redacted(response.headers[name], keys) for name in kept}

        def end(pieces: Sequence[bytes] | None) -> None:
            if pieces is None or response.status_code in _PASSING or response.status_code >= 500:
                self._arrived[digest] -= 1  # it comes again, and is the same request then
                return
            entry: Entry = {
                "request": digest,
                "number": 1,
                "url": _address(request.url),
                "body": _redacted(_parsed(body), keys),
                "status": response.status_code,
                "headers": headers,
                "answer": _texts(pieces, keys, in_pieces="event-stream" in headers.get("content-type", "")),
            }
            self._keep(entry)

        passed = [(name, value) for name, value in response.headers.multi_items() if name not in _ENCODING]
        return httpx.Response(response.status_code, headers=passed, stream=_Recording(response, end, close))

    def _keep(self, entry: Entry) -> None:
        """Write an answer beside those of the file, also beside those that another process has recorded meanwhile."""
        with FileLock(self.path, wait=True):
            self._entries |= _read(self.path)
            while (entry["request"], entry["number"]) in self._entries:  # of two at the same time, one may fail
                entry["number"] += 1
            self._entries[entry["request"], entry["number"]] = entry
            self.recorded += 1
            _write(self.path, self._entries)

    def __repr__(self) -> str:
        return f"<Cassette {self.path}: {len(self._entries)} answers, {self.played} played, {self.recorded} recorded>"


class _Pieces(httpx.AsyncByteStream):
    """A recorded body, in the pieces in which it came."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


class _Recording(httpx.AsyncByteStream):
    """Hands a body on, and tells its pieces in the end; of one that is not read to its end, None."""

    def __init__(
        self,
        response: httpx.Response,
        end: Callable[[Sequence[bytes] | None], None],
        close: Callable[[], Awaitable[None]] | None,
    ) -> None:
        self._response = response
        self._end: Callable[[Sequence[bytes] | None], None] | None = end
        self._close = close

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces: list[bytes] = []
        async for piece in self._response.aiter_bytes():
            pieces.append(piece)
            yield piece
        self._tell(pieces)

    async def aclose(self) -> None:
        """Close the connection, whatever has come so far."""
        self._tell(None)
        try:
            await self._response.aclose()
        finally:
            if self._close is not None:
                await self._close()

    def _tell(self, pieces: Sequence[bytes] | None) -> None:
        end, self._end = self._end, None
        if end is not None:
            end(pieces)


# --- what a request is known by -----------------------------------------------------------------------------


def _digest(url: httpx.URL, body: bytes) -> str:
    host = "loopback" if url.host in _LOOPBACK else url.netloc.decode()  # a test's server has another port each time
    asked = [host, url.raw_path.decode(), _parsed(body)]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]


def _parsed(body: bytes) -> Any:  # JSON of any shape
    """Return a body as JSON, or as text where it is none."""
    try:
        return json.loads(body)
    except ValueError:
        return body.decode("utf-8", "backslashreplace")


def _address(url: httpx.URL) -> str:
    host = url.host if url.host in _LOOPBACK else url.netloc.decode()
    return f"{url.scheme}://{host}{url.path}"


def _shown(url: httpx.URL, body: bytes) -> str:
    end = body[-200:].decode("utf-8", "replace")
    return f"POST {_address(url)} …{end}"


# --- what is kept -------------------------------------------------------------------------------------------


def _has_key(headers: httpx.Headers) -> bool:
    return any(is_credential(name) for name in headers if name not in _PLAIN)


def _secrets(headers: httpx.Headers) -> list[str]:
    return [headers[name].removeprefix("Bearer ") for name in headers if name not in _PLAIN]


def _redacted(value: object, keys: Sequence[str]) -> Any:  # JSON of any shape
    """Return a value without the keys; one of a few characters is a stand-in such as `none`, and may be any word."""
    if isinstance(value, str):
        return Redactor(keys).text(value)
    if isinstance(value, Mapping):
        return {_redacted(name, keys): _redacted(each, keys) for name, each in value.items()}
    if isinstance(value, list):
        return [_redacted(each, keys) for each in value]
    return value


def _texts(pieces: Sequence[bytes], keys: Sequence[str], *, in_pieces: bool) -> list[object]:
    """Return a body as texts, a stream's as they came; what is not text is in base64."""
    whole = b"".join(pieces)
    try:
        text = whole.decode()
    except UnicodeDecodeError:
        return [{"base64": base64.b64encode(whole).decode()}]
    if not in_pieces or _redacted(text, keys) != text:  # a key may lie across two pieces
        return [_redacted(text, keys)]
    decode = codecs.getincrementaldecoder("utf-8")().decode  # a letter may, too
    return [piece for piece in [*map(decode, pieces)] if piece]


# --- the file -----------------------------------------------------------------------------------------------


def _read(path: Path) -> dict[tuple[str, int], Entry]:
    if not path.exists():
        return {}
    entries: dict[tuple[str, int], Entry] = {}
    try:
        lines = path.read_bytes().split(b"\n")
        if parse_json(lines[0])["dspex_cassette"] != _VERSION:
            raise ConfigError(f"{path} was recorded by another release: delete it and record it again")
        for line in filter(None, lines[1:]):
            entry = parse_json(line)
            _check(entry)
            entries[entry["request"], entry["number"]] = entry
    except OSError as error:
        raise FileError(path, f"it cannot be read: {error.strerror or error}") from error
    except (ValueError, LookupError, TypeError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(
            f"{path} is not a cassette, or is damaged ({type(error).__name__}: {error}): restore it, or delete it and "
            f"record it again"
        ) from error
    return entries


def _check(entry: Entry) -> None:
    """See that a line of the file can be played; ValueError, LookupError or TypeError where it cannot."""
    status, headers = entry["status"], entry["headers"]
    if not isinstance(status, int) or isinstance(status, bool) or not 100 <= status <= 599:
        raise TypeError("a status is not one of HTTP")
    if (
        not isinstance(entry["request"], str)
        or not isinstance(entry["number"], int)
        or not isinstance(entry["url"], str)
    ):
        raise TypeError("a request is not named as it should be")
    if not isinstance(headers, dict) or not all(isinstance(each, str) for each in headers.values()):
        raise TypeError("headers are not texts")
    httpx.Headers(headers)
    for piece in entry["answer"]:
        base64.b64decode(piece["base64"], validate=True) if isinstance(piece, dict) else piece.encode()


def _write(path: Path, entries: Mapping[tuple[str, int], Entry]) -> None:
    """Write all lines beside the file and rename: two recordings of the same requests differ only in what came."""
    ordered = sorted(entries.values(), key=lambda entry: (entry["url"], entry["request"], entry["number"]))
    lines = [{"dspex_cassette": _VERSION}, *ordered]
    write_private(path, "".join(json_text(line) + "\n" for line in lines))
