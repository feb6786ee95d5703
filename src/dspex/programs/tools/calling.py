"""One call of a tool: whatever comes of it, it is something that a model can read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from dspex.errors import (
    ActorExited,
    NoSuchActor,
    NotInRequest,
    ScopeClosed,
    StepCrashed,
    ToolArgumentsInvalid,
    ToolTimeout,
)
from dspex.programs._attempts import side_by_side
from dspex.programs.adapters._call_arguments import read_arguments
from dspex.programs.tools._results import content_of
from dspex.programs.tools.tool import Tool, as_tools
from dspex.programs.tools.trajectory import Observation
from dspex.protocols.content import ToolCall
from dspex.protocols.executor import Failed
from dspex.protocols.scope import Scope, current_scope

__all__ = ["call_side_by_side", "call_tool", "call_tools"]

_SHOWN = 2_000
"""Letters of an error that a model is shown."""
_MAX_CALLS = 64
"""Calls of one turn that are made; the model is told that the others were not."""
_TOO_MANY = Observation(
    f"Error: not called; ask for at most {_MAX_CALLS} calls at once", RuntimeError("too many calls")
)


async def call_tools(tools: Iterable[object], calls: Iterable[ToolCall]) -> list[Observation]:
    """
    Make the calls that a model asks for, side by side, and return what came of each, in their order.

    For programs with a ``ToolCalls`` output of their own; ``ReAct`` does this by itself. Each call is a step of the
    request. A failure of one is its observation. Beyond 64 calls at once the rest is not made, and says so.

    Args:
        tools: Tools, or functions to be made into tools.
        calls: A ``ToolCalls``, or its elements.

    Raises:
        NotInRequest: There is no running request.
        ToolInvalid: A function cannot be a tool, or two have one name; nothing was called.
        DepsError: ``options(deps=…)`` is not what a tool needs; nothing was called.
    Cancellation: every call is cancelled.
    """
    scope = current_scope.get(None)
    if scope is None:
        raise NotInRequest("call_tools")
    known = as_tools(tools, "call_tools")
    for each in known.values():
        each.check_deps(scope.deps)
    return await call_side_by_side(known, tuple(calls), scope)


async def call_side_by_side(
    tools: Mapping[str, Tool[..., object]], calls: Sequence[ToolCall], scope: Scope
) -> list[Observation]:
    """Make the calls, as ``call_tool`` does, and return the observations in the order of the calls."""
    if len(calls) == 1:
        return [await call_tool(tools, calls[0], scope)]
    made = [partial(call_tool, tools, call, scope) for call in calls[:_MAX_CALLS]]
    seen: list[Observation] = []
    for outcome in await side_by_side(made, max_concurrency=_MAX_CALLS):
        if isinstance(outcome, Failed):
            raise outcome.reason
        seen.append(outcome.value)
    return seen + [_TOO_MANY] * (len(calls) - len(seen))


async def call_tool(tools: Mapping[str, Tool[..., object]], call: ToolCall, scope: Scope) -> Observation:
    """
    Make a call that a model asks for, as a step of the request, and return what came of it.

    Errors are observations: of the tool's own, arguments that do not fit, an unknown name, no more time. So is a step
    that was killed under a tool that is not idempotent; it is never called a second time.

    Raises:
        ScopeClosed: The request has ended.
    Cancellation: the step is cancelled.
    """
    telemetry = scope.telemetry
    if telemetry is None or not telemetry.active:
        return await _call(tools, call, scope)
    tool = tools.get(call.name)  # models make up names: who counts by them has to know which are real
    about = {"tool": call.name, "call": call.id, "known": tool is not None}
    about["description"] = tool.spec.description if tool is not None else ""
    with telemetry.within("dspex.tool", about, call.arguments) as span:
        seen = await _call(tools, call, scope)
        span.outputs, span.error = seen.content, seen.error
        return seen


async def _call(tools: Mapping[str, Tool[..., object]], call: ToolCall, scope: Scope) -> Observation:
    tool = tools.get(call.name)
    if tool is None:
        return _failed(LookupError(f"there is no tool {call.name!r}; there are {', '.join(tools) or 'none'}"))
    try:
        values = tool.check(_arguments(call, scope))
    except ToolArgumentsInvalid as error:
        return _failed(error)

    async def work() -> Observation:
        try:
            return Observation(content_of(await tool.invoke(values, scope)))
        except (ActorExited, NoSuchActor, ScopeClosed, NotInRequest):
            raise  # a service died under it: whether it may be repeated, the step decides
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a tool's failure is something for the model to read
            return _failed(error)

    try:
        return await scope.call(f"tool {tool.name}", work, idempotent=tool.idempotent, timeout=tool.timeout)
    except TimeoutError:
        return _failed(ToolTimeout(tool.name, tool.timeout or 0.0))
    except StepCrashed as error:
        return _failed(error)


def _arguments(call: ToolCall, scope: Scope) -> Mapping[str, object]:
    """Return the arguments; where they are not a JSON object, as far as they can be repaired."""
    try:
        arguments, is_repaired = read_arguments(call)
    except ValueError as error:
        raise ToolArgumentsInvalid(call.name, f"{error}; they were {call.raw[:200]!r}", "as named above") from error
    if is_repaired:
        scope.note_repair(call.name, "arguments", "json")
    return arguments


def _failed(error: BaseException) -> Observation:
    if not isinstance(error, Exception):
        error = RuntimeError(f"it wanted to end the process: {error!r}")
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return Observation(f"Error: {text[:_SHOWN]}", error)
