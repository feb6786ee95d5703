"""The rule for an answer once a wire has read it: one record and one rule for every protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from dspex.errors import ContentRefused, ResponseInvalid
from dspex.protocols.lm import Completion, LMResponse, Usage
from dspex.services.lm.wires._errors import billed
from dspex.services.lm.wires._headers import x_headers
from dspex.services.lm.wires._json import SHOWN

__all__ = ["FILTERED", "Answer", "Choice"]

FILTERED: Final = "withheld by the content filter"
"""The reason shown where the provider gives none."""


class Choice(NamedTuple):
    """
    One of the ``n`` answers, as the wire read it.

    Attributes:
        place: Its number among them.
        completion: The content; its ``end`` decides about it.
        refusal: The message for the user where it was withheld.
        code: The provider's word for the reason.
        withheld: It was refused, whatever its finish reason says.
    """

    place: int
    completion: Completion
    refusal: str = f"the model refused to answer: {FILTERED}"
    code: str = "content_filter"
    withheld: bool = False


@dataclass(slots=True)
class Answer:
    """
    The frame of one answer, whole or streamed: what surrounds the choices.

    Attributes:
        noun: The protocol's word for it, for messages.
        status: The HTTP status.
        headers: The answer's, names in lower case.
        request_id: The provider's id of the request.
        usage: The provider's count.
        model: Which model answered, in the provider's words.
        id: The answer's own name.
    """

    noun: str
    status: int
    headers: Mapping[str, str]
    request_id: str | None = None
    usage: Usage = field(default_factory=Usage)
    model: str = ""
    id: str = ""

    def invalid(self, problem: str) -> ResponseInvalid:
        """Return the error for a success that is not an answer of this protocol."""
        message = f"the provider's answer is not {self.noun}: {problem}"
        return billed(ResponseInvalid(message, status=self.status, request_id=self.request_id), self.usage)

    def response(self, choices: Sequence[Choice]) -> LMResponse:
        """
        Return the response: the choices that are whole, cut or paused, by their place.

        Half an answer may parse as a whole one, so the end of each decides and not its text.

        Raises:
            ContentRefused: Nothing is left, and a choice was withheld; it speaks for the first that has a text.
            ResponseInvalid: Nothing is left, because the provider broke off.
        """
        left: list[Choice] = []
        refused: list[Choice] = []
        for each in choices:
            end = each.completion.end
            if each.withheld or end == "refused":
                refused.append(each)
            elif end != "broken":
                left.append(each)
        if not left:
            if not refused:
                reasons = ", ".join(dict.fromkeys(each.completion.finish_reason for each in choices))
                raise self.invalid(f"the provider broke off ({reasons[:SHOWN]})" if choices else "it is empty")
            told = next((each for each in refused if each.completion.text), refused[0])
            problem = told.refusal[:SHOWN]
            partial = told.completion.text
            error = ContentRefused(
                problem, status=self.status, code=told.code, request_id=self.request_id, partial=partial
            )
            raise billed(error, self.usage)
        if len(left) > 1:
            left.sort(key=lambda each: each.place)
        return LMResponse(
            completions=tuple([each.completion for each in left]),
            usage=self.usage,
            model=self.model,
            request_id=self.request_id,
            headers=x_headers(self.headers),
            withheld=len(choices) - len(left),
            id=self.id,
        )
