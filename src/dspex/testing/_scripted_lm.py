"""A model that plays a script, for whole Apps: the flow around it is the real one."""

from __future__ import annotations

import copy
import difflib
import inspect
import re
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Unpack, cast

from pydantic_core import to_json

from dspex._random import fresh_id
from dspex.errors import ScriptExhausted, ScriptMisspelt, StreamTruncated
from dspex.protocols.content import ToolCall
from dspex.protocols.json_values import Json
from dspex.protocols.lm import Completion, LMDelta, LMRequest, LMResponse, Usage
from dspex.protocols.local import LocalLM
from dspex.protocols.params import Sampling
from dspex.protocols.scope import OnDelta
from dspex.testing._forms import LAST_LINE, asked_value, written

__all__ = ["BrokenOff", "ScriptedAnswer", "ScriptedLM", "ScriptedRequest"]

_ABLE: Final = dict.fromkeys(
    ("json_schema", "json_object", "tools", "images", "audio", "files", "seed", "logprobs"), True
)


@dataclass(frozen=True, slots=True)
class BrokenOff:
    """
    A scripted answer that does not come to its end.

    Attributes:
        answer: The answer: fields by name, or text. Only who watches the stream sees it.
        error: The error at its end; None is a StreamTruncated.
    """

    answer: str | Mapping[str, object]  # field values are of any type
    error: Exception | None = None


ScriptedAnswer = (
    str | Mapping[str, object] | ToolCall | Completion | LMResponse | BrokenOff | Exception | Sequence[object]
)  # a sequence is of these: several tool calls, or several completions
"""One answer of a script; ``ScriptedLM`` says what each means."""

Answers = Sequence[object] | Callable[[LMRequest], object]
"""``ScriptedAnswer`` in order, or what makes one, async or not; lists of mixed answers are objects to type checkers."""


@dataclass(frozen=True, slots=True)
class ScriptedRequest:
    """
    A request that a ``ScriptedLM`` got, one for each attempt.

    Attributes:
        path: Where the predictor that asked sits in its program, such as ``answer.predict``.
        request: The prompt and its parameters.
        attempt: Counts from 1 for each call.
    """

    path: str
    request: LMRequest
    attempt: int

    @property
    def prompt(self) -> str:
        """The text of the last turn."""
        return self.request.messages[-1].text


