"""Errors between a program, its tools and the code that models write."""

from __future__ import annotations

from dspex.errors._programs import ProgramError
from dspex.errors._services import ServiceError

__all__ = [
    "AgentBudgetSpent",
    "CodeFailed",
    "ToolArgumentsInvalid",
    "ToolError",
    "ToolInvalid",
    "ToolServerFailed",
    "ToolTimeout",
]


class ToolError(ProgramError):
    """A call of a tool gave no result; an agent is shown the message and goes on."""


class ToolInvalid(ToolError, TypeError):
    """A function cannot be a tool, or two tools have one name; raised before anything is asked."""

    def __init__(self, tool: str, problem: str) -> None:
        self.tool = tool
        super().__init__(f"tool {tool}: {problem}")


class ToolArgumentsInvalid(ToolError, ValueError):
    """The arguments that a model gave do not fit the tool's parameters; the tool was not called."""

    def __init__(self, tool: str, problem: str, parameters: str) -> None:
        self.tool = tool
        self.problem = problem
        super().__init__(f"the arguments do not fit {tool} (its parameters: {parameters or 'none'}): {problem}")


class ToolTimeout(ToolError, TimeoutError):
    """A tool did not end in its time; it is cancelled, or left to itself where it blocks a thread."""

    def __init__(self, tool: str, seconds: float) -> None:
        self.tool = tool
        self.seconds = seconds
        super().__init__(f"{tool} did not end within {seconds:g} s")


class AgentBudgetSpent(ProgramError):
    """
    An agent took all its steps without finishing, and was told not to answer from what it has.

    Attributes:
        steps: The number of steps it took.
        trajectory: Its thoughts, calls and observations: a ``Trajectory``.
    """

    def __init__(self, agent: str, steps: int, trajectory: object) -> None:
        self.agent = agent
        self.steps = steps
        self.trajectory = trajectory
        super().__init__(f"{agent} did not finish within {steps} steps; give it max_steps=, or extract=True")


class CodeFailed(ProgramError):
    """
    The code that a model wrote failed, in every round.

    Attributes:
        code: The last one.
        problem: The error it failed with.
        rounds: The number of times the model was asked.
    """

    def __init__(self, program: str, code: str, problem: str, rounds: int) -> None:
        self.program = program
        self.code = code
        self.problem = problem
        self.rounds = rounds
        super().__init__(f"{program}: the code failed in all of {rounds} rounds, the last time with: {problem}")


class ToolServerFailed(ServiceError):
    """A server of tools cannot be started, reached or understood."""

    def __init__(self, server: str, problem: object) -> None:
        self.server = server
        super().__init__(f"the tool server {server} failed: {problem}")
