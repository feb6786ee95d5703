"""Providers of the user's own: checked when they are given, and their wires kept from failing in an untyped way."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from dspex._guard import text_of
from dspex.errors import AuthFailed, ConfigError, LMError, RequestRejected, ResponseInvalid
from dspex.protocols.headers import HiddenHeaders
from dspex.protocols.lm import Capabilities, EmbedRequest, EmbedResponse, LMDelta, LMRequest, LMResponse
from dspex.protocols.model import LM, Secret
from dspex.protocols.wire import EmbeddingsWire, Headroom, Provider, StreamDecoder, Wire
from dspex.services.lm.providers import PROVIDERS, check_address

__all__ = ["CheckedEmbeddings", "CheckedWire", "with_own"]

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]*")


def with_own(own: Mapping[str, Provider]) -> Mapping[str, Provider]:
    """
    Return the known providers and the user's, which go before those of the same name.

    Raises:
        ConfigError: A name, an address or a wire cannot be one.
    """
    if not own:
        return PROVIDERS
    return MappingProxyType({**PROVIDERS, **{name: _checked(name, each) for name, each in own.items()}})


def _checked(name: str, provider: Provider) -> Provider:
    where = f"providers[{name!r}]"
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(f"{where}: the name of a provider has small letters, digits, '.', '_' and '-' only")
    if not isinstance(provider, Provider):
        raise ConfigError(f"{where}={provider!r:.60} is not a dspex.lm.Provider")
    if isinstance(provider.wire, type) or not isinstance(provider.wire, Wire):
        raise ConfigError(f"{where}: the wire {provider.wire!r:.60} lacks methods of dspex.lm.Wire")
    embeddings = provider.embeddings
    if embeddings is not None and not isinstance(embeddings, EmbeddingsWire):
        raise ConfigError(f"{where}: the wire {embeddings!r:.60} lacks methods of dspex.lm.EmbeddingsWire")
    if isinstance(provider.key_env, str):
        raise ConfigError(f"{where}: give key_env as a tuple of names of environment variables")
    return replace(
        provider,
        base_url=check_address(provider.base_url) if provider.base_url else "",
        wire=CheckedWire(provider.wire),
        key_env=tuple(provider.key_env),
        embeddings=CheckedEmbeddings(embeddings) if embeddings is not None else None,
    )


class CheckedWire:
    """A wire of the user's: an exception of its own becomes the typed error of the step that it failed in."""

    __slots__ = ("_wire",)

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def path(self, model_name: str, *, stream: bool) -> str:
        """Return what the wire says; raises ``RequestRejected`` where it fails."""
        try:
            return _path(self._wire, self._wire.path(model_name, stream=stream))
        except LMError:
            raise
        except Exception as error:  # code of the user's own
            raise _unwritten(self._wire, error) from error

    def capabilities(self, lm: LM) -> Capabilities:
        """Return what the wire says, and the record before it; raises ``ConfigError`` where the wire fails."""
        try:
            known = self._wire.capabilities(lm)
            return replace(known, **lm.capabilities) if lm.capabilities else known
        except Exception as error:  # code of the user's own
            raise ConfigError(f"{_named(self._wire)} failed to say what {lm.model!r} can do: {_told(error)}") from error

    def encode(self, model_name: str, request: LMRequest, *, stream: bool = False) -> bytes:
        """Return the body; raises ``RequestRejected`` where the wire fails."""
        try:
            return _body(self._wire, self._wire.encode(model_name, request, stream=stream))
        except LMError:
            raise
        except Exception as error:  # code of the user's own
            raise _unwritten(self._wire, error) from error

    def headers(self, key: Secret | None, *, idempotency_key: str, attempt: int) -> dict[str, str]:
        """Return the headers; raises ``AuthFailed`` where the wire fails, without its words: they may hold the key."""
        try:
            made = HiddenHeaders(self._wire.headers(key, idempotency_key=idempotency_key, attempt=attempt))
            if all(isinstance(name, str) and _may_be_sent(value) for name, value in made.items()):
                return made
            problem = "a header that it made cannot be sent"
        except LMError:
            raise
        except Exception as error:  # noqa: BLE001 - code of the user's own; told below, outside of its frames
            problem = f"it failed to make the headers: {type(error).__name__}"
        raise AuthFailed(f"{_named(self._wire)}: {problem}; nothing was sent")

    def decode(self, status: int, headers: Mapping[str, str], body: bytes) -> LMResponse:
        """Return the answer; raises ``ResponseInvalid`` where the wire fails."""
        try:
            return _response(self._wire, self._wire.decode(status, headers, body))
        except LMError:
            raise
        except Exception as error:  # code of the user's own
            raise _unread(self._wire, error, status) from error

    def decoder(self, headers: Mapping[str, str]) -> StreamDecoder:
        """Return the reader of a stream, checked in the same way."""
        try:
            return _CheckedDecoder(self._wire, self._wire.decoder(headers))
        except LMError:
            raise
        except Exception as error:  # code of the user's own
            raise _unread(self._wire, error, 200) from error

    def headroom(self, headers: Mapping[str, str], *, now: float) -> Headroom | None:
        """Return what the wire says; one that fails knows nothing of limits."""
        try:
            return self._wire.headroom(headers, now=now)
        except Exception:  # noqa: BLE001 - code of the user's own; limits are learned from answers, too
            return None

    def __repr__(self) -> str:
        return f"<{_named(self._wire)}>"


