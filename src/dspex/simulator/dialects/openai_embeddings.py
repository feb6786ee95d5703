"""OpenAI's embeddings: ``POST /v1/embeddings``, as JSON numbers or as base64 of little-endian 32-bit floats."""

import base64
import struct
from collections.abc import Mapping

from dspex.simulator.dialects._checks import Json, parsed, whole
from dspex.simulator.dialects._dialect import BodyInvalid, Response, Twist
from dspex.simulator.dialects._openai import OpenAI, whole_response
from dspex.simulator.embedding import EMBEDDING_MODEL, embed
from dspex.simulator.learner import tokens

__all__ = ["OpenAIEmbeddingsDialect"]

_DIMENSIONS = 1536
_MOST_INPUTS, _MOST_EACH, _MOST_TOGETHER = 2048, 8192, 300_000


class OpenAIEmbeddingsDialect(OpenAI):
    """The embeddings dialect."""

    def claims(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> bool:
        """Say whether this dialect answers a method and path."""
        return (method, path) == ("POST", "/v1/embeddings")

    def respond(self, target: str, body: bytes, twist: Twist = Twist.PLAIN) -> Response:
        """Answer a request it claims; an empty answer holds no vectors."""
        try:
            return _vectors(parsed(body), empty=twist is not Twist.PLAIN)
        except BodyInvalid as error:
            return self.failure(error.failure())


def _vectors(body: Json, *, empty: bool) -> Response:
    model, form = body.get("model"), body.get("encoding_format") or "float"
    if not isinstance(model, str) or not model:
        raise BodyInvalid("model", "a model's name")
    if form not in ("float", "base64"):
        raise BodyInvalid("encoding_format", "float or base64")
    texts, used = _texts(body.get("input"))
    dimensions = whole(body, "dimensions", 1, 3072) or _DIMENSIONS
    vectors = [] if empty else [embed(text, dimensions) for text in texts]
    data = [
        {"object": "embedding", "index": at, "embedding": _packed(vector) if form == "base64" else vector}
        for at, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": used, "total_tokens": used}
    made = whole_response(200, {"object": "list", "data": data, "model": EMBEDDING_MODEL, "usage": usage})
    return Response(200, made.headers, made.parts, prompt=used)


def _packed(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _texts(value: object) -> tuple[list[str], int]:
    """Read the inputs: texts, or lists of token ids, which are hashed as numbers; and count their tokens."""
    given = [value] if isinstance(value, str) or _is_ids(value) else value
    if not isinstance(given, list) or not 0 < len(given) <= _MOST_INPUTS:
        raise BodyInvalid("input", f"a text, token ids, or from 1 to {_MOST_INPUTS} of them")
    texts: list[str] = []
    used = 0
    for at, one in enumerate(given):
        is_text = isinstance(one, str) and one
        if not is_text and not _is_ids(one):
            raise BodyInvalid(f"input[{at}]", "a text that is not empty, or token ids")
        texts.append(one if isinstance(one, str) else " ".join(map(str, one)))
        count = tokens(one) if isinstance(one, str) else len(one)
        if count > _MOST_EACH:
            message = f"This model's maximum context length is {_MOST_EACH} tokens, input[{at}] has {count}."
            raise BodyInvalid("input", message, code="context_length_exceeded")
        used += count
    if used > _MOST_TOGETHER:
        raise BodyInvalid("input", f"at most {_MOST_TOGETHER} tokens in one request")
    return texts, used


def _is_ids(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, int) for one in value)
