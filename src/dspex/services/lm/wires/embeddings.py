"""Texts to vectors: the protocol of OpenAI and its followers, and Gemini's."""

from __future__ import annotations

import base64
import math
import sys
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from urllib.parse import quote

from dspex.errors import LMError, ResponseInvalid
from dspex.protocols.lm import EmbedRequest, EmbedResponse, Usage
from dspex.services.lm.wires._errors import billed, inner_status, openai_failure
from dspex.services.lm.wires._headers import azure_path
from dspex.services.lm.wires._json import count, parse, shown, string, to_json
from dspex.services.lm.wires.gemini.errors import gemini_failure

__all__ = ["AzureEmbeddings", "GeminiEmbeddings", "OpenAIEmbeddings", "join", "split"]


# --- many texts ---------------------------------------------------------------------------------------------


def split(request: EmbedRequest, *, most_texts: int, most_bytes: int) -> list[EmbedRequest]:
    """
    Return requests of at most so many texts and bytes, the texts in their order; one text is never cut.

    No texts make no request.
    """
    pieces: list[EmbedRequest] = []
    texts: list[str] = []
    held = 0
    for text in request.texts:
        size = len(text.encode("utf-8", "surrogatepass"))  # what has no UTF-8 is refused when it is written
        if texts and (len(texts) >= most_texts or held + size > most_bytes):
            pieces.append(EmbedRequest(tuple(texts), request.dimensions, request.extra_body))
            texts, held = [], 0
        texts.append(text)
        held += size
    if texts:
        whole = len(texts) == len(request.texts)
        pieces.append(request if whole else EmbedRequest(tuple(texts), request.dimensions, request.extra_body))
    return pieces


def join(responses: Sequence[EmbedResponse]) -> EmbedResponse:
    """Return the answers to the pieces of one request as one answer; usage is summed."""
    if len(responses) == 1:
        return responses[0]
    vectors = tuple([vector for response in responses for vector in response.vectors])
    usage = sum((response.usage for response in responses), Usage())
    return EmbedResponse(vectors, usage, responses[0].model if responses else "")


# --- OpenAI -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpenAIEmbeddings:
    """
    The wire of ``POST {base}/embeddings``.

    Attributes:
        packed: Asks for base64 of little-endian float32: a quarter of the bytes, and no numbers to parse. Servers
            that answer in numbers nevertheless are read too.
        most_texts: The most texts of a request; OpenAI takes 2,048.
        most_bytes: OpenAI takes 300,000 tokens a request, and a token is a byte or more.
    """

    packed: bool = True
    most_texts: int = 2048
    most_bytes: int = 300_000

    def path(self, model_name: str) -> str:
        """Return what follows the base URL; the model is named in the body."""
        return "/embeddings"

    def encode(self, model_name: str, request: EmbedRequest) -> bytes:
        """Return the compact JSON body; ``extra_body`` comes last. Raises ``RequestRejected`` for what is not JSON."""
        fields: dict[str, object] = {"model": model_name, "input": list(request.texts)}  # JSON
        if self.packed:
            fields["encoding_format"] = "base64"
        if request.dimensions is not None:
            fields["dimensions"] = request.dimensions
        fields.update(request.extra_body)
        return to_json(fields)

    def decode(self, status: int, headers: Mapping[str, str], body: bytes, *, texts: int) -> EmbedResponse:
        """Return the vectors, sorted by ``index``; raises as ``EmbeddingsWire.decode``."""
        read = _Answer(status, headers, body, partial(_openai_failure, headers))
        read.usage = Usage(input_tokens=count(read.document.get("usage"), "prompt_tokens"))
        entries = read.entries("data", texts)
        vectors: list[array[float] | None] = [None] * texts
        for place, entry in enumerate(entries):
            index = entry.get("index", place)
            if type(index) is not int or not 0 <= index < texts or vectors[index] is not None:
                raise read.invalid("its indices are not those of the texts")
            vectors[index] = read.vector(entry.get("embedding"))
        found = tuple([vector for vector in vectors if vector is not None])
        return read.checked(EmbedResponse(found, read.usage, string(read.document, "model")))


@dataclass(frozen=True, slots=True)
class AzureEmbeddings(OpenAIEmbeddings):
    """The embeddings of Azure OpenAI, whose ``api_version`` is what ``AzureChat``'s is."""

    api_version: str = ""

    def path(self, model_name: str) -> str:
        """Return what follows the resource's address."""
        return azure_path(model_name, "embeddings", self.api_version)