class _CheckedDecoder:
    __slots__ = ("_decoder", "_wire")

    def __init__(self, wire: Wire, decoder: StreamDecoder) -> None:
        self._wire = wire
        self._decoder = decoder

    def feed(self, data: bytes) -> list[LMDelta]:
        try:
            return list(self._decoder.feed(data))
        except LMError:
            raise
        except Exception as error:  # code of the user's own
            raise _unread(self._wire, error, 200) from error

    def finish(self) -> LMResponse:
        try:
            return _response(self._wire, self._decoder.finish())
        except LMError:
            raise
        except Exception as error:  # code of the user's own
            raise _unread(self._wire, error, 200) from error


class CheckedEmbeddings:
    """A wire for embeddings, checked as ``CheckedWire`` checks."""

    __slots__ = ("_wire", "most_bytes", "most_texts")

    def __init__(self, wire: EmbeddingsWire) -> None:
        self._wire = wire
        self.most_texts = wire.most_texts
        self.most_bytes = wire.most_bytes

    def path(self, model_name: str) -> str:
        """Return what the wire says; raises ``RequestRejected`` where it fails."""
        try:
            return _path(self._wire, self._wire.path(model_name))
        except LMError:
            raise
        except Exception as error:  # code of the user's own
            raise _unwritten(self._wire, error) from error

    def encode(self, model_name: str, request: EmbedRequest) -> bytes:
        """Return the body; raises ``RequestRejected`` where the wire fails."""
        try:
            return _body(self._wire, self._wire.encode(model_name, request))
        except LMError:
            raise
        except Exception as error:  # code of the user's own
            raise _unwritten(self._wire, error) from error

    def decode(self, status: int, headers: Mapping[str, str], body: bytes, *, texts: int) -> EmbedResponse:
        """Return the vectors; raises ``ResponseInvalid`` where the wire fails or there are not ``texts`` of them."""
        try:
            response = self._wire.decode(status, headers, body, texts=texts)
            found = len(response.vectors)
        except LMError:
            raise
        except Exception as error:  # code of the user's own
            raise _unread(self._wire, error, status) from error
        if found != texts:
            raise ResponseInvalid(f"{_named(self._wire)} read {found} vectors for {texts} texts", status=status)
        return response


def _named(wire: object) -> str:
    return f"the wire {type(wire).__name__}"


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {text_of(error)}"


def _unwritten(wire: object, error: Exception) -> RequestRejected:
    return RequestRejected(f"{_named(wire)} failed to write the request: {_told(error)}; nothing was sent")


def _unread(wire: object, error: Exception, status: int) -> ResponseInvalid:
    return ResponseInvalid(f"{_named(wire)} failed to read the answer: {_told(error)}", status=status)


def _path(wire: object, path: object) -> str:
    if not isinstance(path, str) or not path.startswith("/") or not _may_be_sent(path) or " " in path:
        raise RequestRejected(f"{_named(wire)} made the path {path!r:.80}, which is not one; nothing was sent")
    return path


def _body(wire: object, body: object) -> bytes:
    if not isinstance(body, bytes):
        raise RequestRejected(f"{_named(wire)} made a body of {type(body).__name__}, not bytes; nothing was sent")
    return body


def _response(wire: object, response: object) -> LMResponse:
    if not isinstance(response, LMResponse) or not response.completions:
        raise ResponseInvalid(f"{_named(wire)} returned {type(response).__name__} without an answer")
    return response


def _may_be_sent(value: object) -> bool:
    return isinstance(value, str) and value.isascii() and value.isprintable()
