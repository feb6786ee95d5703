"""Gemini's ``generateContent``, ``streamGenerateContent``, ``countTokens`` and embeddings, under ``/v1beta/models``."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from urllib.parse import parse_qs

from dspex.simulator.dialects._checks import Json, number, parsed, plain_schema, strings, whole
from dspex.simulator.dialects._dialect import BodyInvalid, ErrorAnswer, RateAllowance, Response, Twist
from dspex.simulator.dialects._prompt import ReceivedPrompt, Said, compact, headers_of, pieces, say
from dspex.simulator.embedding import EMBEDDING_MODEL, embed
from dspex.simulator.learner import MODEL, Body, Role, tokens

__all__ = ["GeminiDialect", "asked_of"]

_JSON = ("content-type", "application/json; charset=UTF-8")
_STREAM = ("content-type", "text/event-stream")
_CALL = re.compile(r"/(?:v1|v1beta)/models/([^/:]+):(\w+)")
_LISTED = re.compile(r"/(?:v1|v1beta)/models(?:/([^/:]+))?")
_ACTIONS = (
    "generateContent",
    "streamGenerateContent",
    "countTokens",
    "embedContent",
    "batchEmbedContents",
)
_ROLES: Mapping[object, Role] = {None: "user", "user": "user", "function": "tool", "model": "assistant"}
_STATUS = {"insufficient_quota": 429, "billing": 402, "overloaded": 503, "timeout": 504, "invalid_api_key": 400}
_NAMES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    402: "FAILED_PRECONDITION",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_ENDINGS = {"length": "MAX_TOKENS", "filtered": "SAFETY"}
_BLOCKED = {Twist.REFUSAL: "SAFETY", Twist.EMPTY: "OTHER"}
_DIMENSIONS = 3072
_QUOTAS = {
    "rate_limit_exceeded": ("generate_requests_per_model", "GenerateRequestsPerMinutePerProjectPerModel"),
    "insufficient_quota": ("generate_requests_per_model_per_day", "GenerateRequestsPerDayPerProjectPerModel"),
}
_TRAP = 23.0  # the provider asks to wait seconds when a day's quota is spent, too: only the quota's id tells


class GeminiDialect:
    """The generateContent dialect."""

    name = "gemini"
    base = ""
    request_id_header = "x-request-id"

    def claims(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> bool:
        """Say whether this dialect answers a method and path."""
        if method == "GET":
            ours = path.startswith("/v1beta/") or "x-goog-api-key" in (headers or {})
            return ours and _LISTED.fullmatch(path) is not None
        found = _CALL.fullmatch(path)
        return method == "POST" and found is not None and found[2] in _ACTIONS

    def key(self, headers: Mapping[str, str], query: str = "") -> str | None:
        """Return the key of a request, sent in a header of its own or in the query."""
        return headers.get("x-goog-api-key") or next(iter(parse_qs(query).get("key", ())), None)

    def lacks(self, headers: Mapping[str, str]) -> str | None:
        """Need no header."""
        return None

    def respond(self, target: str, body: bytes, twist: Twist = Twist.PLAIN) -> Response:
        """Answer a request it claims."""
        path, _, query = target.partition("?")
        if (listed := _LISTED.fullmatch(path)) is not None:
            return _models(listed[1])
        called = _CALL.fullmatch(path)
        assert called is not None, "the path was claimed"
        model, action = called.groups()
        try:
            wanted = parsed(body)
            match action:
                case "embedContent" | "batchEmbedContents":
                    return _embeddings(wanted, batch=action == "batchEmbedContents")
                case "countTokens":
                    inner = _member(wanted, "generateContentRequest")
                    asked = asked_of(inner if isinstance(inner, Mapping) else wanted, model)
                    return Response(200, (_JSON,), (compact({"totalTokens": asked.prompt}),))
            asked = asked_of(wanted, model, streams=action == "streamGenerateContent")
            said = () if twist in _BLOCKED else say(asked, twist)
        except BodyInvalid as error:
            return self.failure(error.failure())
        return _response(body, asked, said, _BLOCKED.get(twist), sse=parse_qs(query).get("alt") == ["sse"])

    def failure(self, failure: ErrorAnswer) -> Response:
        """Say in Google's form that a request failed; how long to wait stands in the body."""
        error = _error(failure)
        status = _STATUS.get(failure.code or "", failure.status)
        return Response(status, (_JSON,), (compact({"error": error}),))

    def broken(self, failure: ErrorAnswer, at: int) -> bytes:
        """Say it inside a stream, in the place of a piece."""
        return b"data: %b\r\n\r\n" % compact({"error": _error(failure)})

    def allowance(self, limits: Mapping[str, RateAllowance], now: datetime) -> tuple[tuple[str, str], ...]:
        """Say nothing: this provider has no such headers."""
        return ()