# --- Gemini -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GeminiEmbeddings:
    """
    The wire of ``POST {base}/models/{model}:batchEmbedContents``; ``extra_body`` joins the request of every text.

    Attributes:
        most_texts: Gemini takes 100 texts a request.
        most_bytes: Gemini names no limit for a whole request; this keeps bodies moderate.
    """

    most_texts: int = 100
    most_bytes: int = 1_000_000

    def path(self, model_name: str) -> str:
        """Return what follows the base URL."""
        return f"/{quote(_gemini_name(model_name))}:batchEmbedContents"

    def encode(self, model_name: str, request: EmbedRequest) -> bytes:
        """Return the compact JSON body. Raises ``RequestRejected`` for what is not JSON."""
        common: dict[str, object] = {"model": _gemini_name(model_name)}  # JSON
        if request.dimensions is not None:
            common["outputDimensionality"] = request.dimensions
        common.update(request.extra_body)
        return to_json({"requests": [{"content": {"parts": [{"text": text}]}, **common} for text in request.texts]})

    def decode(self, status: int, headers: Mapping[str, str], body: bytes, *, texts: int) -> EmbedResponse:
        """Return the vectors, which come in the order of the texts; raises as ``EmbeddingsWire.decode``."""
        read = _Answer(status, headers, body, partial(_gemini_failure, headers))
        read.usage = Usage(input_tokens=count(read.document.get("usageMetadata"), "promptTokenCount"))
        vectors = tuple([read.vector(entry.get("values")) for entry in read.entries("embeddings", texts)])
        return read.checked(EmbedResponse(vectors, read.usage, ""))


def _gemini_name(model_name: str) -> str:
    return model_name if model_name.startswith(("models/", "tunedModels/")) else f"models/{model_name}"


# --- reading ------------------------------------------------------------------------------------------------


_Failing = Callable[[int, object, bytes], LMError]


def _openai_failure(headers: Mapping[str, str], status: int, document: object, body: bytes) -> LMError:
    claimed = inner_status(document, status) if status < 300 else status
    return openai_failure(claimed, headers, document, body)


def _gemini_failure(headers: Mapping[str, str], status: int, document: object, body: bytes) -> LMError:
    return gemini_failure(status, headers, document, otherwise=shown(body))


class _Answer:
    """An answer's document, or the error that it means."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes, failing: _Failing) -> None:
        self._status = status
        self._body = body
        self._failing = failing
        self._request_id = headers.get("x-request-id")
        self.usage = Usage()
        """The counted usage, for the vectors or for an answer without any."""
        success = 200 <= status < 300
        try:
            document = parse(body)
        except ValueError as error:
            if success:
                raise self.invalid(f"not JSON: {shown(body)}") from error
            document = None
        if not success:
            raise failing(status, document, body)
        if not isinstance(document, dict):
            raise self.invalid(f"a JSON {type(document).__name__} instead of an object")
        self.document: dict[str, object] = document  # the provider's own JSON

    def invalid(self, problem: str) -> ResponseInvalid:
        message = f"the provider's answer holds no embeddings: {problem}"
        return billed(ResponseInvalid(message, status=self._status, request_id=self._request_id), self.usage)

    def entries(self, name: str, texts: int) -> list[dict[str, object]]:
        """Return the list of objects under ``name``, one for each text."""
        found = self.document.get(name)
        if not isinstance(found, list):
            if isinstance(self.document.get("error"), (dict, str)):
                raise self._failing(self._status, self.document, self._body)
            raise self.invalid(f"no {name}: {shown(self._body)}")
        if len(found) != texts:
            raise self.invalid(f"{len(found)} vectors for {texts} texts")
        if not all(isinstance(each, dict) for each in found):
            raise self.invalid(f"{name} holds an item that is not an object")
        return found

    def vector(self, value: object) -> array[float]:
        """Return one vector, from base64 or from numbers."""
        vector = array("f")
        try:
            if isinstance(value, str):
                vector.frombytes(base64.b64decode(value, validate=True))
                if sys.byteorder == "big":
                    vector.byteswap()
            elif isinstance(value, list):
                vector.extend(value)
            else:
                raise self.invalid(f"a vector is a JSON {type(value).__name__}")
        except (ValueError, TypeError, OverflowError) as error:
            raise self.invalid("a vector cannot be read") from error
        if not vector or not math.isfinite(sum(vector)):
            raise self.invalid("a vector is empty or holds an item that is not a number")
        return vector

    def checked(self, response: EmbedResponse) -> EmbedResponse:
        """Return the response if its vectors have one length."""
        if len({len(vector) for vector in response.vectors}) > 1:
            raise self.invalid("its vectors differ in length")
        return response
