"""The treatment of an answer that is not whole: a larger allowance, a shorter answer, the rest of a turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dspex.errors import ResponseIncomplete
from dspex.protocols.lm import Completion, LMRequest, Message
from dspex.protocols.model import LM
from dspex.protocols.scope import LMResult

__all__ = ["MAX_PAUSES", "incomplete", "joined", "larger", "shorter_turns"]

MAX_PAUSES = 16
"""The number of times one answer may pause: a provider's own searches pause a turn every ten or so."""

_FACTOR = 4
_LEAST = 1_024
"""Tokens of a larger allowance at least: an answer of a few dozen is often cut inside its format alone."""
_ASSUMED = 4_096
"""Tokens of the allowance where nobody set or counted one."""
_SHOWN = 300
"""Characters of a cut answer that the model is shown."""


def larger(request: LMRequest, result: LMResult) -> int | None:
    """
    Return how many tokens the answer may have when it is asked for again.

    None where more would not help: the answer ended well before its allowance, so the model's window is full.
    """
    own = result.lm.params.max_tokens if isinstance(result.lm, LM) else None
    limit = request.params.max_tokens if request.params.max_tokens is not None else own
    usage = result.response.usage
    written = usage.output_tokens if not usage.estimated_tokens else 0
    if limit is None:
        return max(_FACTOR * (written or _ASSUMED), _LEAST)
    if 0 < written < limit // 2:
        return None
    return max(_FACTOR * limit, _LEAST)


def shorter_turns(completion: Completion) -> tuple[Message, ...]:
    """Return the turns that show a model the beginning of its answer, and ask for a shorter one."""
    text = completion.text.strip()
    shown = text if len(text) <= _SHOWN else text[:_SHOWN] + " …"
    ask = "Your answer was too long and was cut off. Please write all of it again, much shorter."
    return (Message("assistant", shown or "(nothing)"), Message("user", ask))


def incomplete(name: str, result: LMResult, completion: Completion) -> ResponseIncomplete:
    """Return the error for an answer that stays cut off; its attempts are those of the last call."""
    tokens = result.response.usage.output_tokens
    after = f" after {tokens:,} tokens" if tokens else ""
    if completion.end == "paused":
        problem = f"the answer for {name} paused {MAX_PAUSES} times and is not whole"
    else:
        problem = f"the answer for {name} was cut off{after}; raise max_tokens, or ask for less"
    if not completion.text and completion.reasoning and completion.end == "cut":
        problem += " (all of it were thoughts: a lower reasoning effort helps, too)"
    error = ResponseIncomplete(
        problem, partial=completion.text, reason=completion.finish_reason, request_id=result.response.request_id
    )
    error.usage = result.response.usage
    error.attempts = result.attempts
    return error


def joined(paused: Sequence[Completion], last: Completion) -> Completion:
    """Return one answer for a turn that paused: all of its text, and the end and calls of its last part."""
    texts = [each.text for each in (*paused, last) if each.text]
    thoughts = tuple(part for each in paused for part in each.reasoning if part.text)
    return replace(last, text="\n\n".join(texts), reasoning=(*thoughts, *last.reasoning))