class ScriptedLM(LocalLM):
    """
    A model that answers from a script: ``App(lm=ScriptedLM([{"answer": "Ada"}]))``.

    It may stand wherever an ``LM`` may: ``App(lm=…)``, ``lms={…}``, ``options(lm=…)``, ``with_lm(…)``. No key, no
    socket, no time; everything else is as in production: retries, cache, budgets, details, streams, parsing.

    An answer is one of these:

    - fields by name, ``{"answer": "Ada"}``: written as the program's adapter asks for them; one that is misspelt is
      ScriptMisspelt;
    - a text, as a model would write it;
    - ``{"tool": "search", "arguments": {…}}``: a tool call; a list of them is several in one answer;
    - an error: raised, and tried again where the retry policy says so. The waits between attempts are skipped;
    - ``BrokenOff(…)``: an answer whose stream does not come to its end;
    - a ``Completion`` or ``LMResponse``, where every detail matters.

    Args:
        script: Answers in order; or answers by predictor path (``"answer"`` is also meant for what lies below it, such
            as ``answer.predict``); or a function of the request, async or not, which may also stand for one path's
            answers.
        model: Its name, ``provider/model``, for prices and limits. Answers in a cache on disk belong to the name;
            without one it is fresh each time.
        capabilities: The model's capabilities, where they differ from most models': write JSON by a schema, call tools,
            see, hear. With ``many=False``, as it is, each of ``n`` answers is an answer of the script.
        params: Default sampling parameters.

    Raises:
        TypeError: A path's answers are neither a list nor a function.
    """

    __slots__ = ("_asked", "_queues", "requests")

    waits: ClassVar[bool] = False
    """The retry policy decides as ever, its waits take no time."""

    requests: list[ScriptedRequest]
    """The requests, oldest first."""
    _asked: Counter[str]
    _queues: dict[str, deque[ScriptedAnswer] | Callable[[LMRequest], object]]

    def __init__(
        self,
        script: Answers | Mapping[str, Answers],
        *,
        model: str | None = None,
        capabilities: Mapping[str, bool] | None = None,
        **params: Unpack[Sampling],
    ) -> None:
        super().__init__(
            model or f"scripted/{fresh_id('lm')}", capabilities={**_ABLE, **(capabilities or {})}, **params
        )
        by_path = dict(script) if isinstance(script, Mapping) else {"": script}
        queues: dict[str, deque[ScriptedAnswer] | Callable[[LMRequest], object]] = {}
        for path, answers in by_path.items():
            if callable(answers):
                queues[path] = answers
            elif isinstance(answers, Sequence) and not isinstance(answers, str):
                queues[path] = deque(cast("Sequence[ScriptedAnswer]", answers))
            else:
                raise TypeError(f"the script for {path!r} must be a list of answers or a function, not {answers!r}")
        set_field = object.__setattr__  # the record is frozen; what it has been asked is noted beside it
        set_field(self, "_queues", queues)
        set_field(self, "_asked", Counter())
        set_field(self, "requests", [])

    @property
    def unused(self) -> Mapping[str, int]:
        """The number of answers left for each path; empty when the whole script was played."""
        return {path: len(queue) for path, queue in self._queues.items() if isinstance(queue, deque) and queue}

    async def respond(self, request: LMRequest, *, path: str, attempt: int, on_delta: OnDelta | None) -> LMResponse:
        """
        Play the next answer.

        Raises:
            ScriptExhausted: There is none for this predictor.
            ScriptMisspelt: It has a field that is spelt otherwise than the one that is asked for.
            Exception: The scripted error.
        Cancellation: the answer counts as played.
        """
        self.requests.append(ScriptedRequest(path, request, attempt))
        self._asked[path] += 1
        answer = self._next(path, request)
        if inspect.isawaitable(answer):
            answer = await answer
        _check_names(answer, request, path)
        if isinstance(answer, BrokenOff):
            if on_delta is not None:
                for piece in _pieces(_broken(answer, request)):
                    await on_delta(piece)
            raise answer.error or StreamTruncated("the scripted answer broke off")
        if isinstance(answer, Exception):
            raise copy.copy(answer)  # each attempt has a traceback of its own
        response = self._response(answer, request)
        if on_delta is not None:
            for piece in _pieces(response):
                await on_delta(piece)
        return response

    def _next(self, path: str, request: LMRequest) -> Any:  # an answer, or an awaitable of one
        for place in (*_places(path), ""):
            queue = self._queues.get(place)
            if callable(queue):
                return queue(request)
            if queue:
                return queue.popleft()
            if queue is not None:
                break
        raise ScriptExhausted(path, self._asked[path], [each for each in self._queues if each])

    def _response(self, answer: ScriptedAnswer, request: LMRequest) -> LMResponse:
        if isinstance(answer, LMResponse):
            return answer
        completions = _completions(answer, request)
        read = sum(len(each.text.split()) for each in request.messages)
        written = sum(len(each.text.split()) + 8 * len(each.tool_calls) for each in completions)
        return LMResponse(completions, Usage(read, written), self.model_name)


# --- what an answer means -----------------------------------------------------------------------------------


def _places(path: str) -> Iterator[str]:
    """Give a path and what it lies in: ``a.b[0].predict``, ``a.b[0]``, ``a.b``, ``a``."""
    while path:
        yield path
        path = path[: max(path.rfind("."), path.rfind("["), 0)]


def _completions(answer: ScriptedAnswer, request: LMRequest) -> tuple[Completion, ...]:
    if isinstance(answer, (str, Mapping, ToolCall, Completion)):
        return (_completion([answer], request),)
    if not isinstance(answer, Sequence) or not answer:
        raise TypeError(f"{answer!r} is not an answer: give fields, a text, a tool call, a Completion or an error")
    if all(_is_call(each) for each in answer):
        return (_completion(answer, request),)
    return tuple(_completion([each], request) for each in answer)