def _error(failure: ErrorAnswer) -> dict[str, object]:
    status = _STATUS.get(failure.code or "", failure.status)
    details: list[dict[str, object]] = []
    wait = failure.retry_after
    if (quota := _QUOTAS.get(failure.code or "")) is not None:
        violation = {"quotaMetric": f"generativelanguage.googleapis.com/{quota[0]}", "quotaId": quota[1]}
        details.append({"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]})
        wait = _TRAP if failure.code == "insufficient_quota" else wait
    if failure.code == "invalid_api_key":
        details.append({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"})
    if wait is not None:
        details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{wait:g}s"})
    message = failure.message
    if failure.code == "context_length_exceeded":
        message = f"The input token count exceeds the maximum number of tokens allowed. {message}"
    named = _NAMES.get(status, "INTERNAL" if status >= 500 else "INVALID_ARGUMENT")
    return {"code": status, "message": message, "status": named, **({"details": details} if details else {})}


def _models(name: str | None) -> Response:
    def one(called: str, *actions: str) -> dict[str, object]:
        return {"name": f"models/{called}", "displayName": called, "supportedGenerationMethods": actions}

    if name:
        return Response(200, (_JSON,), (compact(one(name, *_ACTIONS)),))
    listed = [one(MODEL, *_ACTIONS[:3]), one(EMBEDDING_MODEL, *_ACTIONS[3:])]
    return Response(200, (_JSON,), (compact({"models": listed}),))


def _member(value: object, name: str) -> object:
    """Return a member of an object, written as one word or with underscores: both are the same message."""
    if not isinstance(value, Mapping):
        return None
    return value.get(name, value.get(re.sub("([A-Z])", lambda found: f"_{found[1].lower()}", name)))


def asked_of(body: Json, model: str, *, streams: bool = False) -> ReceivedPrompt:
    """
    Read a generateContent body.

    Raises:
        BodyInvalid: A member is missing, of the wrong type or out of range.
    """
    contents = body.get("contents")
    if isinstance(contents, Mapping):
        contents = [contents]
    if not isinstance(contents, list) or not contents:
        raise BodyInvalid("contents", "a non-empty list")
    found = _member(body, "generationConfig")
    if found is not None and not isinstance(found, Mapping):
        raise BodyInvalid("generationConfig", "an object")
    config = {name: _member(found, name) for name in _CONFIG}
    turns = [turn for at, one in enumerate(contents) for turn in _turns(one, f"contents[{at}]")]
    system = _member(body, "systemInstruction")
    held: list[tuple[Role, str]] = []
    if system is not None:
        held = [("system", _text(_parts(system, "systemInstruction")))]
    temperature = number(config, "temperature", 0, 2)
    read = Body(
        messages=(*held, *turns),
        tools=tuple(_tools(body.get("tools"))),
        tool_choice=_tool_choice(_member(_member(body, "toolConfig"), "functionCallingConfig")),
        schema=_schema(config),
        temperature=1.0 if temperature is None else temperature,
        seed=whole(config, "seed", -(2**31), 2**31 - 1),
        n=whole(config, "candidateCount", 1, 8) or 1,
        stop=strings(config, "stopSequences", 5),
        limit=whole(config, "maxOutputTokens", 1, 2**31 - 1),
        model=model,
    )
    seen = ("text", "functionCall", "function_call", "functionResponse", "function_response")
    parts = [part for one in contents for part in _parts(one, "contents")]
    return ReceivedPrompt(
        read, streams=streams, unseen=sum(1 for part in parts if not any(name in part for name in seen))
    )


_CONFIG = (
    *("temperature", "seed", "candidateCount", "stopSequences", "maxOutputTokens"),
    *("responseMimeType", "responseSchema", "responseJsonSchema"),
)


def _parts(content: object, at: str) -> list[Json]:
    parts = content.get("parts") if isinstance(content, Mapping) else None
    parts = [parts] if isinstance(parts, Mapping) else parts
    if not isinstance(parts, list) or not all(isinstance(part, Mapping) for part in parts):
        raise BodyInvalid(f"{at}.parts", "a list of parts")
    return parts


def _text(parts: Sequence[Json]) -> str:
    return "".join(text for part in parts if isinstance(text := part.get("text"), str) and not part.get("thought"))


def _turns(content: object, at: str) -> Iterator[tuple[Role, str]]:
    """Read a content; what tools said in it stands before what the user says, as turns of its own."""
    parts = _parts(content, at)
    role = content.get("role") if isinstance(content, Mapping) else None
    if role is not None and not (isinstance(role, str) and role in _ROLES):
        raise BodyInvalid(f"{at}.role", "user or model")
    results = [found for part in parts if isinstance(found := _member(part, "functionResponse"), Mapping)]
    for one in results:
        yield "tool", _result(one.get("response"))
    if not results or _text(parts):
        yield _ROLES[role], _text(parts)


def _result(value: object) -> str:
    """Return what a tool said: the one value of its object if that is a text, else the object as JSON."""
    held = list(value.values()) if isinstance(value, Mapping) else [value]
    if len(held) == 1 and isinstance(held[0], str):
        return held[0]
    return json.dumps(held[0] if len(held) == 1 else value, ensure_ascii=False)


def _tools(value: object) -> Iterator[Json]:
    if value is not None and not isinstance(value, list):
        raise BodyInvalid("tools", "a list")
    for at, tool in enumerate(value or ()):
        declared = _member(tool, "functionDeclarations")
        if not isinstance(declared, list):
            raise BodyInvalid(f"tools[{at}]", "functionDeclarations; the simulator has no tools of its own")
        for one in declared:
            name = one.get("name") if isinstance(one, Mapping) else None
            if not isinstance(name, str) or not name:
                raise BodyInvalid(f"tools[{at}].functionDeclarations", "functions with names")
            schema = _member(one, "parameters") or _member(one, "parametersJsonSchema")
            parameters = plain_schema(schema) if isinstance(schema, Mapping) else {}
            yield {"name": name, "description": str(one.get("description") or ""), "parameters": parameters}


def _tool_choice(value: object) -> str:
    mode, allowed = _member(value, "mode"), _member(value, "allowedFunctionNames")
    if mode is None:
        return "auto"
    choice = {"AUTO": "auto", "ANY": "required", "NONE": "none", "VALIDATED": "auto"}.get(str(mode))
    if choice is None:
        raise BodyInvalid("toolConfig.functionCallingConfig.mode", "AUTO, ANY or NONE")
    if choice == "required" and isinstance(allowed, list) and len(allowed) == 1:
        return f"={allowed[0]}"
    return choice


def _schema(config: Json) -> Json | None:
    schema = config.get("responseJsonSchema") or config.get("responseSchema")
    if config.get("responseMimeType") != "application/json":
        if schema is not None:
            raise BodyInvalid("generationConfig.responseMimeType", "application/json beside a schema")
        return None
    return plain_schema(schema) if isinstance(schema, Mapping) else {}


def _response(body: bytes, asked: ReceivedPrompt, said: Sequence[Said], blocked: str | None, *, sse: bool) -> Response:
    prompt, completion = asked.prompt, sum(one.tokens for one in said)
    usage: dict[str, object] = {
        "promptTokenCount": prompt,
        **({"candidatesTokenCount": completion} if said else {}),
        "totalTokenCount": prompt + completion,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": prompt}],
    }
    head: dict[str, object] = {
        "usageMetadata": usage,
        "modelVersion": MODEL,
        "responseId": hashlib.sha256(body).hexdigest()[:24],
    }
    if blocked is not None:
        head = {"promptFeedback": {"blockReason": blocked}, **head}
    rule = headers_of(said, asked)
    if not asked.streams:
        candidates = [_candidate(index, one, [_part(one)], done=True) for index, one in enumerate(said)]
        made = compact({**({"candidates": candidates} if said else {}), **head})
        return Response(200, (_JSON, *rule), (made,), prompt=prompt, completion=completion)
    events: list[dict[str, object]] = [{"candidates": [one], **head} for one in _pieces(said)] or [head]
    if sse:
        parts = [b"data: %b\r\n\r\n" % compact(one) for one in events]
    else:  # one JSON array, in as many parts
        parts = [(b",\r\n" if at else b"[") + compact(one) for at, one in enumerate(events)]
        parts.append(b"]")
    return Response(
        200,
        (_STREAM if sse else _JSON, *rule),
        tuple(parts),
        is_stream=True,
        ending=1 if sse else 2,
        prompt=prompt,
        completion=completion,
    )


def _part(said: Said) -> dict[str, object]:
    if said.tool is None:
        return {"text": said.text}
    try:
        arguments = json.loads(said.text)
    except ValueError:  # cut by the limit of tokens
        arguments = {}
    return {"functionCall": {"name": said.tool, "args": arguments}}


def _candidate(index: int, said: Said, parts: Sequence[object], *, done: bool) -> dict[str, object]:
    content = {"parts": parts, "role": "model"}
    reason = {"finishReason": _ENDINGS.get(said.ending, "STOP")} if done else {}
    return {"content": content, **reason, "index": index}


def _pieces(choices: Sequence[Said]) -> Iterator[dict[str, object]]:
    for index, said in enumerate(choices):
        parts: list[object] = [_part(said)]
        if said.tool is None:
            parts = [{"text": piece} for piece in pieces(said.text)]
        for part in parts:
            yield _candidate(index, said, [part], done=False)
        yield _candidate(index, said, [{"text": ""}], done=True)


def _embeddings(body: Json, *, batch: bool) -> Response:
    requests = body.get("requests") if batch else [body]
    if not isinstance(requests, list) or not 0 < len(requests) <= 100:
        raise BodyInvalid("requests", "from 1 to 100 requests")
    found: list[dict[str, object]] = []
    texts: list[str] = []
    for at, one in enumerate(requests):
        if not isinstance(one, Mapping):
            raise BodyInvalid(f"requests[{at}]", "an object")
        config = one.get("embedContentConfig") or one
        wanted = {"outputDimensionality": _member(config, "outputDimensionality")}
        dimensions = whole(wanted, "outputDimensionality", 1, _DIMENSIONS) or _DIMENSIONS
        texts.append(_text(_parts(one.get("content"), f"requests[{at}].content")))
        found.append({"values": embed(texts[-1], dimensions)})
    prompt = sum(map(tokens, texts))
    usage = {"usageMetadata": {"promptTokenCount": prompt}}
    made = {"embeddings": found, **usage} if batch else {"embedding": found[0], **usage}
    return Response(200, (_JSON,), (compact(made),), prompt=prompt)
