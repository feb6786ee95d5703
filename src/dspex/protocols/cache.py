"""The cache's interface for a step: look up, lead or wait, fill or give the lead away."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from json.encoder import encode_basestring_ascii
from operator import is_
from typing import Final, Literal, NamedTuple, Protocol, runtime_checkable

from dspex.protocols.content import AudioPart, FilePart, ImagePart, Part, ToolResult
from dspex.protocols.headers import header_identity
from dspex.protocols.lm import LMRequest, LMResponse, Message
from dspex.protocols.model import LM, LMParams, LMPool

__all__ = ["CacheMode", "CacheService", "CacheStore", "Hit", "Lead", "OpenCacheStore", "cache_key"]

KEY_VERSION = "4"
"""Part of every key: raised when the meaning of a stored answer changes, which empties all caches at once."""

_canonical = json.JSONEncoder(ensure_ascii=True, sort_keys=True, separators=(",", ":"), default=repr).encode


def cache_key(lm: LM | LMPool, request: LMRequest) -> str:
    """
    Return the canonical digest of a request: same question, same model, same server, same key.

    ``request.params`` must be complete (the model's defaults merged in). The API key and credentials among
    the model's headers are not part of it.
    """
    messages, params = request.messages, request.params
    if not messages or request.tools or request.output is not None or params.extra_body:
        return _begun(lm, request, messages).hexdigest()
    # Of a predictor's calls only the last turn differs. Its model, parameters and messages are the same objects, which
    # the entry keeps alive: no other object can have their identity.
    place = (id(lm), id(params), id(messages[0]), len(messages))
    known = _prefixes.get(place)
    if known is None or not all(map(is_, known.before, messages)):
        if len(_prefixes) >= _MOST_PREFIXES:
            _prefixes.clear()
        before = messages[:-1]
        if not all(type(each.content) is str for each in before):  # arguments of tools may be changed in their place
            return _begun(lm, request, messages).hexdigest()
        known = _prefixes[place] = _Prefix(lm, params, messages[0], before, _begun(lm, request, before))
    digest = known.digest.copy()
    digest.update(_written(messages[-1]))
    return digest.hexdigest()


class _Prefix(NamedTuple):
    """The part of a question that a predictor asks each time, and the digest so far."""

    lm: LM | LMPool
    params: LMParams
    first: Message
    before: tuple[Message, ...]
    digest: hashlib._Hash


_prefixes: dict[tuple[int, int, int, int], _Prefix] = {}
_MOST_PREFIXES: Final = 256


def _begun(lm: LM | LMPool, request: LMRequest, messages: tuple[Message, ...]) -> hashlib._Hash:
    """Return the digest of all but the last turns: JSON texts one behind the other, each of which ends by itself."""
    params, output = request.params, request.output
    fields = [getattr(params, name) for name in LMParams.__dataclass_fields__]
    models = _server(lm) if isinstance(lm, LM) else [_member(each) for each in lm.members]
    asked: list[object] = [KEY_VERSION, models, fields]
    if request.tools or output is not None:
        tools = [(tool.name, tool.description, tool.parameters) for tool in request.tools]
        asked += [tools, request.tool_choice, output and [type(output).__name__, asdict(output)]]
    digest = hashlib.sha256(_canonical(asked).encode())
    for message in messages:
        digest.update(_written(message))
    return digest


def _written(message: Message) -> bytes:
    """Return a turn as canonical JSON."""
    content = message.content
    if type(content) is str:
        return f'["{message.role}",{encode_basestring_ascii(content)}]'.encode()
    return _canonical(_turn(message)).encode()


def _server(lm: LM) -> list[object]:
    return [lm.model, lm.api_base, *([header_identity(lm.headers)] if lm.headers else [])]


def _member(lm: LM | LMPool | str) -> object:
    """A pool's members bring parameters of their own; a single model's are in the request."""
    if isinstance(lm, LMPool):
        return [_member(each) for each in lm.members]
    return lm if isinstance(lm, str) else [*_server(lm), repr(lm.params)]


def _turn(message: Message) -> object:
    content = message.content
    return [message.role, content if isinstance(content, str) else [_part(part) for part in content]]


def _part(part: Part) -> object:
    """A part by what its wire is told of it: a user's subclass (``dspex.Image``) is the part it is made from."""
    if isinstance(part, ImagePart):
        return ["ImagePart", part.media_type, part.url is None, part.digest, part.detail]
    if isinstance(part, FilePart):
        return ["FilePart", part.media_type, part.url is None, part.digest, part.name]
    if isinstance(part, AudioPart):
        return ["AudioPart", part.media_type, part.url is None, part.digest]
    if isinstance(part, ToolResult):
        content = part.content if isinstance(part.content, str) else [_part(each) for each in part.content]
        return ["ToolResult", part.call_id, part.name, content, part.is_error]
    return [type(part).__name__, asdict(part)]


CacheMode = Literal["use", "refresh", "bypass", "only"]
"""``use`` reads and writes, ``refresh`` only writes, ``bypass`` does neither, ``only`` never calls the provider."""


@dataclass(frozen=True, slots=True)
class Hit:
    """The answer was there (``tier`` says where) or another caller's flight brought it (``coalesced``)."""

    response: LMResponse
    tier: Literal["memory", "disk", "shared", "coalesced"]


@dataclass(frozen=True, slots=True)
class Lead:
    """
    Nobody has the answer: the holder computes it and must ``fill`` or ``abandon`` ``token``.

    ``fence`` is that of its lease in the store that processes share; 0 without one.
    """

    key: str
    token: int
    fence: int = 0


class OpenCacheStore(Protocol):
    """
    An open store of answers; every method blocks.

    ``get`` is called in one thread, all else in another, at the same time; each method by one caller at a time.
    """

    def get(self, key: str) -> LMResponse | None:
        """Return the answer that is stored, or None; raise CacheError when the store cannot be read."""
        ...

    def set(self, key: str, response: LMResponse) -> int:
        """
        Store an answer, in place of an older one, and return how many others had to leave for it.

        Raises:
            CacheError: The store cannot be written.
        """
        ...

    def remove(self, key: str, response: LMResponse) -> None:
        """Remove an answer if it is still the one that is stored; raise CacheError when that cannot be done."""
        ...

    def close(self) -> None:
        """Give back files and connections."""
        ...


@runtime_checkable
class CacheStore(Protocol):
    """Where answers are kept across runs: a record that is opened by the cache's actor, in a thread."""

    def open(self) -> OpenCacheStore:
        """Open the store, or make it; raise CacheError when it cannot be, or is something else. Blocks."""
        ...


@runtime_checkable
class CacheService(Protocol):
    """Single-flight caching of deterministic LM answers."""

    def peek(self, key: str) -> LMResponse | None:
        """Return the memory tier's answer at once, or None."""
        ...

    async def lookup(self, key: str, deadline: float, *, read: bool = True) -> Hit | Lead | None:
        """
        Find the answer or become its leader; waits while another process leads, until ``deadline``.

        Args:
            key: The canonical digest of model and request.
            deadline: Runtime clock seconds.
            read: False skips the tiers (``refresh``) but still joins a flight.

        Returns:
            ``None`` when the cache is down for longer than it is worth waiting: compute without it.
        """
        ...

    def fill(self, lead: Lead, response: LMResponse) -> None:
        """Store the leader's answer and hand it to everyone waiting."""
        ...

    def remove(self, key: str, response: LMResponse) -> None:
        """Take an answer out that turned out to be none; another one under the same key stays."""
        ...

    def abandon(self, lead: Lead, error: Exception | None) -> None:
        """
        End the flight without an answer.

        ``error`` is shared with the waiters when it does not depend on the caller; with ``None`` the lead passes
        to the next waiter.
        """
        ...