def _completion(parts: Sequence[object], request: LMRequest) -> Completion:  # each is an answer
    first = parts[0]
    if isinstance(first, Completion):
        return first
    if isinstance(first, str):
        return Completion(first)
    if _is_call(first):
        calls = tuple(_call(each, number) for number, each in enumerate(parts, 1))
        return Completion("", "tool_calls", calls)
    if not isinstance(first, Mapping):
        raise TypeError(f"{first!r} is not an answer: give fields, a text, a tool call or a Completion")
    if request.tool_choice not in ("auto", "none", "required"):  # the adapter has the outputs given as arguments
        return Completion("", "tool_calls", (_call({"tool": request.tool_choice, "arguments": first}, 1),))
    return Completion(written(first, request))


def _is_call(answer: object) -> bool:
    return isinstance(answer, ToolCall) or (isinstance(answer, Mapping) and answer.keys() == {"tool", "arguments"})


def _call(answer: object, number: int) -> ToolCall:
    if isinstance(answer, ToolCall):
        return answer
    assert isinstance(answer, Mapping)  # as `_is_call` has found
    raw = to_json(answer["arguments"]).decode()
    return ToolCall(f"call-{number}", answer["tool"], cast("Json", answer["arguments"]), raw)


# --- misspelt fields --------------------------------------------------------------------------------------------


def _check_names(answer: ScriptedAnswer, request: LMRequest, path: str) -> None:
    """
    Find a field that the script spells otherwise than the prompt does.

    A field that is like none is left alone: an answer may be wrong on purpose. A value that is asked for alone has no
    name in the answer, so that one of another name would be taken for it.

    Raises:
        ScriptMisspelt: It is like one that is asked for, and the script does not give that one; or a value alone is
            asked for, and the script gives others.
    """
    fields = answer.answer if isinstance(answer, BrokenOff) else answer
    if not isinstance(fields, Mapping) or _is_call(fields):
        return
    alone = asked_value(request)
    if alone is not None and fields and alone not in fields:
        raise ScriptMisspelt(path, str(next(iter(fields))), alone)
    asked = _names_asked(request)
    for name in fields:
        if name not in asked:
            left = [each for each in asked if each not in fields]
            if meant := difflib.get_close_matches(str(name), left, 1, _ALIKE):
                raise ScriptMisspelt(path, str(name), meant[0])


_ALIKE: Final = 0.75
_NAMES: Final = re.compile(
    r"\[\[ ## (\w+) ## \]\]|<(\w+)>|\"(\w+)\":|^(\w+)(?:: | \([^\n]*\):\Z|:\Z)|final ([\w ]+) (?:within|\()",
    re.MULTILINE,
)


def _names_asked(request: LMRequest) -> list[str]:
    """Return every name that may be a field's: of the schema, of the tool that must be called, else of the prompt."""
    schema = getattr(request.output, "schema", None)
    if schema is None:
        schema = next((each.parameters for each in request.tools if each.name == request.tool_choice), None)
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    if isinstance(properties, Mapping):
        return list(properties)
    texts = [request.messages[0].text, request.messages[-1].text]
    found = ("".join(groups) for text in texts for groups in _NAMES.findall(text))
    return list(dict.fromkeys(each.replace(" ", "_") for each in found if each != "completed"))


def _broken(answer: BrokenOff, request: LMRequest) -> LMResponse:
    given = answer.answer
    text = given if isinstance(given, str) else written(given, request).removesuffix(LAST_LINE).removesuffix("}")
    return LMResponse((Completion(text),), Usage(), "")


def _pieces(response: LMResponse) -> Iterator[LMDelta]:
    """Give an answer as a stream would: thoughts, then text, then arguments, word by word."""
    for whole in response.deltas():
        for piece in re.findall(r"\S*\s*", whole.reasoning):
            if piece:
                yield LMDelta(whole.index, reasoning=piece)
        for piece in re.findall(r"\S*\s*", whole.text):
            if piece:
                yield LMDelta(whole.index, text=piece)
        name = whole.tool_name
        for piece in re.findall(r"\S*\s*", whole.arguments):
            if piece:
                yield LMDelta(whole.index, tool=whole.tool, tool_name=name, arguments=piece)
                name = ""
