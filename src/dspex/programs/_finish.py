"""The tool that every agent has: the model calls it when it knows enough, with the answer where it is asked for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from dspex.errors import ResponseUnparsable
from dspex.programs._compile import Plan
from dspex.programs.adapters._adapter import Parsed
from dspex.programs.adapters._json_schema import output_schema
from dspex.programs.adapters._reading import read_object
from dspex.programs.details import Details
from dspex.programs.tools.trajectory import Observation
from dspex.protocols.call_shapes import arguments_of, is_cut
from dspex.protocols.content import ToolCall
from dspex.protocols.lm import ToolSpec

__all__ = ["DONE", "FINISH", "Finish", "Given"]

FINISH = "finish"
"""The tool's name."""

DONE = Observation("(finished)")


class Given(NamedTuple):
    """An answer that the model gave as it finished: the outputs, and the call that brought them."""

    outputs: Mapping[str, object]  # values of the fields' types
    details: Details


@dataclass(frozen=True, slots=True)
class Finish:
    """
    The finishing tool of one agent.

    Attributes:
        spec: The description of it for the model.
        wanted: The predictor whose outputs are its arguments; None where it takes none.
    """

    spec: ToolSpec
    wanted: Plan | None = None

    @classmethod
    def of(cls, plan: Plan | None) -> Finish:
        """Return the tool that takes this signature's outputs, or none."""
        if plan is None:
            return cls(ToolSpec(FINISH, "Call this when you know enough to answer; it takes no arguments."))
        schema, _ = output_schema(plan)
        return cls(ToolSpec(FINISH, "Call this when you know enough, with the answer.", schema.schema), plan)

    def take(self, call: ToolCall) -> tuple[Observation, Parsed | None]:
        """
        Return what the model is shown, and the outputs that it gave.

        Without outputs it takes none, or the observation has the error: the agent has not finished.
        """
        if self.wanted is None:
            return DONE, None
        given, arguments = (call.raw, call.arguments) if call.arguments is not None else arguments_of(call.raw)
        if arguments is None and is_cut(given):  # repaired, half an answer would pass for a whole one
            problem = ValueError("the arguments end too early")
            return Observation(f"Error: {problem}. Call `{FINISH}` again, with all of it.", problem), None
        given = given or json.dumps(arguments, ensure_ascii=False, default=str)
        try:
            return DONE, read_object(self.wanted, given)
        except ResponseUnparsable as error:
            problems = [f"`{name}` is missing" for name in error.missing_fields]
            problems += [f"`{name}`: {problem}" for name, problem in error.invalid_fields.items()]
            return Observation(f"Error: {'; '.join(problems)}. Call `{FINISH}` again, with all of it.", error), None
