"""
An answer that was cut off goes on where it stopped, at servers that take a turn that was begun.

Its beginning is in their prompt cache: only the rest is paid. Servers send the rest alone, or the beginning again
before it, and one that does not know how to go on begins anew; a ``Seam`` tells these apart.
"""

from __future__ import annotations

import re
from dataclasses import replace

from dspex.protocols.lm import Capabilities, Completion, LMRequest, Message

__all__ = ["Seam", "can_go_on", "is_looping"]

_LEAST = 40
"""Characters by which an answer that begins anew is known for certain; one that was cut sooner is asked for again."""


def can_go_on(request: LMRequest, completion: Completion, able: Capabilities, effort: str | None) -> bool:
    """
    Tell whether the model can be asked for the rest of an answer: a free text that was cut by its allowance.

    Args:
        request: The question.
        completion: Its answer.
        able: The model's capabilities.
        effort: Of thinking, as the call had it; None where nobody named one.
    """
    is_text = request.output is None and not request.tools and request.params.logprobs is None
    says_only_text = not (completion.tool_calls or completion.reasoning or completion.citations)
    thinks = able.reasoning and effort != "none"
    is_one = able.prefill and is_text and not thinks and request.params.n == 1
    return is_one and completion.end == "cut" and says_only_text and len(completion.text.strip()) >= _LEAST


class Seam:
    """
    Joins the rest of an answer to its beginning, while it comes.

    Args:
        begun: The text that was cut off.

    Attributes:
        is_anew: The server did not go on: its text is a whole answer of its own.
    """

    __slots__ = ("_begun", "_held", "_is_past", "_shown", "is_anew")

    def __init__(self, begun: str) -> None:
        self._begun = begun
        self._shown = begun.strip()
        self._held = ""
        self._is_past = False
        self.is_anew = False

    def turn(self) -> Message:
        """Return the turn that the model goes on with; white space at its end, which some refuse, is left out."""
        return Message("assistant", self._begun.rstrip())

    def feed(self, text: str) -> str:
        """Take what was added; return what of it is new."""
        return self._advance(text, last=False)

    def finish(self) -> str:
        """Take note that the answer has ended; return what was held back."""
        return self._advance("", last=True)

    def joined(self, completion: Completion) -> Completion:
        """Return the whole answer for its rest."""
        seam = Seam(self._begun)
        rest = seam.feed(completion.text) + seam.finish()
        return completion if seam.is_anew else replace(completion, text=self._begun + rest)

    def _advance(self, text: str, *, last: bool) -> str:
        if self._is_past or self.is_anew:
            return "" if self.is_anew else text
        self._held += text
        same = self._held.lstrip()
        if same.startswith(self._shown):
            rest = same[len(self._shown) :]
        elif self._shown.startswith(same) and not last:
            return ""
        elif _in_common(same, self._shown) >= _LEAST:
            self.is_anew = True
            return ""
        else:
            rest = self._held
        if not rest.strip() and not last:
            return ""
        self._is_past, self._held = True, ""
        return rest[self._again(rest) :]

    def _again(self, rest: str) -> int:
        """Return how much of the white space at the start of the rest ended its beginning already."""
        ended = self._begun[len(self._begun.rstrip()) :]
        longest = min(len(ended), len(rest))
        return next((size for size in range(longest, 0, -1) if ended.endswith(rest[:size])), 0)


def _in_common(one: str, other: str) -> int:
    """Return how many characters two texts begin with alike."""
    shorter = min(len(one), len(other))
    return next((at for at in range(shorter) if one[at] != other[at]), shorter)


_NUMBERED = re.compile(r"^(\s{0,20})\d{1,6}([.):])", re.MULTILINE)
_LOOKED_AT = 3_000
_SHORTEST, _LONGEST = 24, 600
"""Characters of what is said again and again."""
_TIMES = 4
_SAID = 300
"""Characters of all of it at least: a short list may hold the same line a few times."""


def is_looping(text: str) -> bool:
    """
    Tell whether a text ends in the same sentences again and again, numbered or not: more tokens bring more of them.

    Data may repeat themselves; what holds brackets of JSON, or no letters, is not taken for sentences.
    """
    tail = _NUMBERED.sub(r"\g<1>0\2", text[-_LOOKED_AT:])
    for period in range(_SHORTEST, min(_LONGEST, len(tail) // _TIMES) + 1):
        said = tail[-period:]
        times = max(_TIMES, -(-_SAID // period))
        if len(tail) >= period * times and tail.endswith(said * times):
            return re.search(r"[^\W\d_]{3}", said) is not None and not set(said) & set("{}[]|\t")
    return False
