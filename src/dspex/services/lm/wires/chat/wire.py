"""OpenAI's chat completions, as OpenAI and the many servers that copied it speak them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from dspex.protocols.lm import LMRequest, LMResponse
from dspex.protocols.model import Secret
from dspex.protocols.wire import Headroom
from dspex.services.lm.wires._capabilities import TabledWire
from dspex.services.lm.wires._errors import billed, document_of, inner_status, openai_failure
from dspex.services.lm.wires._headers import azure_path, bearer, checked_key, openai_headroom, request_headers
from dspex.services.lm.wires._json import shown, to_json
from dspex.services.lm.wires.chat.answer import error_of, invalid, read_answer, usage_of
from dspex.services.lm.wires.chat.request import TextWords, add_parameters, add_prefill, chat_messages, length_field_of
from dspex.services.lm.wires.chat.stream import ChatStream

__all__ = ["AzureChat", "OpenAIChat"]


@dataclass(frozen=True, slots=True)
class OpenAIChat(TabledWire):
    """
    The wire of ``POST {base}/chat/completions``.

    Attributes:
        length_field: OpenAI itself wants ``max_completion_tokens``; servers that copied it know ``max_tokens``. A
            gateway may lead to either, so there the model's name decides (``by_model``).
        seed_field: Mistral's name for it differs.
        stream_usage: True when a stream has to be asked for its token counts; servers that tell them anyway may know no
            such field.
        text_words: Whose words a form of the answer's text is said in; empty for servers that enforce none.
    """

    length_field: Literal["max_completion_tokens", "max_tokens", "by_model"] = "max_tokens"
    seed_field: Literal["seed", "random_seed"] = "seed"
    stream_usage: bool = True
    text_words: TextWords = ""

    def path(self, model_name: str, *, stream: bool) -> str:
        """Return what follows the base URL; the model is named in the body."""
        return "/chat/completions"

    def encode(self, model_name: str, request: LMRequest, *, stream: bool = False) -> bytes:
        """
        Return the compact JSON body; only parameters that were set are sent.

        Raises:
            RequestRejected: Something cannot be written as JSON, or the protocol does not support it; nothing was sent.
        """
        fields: dict[str, object] = {"model": model_name, "messages": chat_messages(request.messages)}  # JSON
        length_field = length_field_of(model_name) if self.length_field == "by_model" else self.length_field
        if self.text_words:
            add_prefill(fields, request, self.text_words)
        add_parameters(
            fields, request, length_field=length_field, seed_field=self.seed_field, text_words=self.text_words
        )
        if stream:
            fields["stream"] = True
            if self.stream_usage:
                options = fields.get("stream_options")
                fields["stream_options"] = {"include_usage": True, **(options if isinstance(options, dict) else {})}
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
        Return the answer of a success status; unknown fields are ignored.

        Raises:
            LMError: The meaning of a failure answer, by the table of ``wires._errors``.
            ResponseInvalid: A success status with a body that is not a chat completion.
            ContentRefused: The model or a filter withheld every completion, or cut it off.
        """
        success = 200 <= status < 300
        document = document_of(status, headers, body, invalid)
        if success:
            if not isinstance(document, dict):
                raise invalid(f"a JSON {type(document).__name__} instead of an object", headers, status)
            found = error_of(document)
            if found is None:
                choices = document.get("choices")
                if isinstance(choices, list) and choices:
                    return read_answer(document, choices, status, headers)
                raise billed(invalid(f"no choices: {shown(body)}", headers, status), usage_of(document))
            failed = openai_failure(inner_status(found, status), headers, found, body)
            raise billed(failed, usage_of(document))
        raise openai_failure(status, headers, document, body)

    def decoder(self, headers: Mapping[str, str]) -> ChatStream:
        """Return the reader of one streamed answer."""
        return ChatStream(headers)

    def headroom(self, headers: Mapping[str, str], *, now: float) -> Headroom | None:
        """Return what the ``x-ratelimit-…`` headers say."""
        return openai_headroom(headers)


@dataclass(frozen=True, slots=True)
class AzureChat(OpenAIChat):
    """
    The chat completions of Azure OpenAI, where the model's name is that of a deployment.

    Attributes:
        api_version: Asks the older interface, whose address names the deployment and a version; empty asks ``/v1``.
    """

    length_field: Literal["max_completion_tokens", "max_tokens", "by_model"] = "max_completion_tokens"
    api_version: str = ""

    def path(self, model_name: str, *, stream: bool) -> str:
        """Return what follows the resource's address."""
        return azure_path(model_name, "chat/completions", self.api_version)

    def headers(self, key: Secret | None, *, idempotency_key: str, attempt: int) -> dict[str, str]:
        """Return the request headers; the key travels as ``api-key``. Raises as ``OpenAIChat.headers``."""
        headers = request_headers(idempotency_key, attempt)
        if key is not None:
            headers["api-key"] = checked_key(key)
        return headers
