"""The side that asks the model: dspex, DSPy, or a plain prompt by hand."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import httpx
from pydantic import TypeAdapter

import dspex
from benchmarks.real.plain import plain_messages, read_plain
from benchmarks.real.signatures import TOOLS, make_signature
from benchmarks.real.tasks import Row, Task
from dspex.programs.adapters._adapter import ADAPTER_NAMES

__all__ = ["FORMS", "Answer", "Side", "has_dspy", "make_side"]

_PATIENCE = 1800.0
_PLAIN = TypeAdapter(Any)

FORMS = (*(f"dspex/{name}" for name in ADAPTER_NAMES), "dspy/chat", "dspy/json", "plain")


@dataclass(frozen=True, slots=True)
class Answer:
    """
    The outcome of one row.

    Attributes:
        outputs: As JSON has them; None when the answer could not be read.
        repaired: True when the model had to be asked again because its answer could not be read; None where only the
            number of calls tells.
        error: The class and the message of what was raised.
    """

    outputs: Mapping[str, Any] | None
    repaired: bool | None = None
    error: str = ""


class Side(Protocol):
    """Asks for one row; never raises for what the model says."""

    async def ask(self, inputs: Mapping[str, Any], demos: Sequence[Row], url: str) -> Answer:
        """Ask the model at ``url``."""
        ...


def has_dspy() -> bool:
    """Tell whether DSPy is installed here."""
    return importlib.util.find_spec("dspy") is not None


def make_side(form: str, task: Task, app: dspex.App, *, first_turn: bool = False) -> Side:
    """Return who asks in this form; of ours, without repair turns if only the first turn is wanted."""
    if form == "plain":
        return _Plain(task)
    side, _, adapter = form.partition("/")
    return (
        _Ours(task, adapter, app, {"repair_turns": 0} if first_turn else {})
        if side == "dspex"
        else _Theirs(task, adapter)
    )


def _as_json(value: Any) -> Any:
    return _PLAIN.dump_python(value, mode="json", fallback=str)


def _calls(found: Any) -> list[dict[str, Any]]:
    """Return calls of either side as names and arguments."""
    each_call = getattr(found, "calls", None)
    if each_call is None:
        each_call = found.tool_calls
    return [
        {"name": each.name, "args": _as_json(getattr(each, "arguments", None) or getattr(each, "args", None) or {})}
        for each in each_call
    ]


class _Ours:
    """dspex as a user has it, its App's limits those of a server on this machine."""

    def __init__(self, task: Task, adapter: str, app: dspex.App, config: Mapping[str, Any]) -> None:
        self._app = app
        signature = make_signature(task.name, dspex)
        self._task = task
        self._make: Any = dspex.ChainOfThought if task.reasons else dspex.Predict
        self._signature = signature
        self._adapter = adapter
        self._config = config
        self._tools = {"tools": [dspex.tool(each) for each in TOOLS]} if task.name == "tool" else {}

    async def ask(self, inputs: Mapping[str, Any], demos: Sequence[Row], url: str) -> Answer:
        lm = dspex.LM("llamacpp/local", api_base=url, temperature=0.0, max_tokens=self._task.max_tokens)
        shown = [{**each.inputs, **self._tools, **self._demo(each.truth)} for each in demos]
        program = self._make(self._signature, lm=lm, adapter=self._adapter, demos=shown, **self._config)
        try:
            prediction = await self._app.run(program, **inputs, **self._tools)
        except dspex.DspexError as error:
            return Answer(None, None, f"{type(error).__name__}: {error}")
        kinds = {each.kind for each in dspex.details(prediction).repairs}
        outputs = {name: getattr(prediction, name) for name in self._task.rows[0].truth if name != "reasoning"}
        if "calls" in outputs:
            return Answer({"calls": _calls(outputs["calls"])}, bool(kinds & {"turn", "fallback"}))
        return Answer(_as_json(outputs), bool(kinds & {"turn", "fallback"}))

    def _demo(self, truth: Mapping[str, Any]) -> dict[str, Any]:
        if "calls" in truth:
            return {"calls": dspex.ToolCalls([(each["name"], each["args"]) for each in truth["calls"]])}
        return dict(truth)


class _Theirs:
    """DSPy as it comes, caches off."""

    def __init__(self, task: Task, adapter: str) -> None:
        import dspy  # type: ignore[import-not-found]  # only where it is installed

        logging.getLogger("dspy").setLevel(logging.CRITICAL)
        logging.getLogger("LiteLLM").setLevel(logging.CRITICAL)
        self._dspy = dspy
        self._task = task
        signature = make_signature(task.name, dspy)
        self._program = (dspy.ChainOfThought if task.reasons else dspy.Predict)(signature)
        self._adapter = dspy.ChatAdapter() if adapter == "chat" else dspy.JSONAdapter()
        self._tools = {"tools": [dspy.Tool(each) for each in TOOLS]} if task.name == "tool" else {}

    async def ask(self, inputs: Mapping[str, Any], demos: Sequence[Row], url: str) -> Answer:
        return await asyncio.to_thread(self._ask, inputs, demos, url)

    def _ask(self, inputs: Mapping[str, Any], demos: Sequence[Row], url: str) -> Answer:
        dspy = self._dspy
        lm = dspy.LM(
            "openai/local",
            api_base=url,
            api_key="none",
            temperature=0.0,
            max_tokens=self._task.max_tokens,
            cache=False,
            num_retries=0,
            timeout=_PATIENCE,
        )
        shown = [dspy.Example(**each.inputs, **self._tools, **self._demo(each.truth)) for each in demos]
        try:
            with dspy.context(lm=lm, adapter=self._adapter):
                prediction = self._program(**inputs, **self._tools, demos=shown)
            outputs = {name: getattr(prediction, name) for name in self._task.rows[0].truth if name != "reasoning"}
            return Answer({"calls": _calls(outputs["calls"])} if "calls" in outputs else _as_json(outputs))
        except Exception as error:
            return Answer(None, None, f"{type(error).__name__}: {error}"[:600])

    def _demo(self, truth: Mapping[str, Any]) -> dict[str, Any]:
        if "calls" in truth:
            return {"calls": self._dspy.ToolCalls.from_dict_list(list(truth["calls"]))}
        return dict(truth)


class _Plain:
    """No framework."""

    def __init__(self, task: Task) -> None:
        self._task = task

    async def ask(self, inputs: Mapping[str, Any], demos: Sequence[Row], url: str) -> Answer:
        body = {
            "model": "local",
            "messages": plain_messages(self._task.name, inputs, demos),
            "temperature": 0.0,
            "max_tokens": self._task.max_tokens,
        }
        async with httpx.AsyncClient(timeout=_PATIENCE, trust_env=False) as client:
            reply = await client.post(f"{url}/chat/completions", json=body)
        try:
            text = reply.json()["choices"][0]["message"]["content"] or ""
            return Answer(_as_json(read_plain(self._task.name, text)), False)
        except (ValueError, LookupError, TypeError) as error:
            return Answer(None, False, f"{type(error).__name__}: {error}")
