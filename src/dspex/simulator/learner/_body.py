"""The learner's input and output; each dialect makes the input and sends the output."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal

Role = Literal["system", "user", "assistant", "tool"]
Finish = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """
    Everything a reply may depend on; a message is who speaks and what is said.

    `tools` are objects with a name, a description and parameters; `tool_choice` is ``auto``, ``none``, ``required``
    or a tool's name after an equals sign. `schema` is the JSON schema asked for, free of
    references and unions; empty for any object, None for text. `choices` are the texts of which the answer must be one.
    """

    messages: tuple[tuple[Role, str], ...]
    tools: tuple[Mapping[str, object], ...] = ()
    tool_choice: str = "auto"
    schema: Mapping[str, object] | None = None
    temperature: float = 1.0
    seed: int | None = None
    n: int = 1
    stop: tuple[str, ...] = ()
    limit: int | None = None
    model: str = ""
    choices: tuple[str, ...] = ()

    def canonical(self) -> bytes:
        """Write the body in one way only: what the random numbers of a reply are seeded with."""
        said = [getattr(self, one.name) for one in fields(self)]
        return json.dumps(said if self.choices else said[:-1], sort_keys=True).encode()  # as it was without them


@dataclass(frozen=True, slots=True)
class LearnerReply:
    """One completion: text, or a tool's name with its arguments as text; and the rule it follows, with its p."""

    text: str
    tool: str | None
    finish: Finish
    rule: str
    p: float
    demos: int
    tokens: int
