"""A prompt in neutral words, translated from any dialect's body, and the learner's answer to it."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Literal

from dspex.simulator.dialects._dialect import BodyInvalid, Twist
from dspex.simulator.learner import Body, LearnerReply, answer, tokens

__all__ = ["WINDOW", "Ending", "ReceivedPrompt", "Said", "compact", "event", "headers_of", "pieces", "say", "too_long"]

WINDOW = 32_768  # tokens of prompt
Ending = Literal["stop", "stop_sequence", "length", "tool_calls", "refusal", "filtered"]
_REFUSAL = "The request was refused because the fault plan says so."
_PIECE = re.compile(r"\S+\s*|\s+")


@dataclass(frozen=True, slots=True)
class ReceivedPrompt:
    """
    A request in no provider's words.

    Attributes:
        body: Everything a reply may depend on.
        streams: True when the answer comes in pieces.
        unseen: Parts that are not text: images, audio, files. They are accepted, and the learner does not see them.
    """

    body: Body
    streams: bool = False
    unseen: int = 0

    @property
    def prompt(self) -> int:
        """Tokens of the messages and tools."""
        tools = json.dumps(self.body.tools) if self.body.tools else ""
        return tokens("".join(text for _, text in self.body.messages) + tools)


@dataclass(frozen=True, slots=True)
class Said:
    """One choice: text, or a tool's name with its arguments as JSON text."""

    reply: LearnerReply
    text: str
    ending: Ending
    stopped_by: str | None = None

    @property
    def tool(self) -> str | None:
        """The tool that is called, if one is."""
        return self.reply.tool if self.ending not in ("refusal", "filtered") else None

    @property
    def tokens(self) -> int:
        """Tokens of the text."""
        return tokens(self.text)


class _Unstopped(Body):
    """A body read without its stop sequences, whose random draws are those of the whole body."""

    def __init__(self, body: Body) -> None:
        given = {one.name: getattr(body, one.name) for one in fields(body)}
        super().__init__(**{**given, "stop": (), "limit": None})
        self._whole: bytes  # frozen, so it is set as the dataclass sets its own
        object.__setattr__(self, "_whole", body.canonical())

    def canonical(self) -> bytes:
        return self._whole


def say(asked: ReceivedPrompt, twist: Twist = Twist.PLAIN) -> tuple[Said, ...]:
    """
    Answer every choice that was asked for.

    Raises:
        BodyInvalid: The prompt is longer than the window.
    """
    if asked.prompt > WINDOW:
        raise too_long(asked.prompt)
    choices = (_said(asked.body, index) for index in range(asked.body.n))
    match twist:
        case Twist.REFUSAL:
            return tuple(Said(one.reply, _REFUSAL, "refusal") for one in choices)
        case Twist.FILTERED:
            return tuple(Said(one.reply, one.text[: len(one.text) // 2], "filtered") for one in choices)
        case Twist.EMPTY:
            return ()
    return tuple(choices)


def too_long(prompt: int) -> BodyInvalid:
    """Return the error for a prompt that does not fit; its message is the one clients look for words in."""
    message = (
        f"This model's maximum context length is {WINDOW} tokens. However, your messages resulted in {prompt} tokens."
    )
    return BodyInvalid("messages", message, code="context_length_exceeded")


def _said(body: Body, index: int) -> Said:
    reply = answer(body, index)
    if reply.tool is not None or not body.stop:
        return Said(reply, reply.text, reply.finish)
    whole = answer(_Unstopped(body), index).text
    found = min(((at, stop) for stop in body.stop if (at := whole.find(stop)) >= 0), default=None)
    if found is None or reply.finish == "length":
        return Said(reply, reply.text, reply.finish)
    return Said(reply, reply.text, "stop_sequence", found[1])


def pieces(text: str) -> list[str]:
    """Cut a text into words with the space after them: what one event of a stream carries."""
    return _PIECE.findall(text)


def headers_of(said: Iterable[Said], asked: ReceivedPrompt) -> tuple[tuple[str, str], ...]:
    """Say which rule was followed, and how much of the request the learner could not see."""
    first = next(iter(said), None)
    rule = "none; p=1.00; demos=0"
    if first is not None:
        rule = f"{first.reply.rule}; p={first.reply.p:.2f}; demos={first.reply.demos}"
    unseen = (("x-simulator-unseen", f"{asked.unseen} parts that are not text"),) if asked.unseen else ()
    return (("x-simulator-rule", rule), *unseen)


def compact(value: object) -> bytes:
    """Write a JSON value as providers do: text as it is, unless it cannot be written as UTF-8."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    try:
        return text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, sent as an escape
        return json.dumps(value, separators=(",", ":")).encode()


def event(name: str, value: object) -> bytes:
    """Write a server-sent event; one without a name is data alone."""
    head = b"event: %b\n" % name.encode() if name else b""
    return b"%bdata: %b\n\n" % (head, compact(value))
