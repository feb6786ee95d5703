"""Why an answer ended: one table of every provider's words, and what each of them means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

__all__ = ["ENDS", "MISSING", "End", "WireProtocol", "end_of", "finish_word", "is_known_end", "missing_word"]

End = Literal["whole", "cut", "paused", "refused", "broken"]
"""
The meaning of an end.

- ``whole``: the model said what it had to say; the only end whose answer is used, cached, shown as an example or
  carried out.
- ``cut``: a limit of tokens came first.
- ``paused``: the provider wants the turn sent back, and goes on with it.
- ``refused``: the model or a filter withheld the answer, or the rest of it.
- ``broken``: the provider gave up; another try may bring a whole answer.
"""

WireProtocol = Literal["chat", "responses", "anthropic", "gemini", "bedrock"]

_STOP, _CALLS, _LENGTH, _FILTER = "stop", "tool_calls", "length", "content_filter"


def _rows(**words: str) -> Mapping[str, End]:
    """Make one protocol's rows from the words of each end."""
    ends: tuple[End, ...] = ("whole", "cut", "paused", "refused", "broken")
    return MappingProxyType({word: end for end in ends for word in words.get(end, "").split()})


ENDS: Final[Mapping[WireProtocol, Mapping[str, End]]] = MappingProxyType(
    {
        # ``finish_reason`` of OpenAI, and of the servers that copied its protocol: TGI, Mistral, DeepSeek, Cohere,
        # Zhipu, Moonshot, watsonx, vLLM, SGLang, LM Studio, Ollama, OpenRouter, Bedrock and Gemini behind gateways.
        "chat": _rows(
            whole="stop tool_calls function_call eos eos_token stop_sequence end_turn tool_use complete completed "
            "COMPLETE TOOL_CALL STOP STOP_SEQUENCE eosFound stopStringFound toolCalls",
            cut="length max_tokens MAX_TOKENS model_length max_length max_output_tokens token_limit time_limit "
            "model_context_window_exceeded context_length_exceeded ERROR_LIMIT repetition_truncation not_finished "
            "maxPredictedTokensReached contextLengthReached",
            paused="pause_turn",
            refused="content_filter content_filtered guardrail_intervened refusal sensitive safety SAFETY RECITATION "
            "PROHIBITED_CONTENT BLOCKLIST ERROR_TOXIC",
            broken="error ERROR abort aborted cancelled canceled failed network_error insufficient_system_resource "
            "load unload malformed_function_call MALFORMED_FUNCTION_CALL malformed_model_output malformed_tool_use "
            "modelUnloaded userStopped USER_CANCEL",
        ),
        # ``status``, and ``incomplete_details.reason`` of a response that is incomplete.
        "responses": _rows(
            whole="completed",
            cut="max_output_tokens max_tokens incomplete",
            refused="content_filter",
            broken="failed cancelled",
        ),
        # ``stop_reason``.
        "anthropic": _rows(
            whole="end_turn stop_sequence tool_use",
            cut="max_tokens model_context_window_exceeded",
            paused="pause_turn",
            refused="refusal",
            broken="error",
        ),
        # ``finishReason`` of a candidate.
        "gemini": _rows(
            whole="STOP",
            cut="MAX_TOKENS",
            refused="SAFETY RECITATION BLOCKLIST PROHIBITED_CONTENT SPII MODEL_ARMOR LANGUAGE IMAGE_SAFETY "
            "IMAGE_PROHIBITED_CONTENT IMAGE_RECITATION",
            broken="MALFORMED_FUNCTION_CALL MALFORMED_RESPONSE UNEXPECTED_TOOL_CALL TOO_MANY_TOOL_CALLS "
            "MISSING_THOUGHT_SIGNATURE OTHER NO_IMAGE IMAGE_OTHER",
        ),
        # ``stopReason``.
        "bedrock": _rows(
            whole="end_turn stop_sequence tool_use",
            cut="max_tokens model_context_window_exceeded",
            refused="guardrail_intervened content_filtered",
            broken="malformed_model_output malformed_tool_use",
        ),
    }
)
"""Protocol to the provider's word to its meaning; the how-to on providers shows it to users."""

MISSING: Final[Mapping[WireProtocol, tuple[End, End]]] = MappingProxyType(
    {
        "chat": ("whole", "broken"),  # servers of one's own often name no reasons
        "responses": ("whole", "broken"),
        "anthropic": ("broken", "broken"),  # its whole answers always have one: null is said while the model writes
        "gemini": ("whole", "broken"),
        "bedrock": ("broken", "broken"),  # the reason is never left out
    }
)
"""
The meaning of an answer that came whole over the network and names no reason: of one with a text or calls, and of one
without. Streams without a reason were broken off, whatever the protocol.
"""

_UNKNOWN, _NO_REASON = "unknown", "no_reason_given"
_KNOWN: Final[Mapping[str, End]] = {
    **{word: end for rows in ENDS.values() for word, end in rows.items()},
    _UNKNOWN: "whole",
    _NO_REASON: "broken",
}
_CALLING: Final = frozenset({"tool_calls", "function_call", "tool_use", "TOOL_CALL", "toolCalls"})

# A word that stands in no row. Providers invent new words for ends that are not the usual one, so only a word that
# says "stop" in some way counts as the usual one.
_HINTS: Final[tuple[tuple[End, re.Pattern[str]], ...]] = (
    ("broken", re.compile(r"error|fail|abort|cancel|malform|interrupt|unavail|timeout|disconnect|invalid|unexpected")),
    ("refused", re.compile(r"filter|safety|block|refus|moderat|sensitive|prohibit|guardrail|policy|recitation")),
    ("cut", re.compile(r"length|max|limit|trunc|incomplete|context|budget|exceed")),
    ("paused", re.compile(r"pause")),
    ("whole", re.compile(r"stop|eos|end|complete|finish|done|tool|function")),
)


def end_of(word: str) -> End:
    """Return what a finish reason means, ours or a provider's; one that nobody knows is ``broken``."""
    known = _KNOWN.get(word)
    if known is not None:
        return known
    lower = word.lower()
    return next((end for end, pattern in _HINTS if pattern.search(lower)), "broken")


def is_known_end(word: str) -> bool:
    """True for a word that stands in the table."""
    return word in _KNOWN


def finish_word(word: str, *, calls: bool = False) -> str:
    """
    Return our finish reason for a provider's: ``stop``, ``tool_calls``, ``length`` or ``content_filter``.

    A word for which we have none (of a paused or broken end) stays as it is; an empty one is ``unknown``. With
    ``calls``, a whole answer holds calls of our tools, for providers whose word does not say so.
    """
    if word == _STOP and not calls:
        return word
    if not word:
        return _CALLS if calls else _UNKNOWN
    end = end_of(word)
    if end == "whole":
        return _CALLS if calls or word in _CALLING else _STOP
    return {"cut": _LENGTH, "refused": _FILTER}.get(end, word)


def missing_word(protocol: WireProtocol, *, calls: bool, said: bool) -> str:
    """Return our finish reason for an answer that names none; ``said`` tells whether it has a text."""
    something, nothing = MISSING[protocol]
    return finish_word("", calls=calls) if (something if calls or said else nothing) == "whole" else _NO_REASON
