"""An agent's thoughts, calls and observations."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

from dspex.programs.tools._results import Content, text_of_content
from dspex.programs.types.field_type import FieldType
from dspex.protocols.content import Part, TextPart, ToolCall

__all__ = ["Observation", "ToolStep", "Trajectory"]

LEFT_OUT = "(left out: the conversation had become too long)"


@dataclass(frozen=True, slots=True)
class Observation:
    """
    The outcome of a call.

    Attributes:
        content: The text for the model: the result, or the error in words.
        error: Why there is no result; None where there is one.
    """

    content: Content
    error: Exception | None = None

    @property
    def text(self) -> str:
        """The content as text; what is not text is named."""
        return text_of_content(self.content)


@dataclass(frozen=True, slots=True)
class ToolStep:
    """
    One call of an agent, and what came of it.

    Attributes:
        thought: The model's thought before it.
        call: The tool and its arguments, as the model gave them.
        observation: The text that the model was shown then.
        turn: Which of its answers asked for the call, from 0; calls of one turn ran side by side.
        left_out: True when the model is no longer shown the observation.
    """

    thought: str
    call: ToolCall
    observation: Observation
    turn: int
    left_out: bool = False

    @property
    def shown(self) -> Content:
        """The part of the observation that the model is shown."""
        return LEFT_OUT if self.left_out else self.observation.content


class Trajectory(FieldType):
    """
    The steps of an agent, oldest first; a field type, which a model reads as text with images and files in it.

    Args:
        steps: The steps.
        finished: True when the model has said that it is done.
        text: Stands for steps that are known only as text: those of a saved demonstration.
    """

    __slots__ = ("_earlier", "finished", "steps")

    def __init__(self, steps: Sequence[ToolStep] = (), *, finished: bool = False, text: str = "") -> None:
        self.steps = tuple(steps)
        self.finished = finished
        self._earlier = text

    def with_steps(self, *steps: ToolStep, finished: bool = False) -> Trajectory:
        """Return a trajectory with these steps behind the others."""
        return Trajectory((*self.steps, *steps), finished=finished, text=self._earlier)

    def shortened(self) -> Trajectory | None:
        """Return one that shows no observations of the older half of the steps that still do; None when none does."""
        shown = [at for at, step in enumerate(self.steps) if not step.left_out]
        if not shown:
            return None
        older = set(shown[: (len(shown) + 1) // 2])
        steps = [replace(step, left_out=True) if at in older else step for at, step in enumerate(self.steps)]
        return Trajectory(steps, finished=self.finished, text=self._earlier)

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[ToolStep]:
        return iter(self.steps)

    def __getitem__(self, index: int) -> ToolStep:
        return self.steps[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Trajectory) and self.to_text() == other.to_text()

    def __hash__(self) -> int:
        return hash(self.to_text())

    def __repr__(self) -> str:
        return f"Trajectory({', '.join(step.call.name for step in self.steps)})"

    # --- FieldType --------------------------------------------------------------------------------------------

    def to_text(self) -> str:
        """Return the steps as text."""
        return "".join(part.text if isinstance(part, TextPart) else "(no text)" for part in self._parts())

    def to_parts(self) -> str | tuple[Part, ...]:
        """Return the steps as text, with images and files at their places."""
        parts = self._parts()
        return self.to_text() if all(isinstance(part, TextPart) for part in parts) else tuple(parts)

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Return a trajectory that is known as text only."""
        return cls(text=text)

    def _parts(self) -> list[Part]:
        parts: list[Part] = [TextPart(self._earlier)] if self._earlier else []
        for number, step in enumerate(self.steps, 1):
            before = "\n\n" if parts else ""
            thought = f"Thought: {step.thought}\n" if step.thought else ""
            arguments = step.call.raw if step.call.arguments is None else _json(step.call.arguments)
            parts.append(TextPart(f"{before}Step {number}\n{thought}Call: {step.call.name} {arguments}\nObservation: "))
            shown = step.shown
            parts += [TextPart(shown)] if isinstance(shown, str) else shown
        return parts or [TextPart("(nothing was done yet)")]


def _json(arguments: object) -> str:
    return json.dumps(arguments, ensure_ascii=False, default=str)
