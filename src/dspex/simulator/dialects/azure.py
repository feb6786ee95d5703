"""Azure OpenAI: OpenAI's chat completions and embeddings at the address of a resource."""

import re
from collections.abc import Mapping
from urllib.parse import parse_qs

from dspex.simulator.dialects._dialect import Dialect, ErrorAnswer, Response, Twist
from dspex.simulator.dialects._openai import OpenAI
from dspex.simulator.dialects.openai_chat import OpenAIChatDialect
from dspex.simulator.dialects.openai_embeddings import OpenAIEmbeddingsDialect

__all__ = ["AzureOpenAIDialect"]

_CALL = re.compile(r"/openai/(?:v1|deployments/[^/]+)/(chat/completions|embeddings)")
_SPOKEN: Mapping[str, Dialect] = {"chat/completions": OpenAIChatDialect(), "embeddings": OpenAIEmbeddingsDialect()}


class AzureOpenAIDialect(OpenAI):
    """The dialect of both interfaces: ``/openai/v1``, and the one by deployments, which wants an ``api-version``."""

    name = "azure"
    base = ""

    def claims(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> bool:
        """Say whether this dialect answers a method and path."""
        return method == "POST" and _CALL.fullmatch(path) is not None

    def key(self, headers: Mapping[str, str], query: str = "") -> str | None:
        """Return the key of a request, sent in a header of its own, or as a token of Entra's."""
        return headers.get("api-key") or super().key(headers, query)

    def respond(self, target: str, body: bytes, twist: Twist = Twist.PLAIN) -> Response:
        """Answer a request it claims."""
        path, _, query = target.partition("?")
        found = _CALL.fullmatch(path)
        by_deployment = not path.startswith("/openai/v1/")
        if found is None or (by_deployment and not parse_qs(query).get("api-version")):
            return self.failure(ErrorAnswer(status=404, message="Resource not found", code="404"))
        return _SPOKEN[found[1]].respond(path, body, twist)
