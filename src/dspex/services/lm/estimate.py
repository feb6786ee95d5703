"""The number of tokens of a call before it is sent: a guess that is corrected when its usage is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, NamedTuple

from dspex.protocols.content import AudioPart, FilePart, ImagePart, MediaPart, ToolResult
from dspex.protocols.lm import Completion, EmbedResponse, LMRequest, LMResponse, Usage

__all__ = ["TokenEstimate", "counted", "counted_vectors", "estimate", "prompt_tokens"]

BYTES_PER_TOKEN: Final = 4
"""Of a request body in JSON: what English text has; scripts with longer characters have fewer per token."""

IMAGE_TOKENS: Final = {"low": 85, "high": 1_105, "auto": 765, None: 765}
"""By ``detail``: OpenAI's tiles for one square of 1,024 pixels (low: the fixed price); other providers are near."""

AUDIO_BYTES_PER_TOKEN: Final = 1_600
"""Ten tokens a second of sound at 16 kB/s."""

FILE_BYTES_PER_TOKEN: Final = 30
"""Of a PDF: about 1,500 tokens a page of 45 kB."""


class TokenEstimate(NamedTuple):
    """Tokens of the prompt, and of the longest answer; ``None`` where the call sets no length."""

    prompt: int
    answer: int | None


def estimate(request: LMRequest, body: bytes) -> TokenEstimate:
    """Return what ``request``, written as ``body``, will take."""
    size, media = len(body), 0
    for message in request.messages:
        if isinstance(message.content, str):
            continue
        for part in message.content:
            for each in part.content if isinstance(part, ToolResult) else (part,):
                if isinstance(each, MediaPart):
                    size -= len(each.base64)
                    media += _media_tokens(each)
    params = request.params
    answer = params.max_tokens * max(1, params.n) if params.max_tokens is not None else None
    return TokenEstimate(max(1, size // BYTES_PER_TOKEN + media), answer)


def prompt_tokens(request: LMRequest) -> int:
    """Return about how many tokens the texts of a prompt have, for a model that is not sent a body."""
    return max(
        1, sum(len(message.text.encode("utf-8", "surrogatepass")) for message in request.messages) // BYTES_PER_TOKEN
    )


def counted(response: LMResponse, expects: TokenEstimate) -> LMResponse:
    """
    Return the response with a usage: what the provider left out is counted here, and marked as estimated.

    Unknown is not zero: a server that counts nothing would make every budget endless.
    """
    usage = response.usage
    if usage.input_tokens and usage.output_tokens:
        return response
    read = 0 if usage.input_tokens else expects.prompt
    written = 0 if usage.output_tokens else sum(map(_tokens_of, response.completions))
    if not (read or written):
        return response
    estimated = Usage(input_tokens=read, output_tokens=written, estimated_tokens=read + written)
    return replace(response, usage=usage + estimated)


def counted_vectors(response: EmbedResponse, expects: TokenEstimate) -> EmbedResponse:
    """Return vectors with a usage, as ``counted`` does."""
    if response.usage.input_tokens:
        return response
    return replace(response, usage=Usage(input_tokens=expects.prompt, estimated_tokens=expects.prompt))


def _tokens_of(completion: Completion) -> int:
    texts = [completion.text, *(part.text for part in completion.reasoning)]
    texts += [f"{call.name} {call.raw}" for call in completion.tool_calls]
    size = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
    return -(-size // BYTES_PER_TOKEN)


def _media_tokens(part: MediaPart) -> int:
    if isinstance(part, ImagePart):
        return IMAGE_TOKENS[part.detail]
    size = len(part.data) if part.data is not None else 0
    if isinstance(part, AudioPart):
        return size // AUDIO_BYTES_PER_TOKEN
    return size // FILE_BYTES_PER_TOKEN if isinstance(part, FilePart) else 0
