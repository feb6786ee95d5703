"""Written-out answers and streams of Gemini's generateContent, for the tests of its wire."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["RICH", "RICH_STREAM", "answer", "piece", "problem", "stream"]


def answer(*parts: dict[str, Any], finish: str = "STOP", **fields: Any) -> dict[str, Any]:
    candidate = {"content": {"role": "model", "parts": list(parts)}, "finishReason": finish, "index": 0}
    return {
        "candidates": [{**candidate, **fields.pop("candidate", {})}],
        "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 7, "totalTokenCount": 17},
        "modelVersion": "gemini-2.5-flash",
        "responseId": "resp_1",
        **fields,
    }


def piece(*parts: dict[str, Any], finish: str = "", **fields: Any) -> dict[str, Any]:
    """Return an event of a stream: an answer whose candidate may not have ended."""
    whole = answer(*parts, finish=finish, **fields)
    if not finish:
        del whole["candidates"][0]["finishReason"]
    return whole


def problem(code: int, status: str, *details: dict[str, Any], message: str = "no") -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "status": status, "details": list(details)}}


def stream(*events: dict[str, Any]) -> bytes:
    return b"".join(f"data: {json.dumps(each)}\r\n\r\n".encode() for each in events)


_CODE = {"executableCode": {"language": "PYTHON", "code": "print(1)"}}
_CALL = {"functionCall": {"name": "weather", "args": {"city": "Köln", "days": 2}}, "thoughtSignature": "c2ln"}
_OTHER = {"functionCall": {"id": "fc_9", "name": "time", "args": {}}}
_GROUNDING = {
    "groundingChunks": [{"web": {"uri": "https://example.com/ulm", "title": "Ulm"}}],
    "groundingSupports": [
        {"segment": {"endIndex": 10, "text": "Köln: sun"}, "groundingChunkIndices": [0, 7]},
        {"segment": {"startIndex": 12, "endIndex": 16, "text": "Ulm:"}, "groundingChunkIndices": [0]},
    ],
}
_RECITED = {"citations": [{"startIndex": 12, "endIndex": 15, "uri": "https://example.com/book", "title": "Book"}]}
_COUNTS = {
    "promptTokenCount": 100,
    "toolUsePromptTokenCount": 20,
    "cachedContentTokenCount": 64,
    "candidatesTokenCount": 30,
    "thoughtsTokenCount": 40,
    "totalTokenCount": 190,
}
_LOGPROBS: dict[str, Any] = {
    "chosenCandidates": [{"token": "K", "logProbability": -0.5}, {"token": "ö", "logProbability": -1.5}],
    "topCandidates": [{"candidates": [{"token": "K", "logProbability": -0.5}, {"token": "U", "logProbability": -2}]}],
}

RICH: dict[str, Any] = answer(
    {"text": "The user asks…", "thought": True},
    {"text": "Köln: sun. "},
    _CODE,
    {"text": "Ulm: rain.", "thoughtSignature": "dGV4dA=="},
    _CALL,
    _OTHER,
    candidate={"groundingMetadata": _GROUNDING, "citationMetadata": _RECITED, "logprobsResult": _LOGPROBS},
    usageMetadata=_COUNTS,
)

RICH_STREAM: list[dict[str, Any]] = [
    piece({"text": "The user ", "thought": True}, usageMetadata={"promptTokenCount": 100}),
    piece({"text": "asks…", "thought": True}),
    piece({"text": "Köln: "}, candidate={"logprobsResult": {"chosenCandidates": _LOGPROBS["chosenCandidates"][:1]}}),
    piece(
        {"text": "sun. "},
        _CODE,
        candidate={
            "logprobsResult": {
                "chosenCandidates": _LOGPROBS["chosenCandidates"][1:],
                "topCandidates": _LOGPROBS["topCandidates"],
            }
        },
    ),
    piece({"text": "Ulm: "}),
    piece({"text": "rain.", "thoughtSignature": "dGV4dA=="}, candidate={"citationMetadata": _RECITED}),
    piece(_CALL, _OTHER),
    piece(finish="STOP", candidate={"groundingMetadata": _GROUNDING}, usageMetadata=_COUNTS),
]
"""The same answer as ``RICH``."""
