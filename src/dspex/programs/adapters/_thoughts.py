"""
The thoughts of a model before it answers, where its server leaves them in the text: taken off, and kept as reasoning.

A rehearsal in there is not the answer. Thoughts come before the format of the answer begins; what a value says about
``<think>`` afterwards is a part of the value. ``ThoughtFilter`` does for a stream what ``spoken`` does for a text.
"""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import NamedTuple

from dspex.protocols.content import ReasoningPart
from dspex.protocols.lm import Completion

__all__ = [
    "CHANNEL",
    "SPECIAL_PAIRS",
    "Spoken",
    "ThoughtFilter",
    "Thoughts",
    "UnopenedThoughts",
    "ends_in_thoughts",
    "may_hold_thoughts",
]

_NAMES = (
    r"(?:\w+:)?think(?:ing)?|think_\w{1,12}|thoughts?|thought_process|reasoning|reflection|analysis|scratch_?pad|inner_monologue"
    r"|longcat_think"
)
_HELD = 80
"""No opening or closing is longer."""
_PAIRS: tuple[tuple[str, str], ...] = (
    (rf"<\s*({_NAMES})(?:\s[^<>\n]{{0,40}})?>", ""),  # closed under the same name
    (r"\[(?:THINK|THINKING|THOUGHT|REASONING)\]", r"\[/(?:THINK|THINKING|THOUGHT|REASONING)\]"),
    (r"<\|begin_of_thought\|>", r"<\|end_of_thought\|>"),
    (r"<\|START_THINKING\|>", r"<\|END_THINKING\|>"),
    (r"<\|(?:begin_)?think(?:ing)?(?:_start)?\|>", r"<\|(?:/|end_)?think(?:ing)?(?:_end)?\|>"),
    ("\u25c1think\u25b7", "\u25c1/think\u25b7"),
    ("<unused94>", "<unused95>"),
    (r"<\|channel>\s{0,4}(?:thought|analysis)", r"<channel\|>"),
    (
        r"<\|channel\|>\s{0,4}(?:analysis|commentary(?![^<]{0,40}(?:json|to=)))[^<]{0,40}<\|message\|>",
        r"<\|end\|>|(?=<\|start\|>)|(?=<\|channel\|>)",
    ),
    (r"\A\s{0,20}analysis(?=[A-Z])", r"assistant\s{0,2}final"),
)
SPECIAL_PAIRS = _PAIRS[1:-1]
"""Openings and closings of thoughts in special tokens, which nothing else is written with."""
CHANNEL = re.compile(
    r"\A(?:<\|start\|>\s{0,4}\w{0,12})?\s{0,4}<\|channel\|>\s{0,4}final[^<]{0,40}<\|message\|>", re.IGNORECASE
)
"""The words before the answer itself, where thoughts and answer are channels."""
_AT_START = f"p{len(_PAIRS) - 1}"
_OPENS = re.compile("|".join(f"(?P<p{number}>{opening})" for number, (opening, _) in enumerate(_PAIRS)), re.IGNORECASE)
_CLOSES = tuple(re.compile(closing, re.IGNORECASE) for _, closing in _PAIRS)
_CLOSES_ANY = re.compile(
    rf"</\s*(?P<name>{_NAMES})\s*>|\[/(?:THINK|THINKING|THOUGHT|REASONING)\]|<\|end_of_thought\|>|<\|END_THINKING\|>|\u25c1/think\u25b7"
    r"|<unused95>|<channel\|>",
    re.IGNORECASE,
)
_ENDS = (
    r"<\|(?:im_end|eot_id|endoftext|end_of_text|end|return|eom_id|end_of_turn|END_RESPONSE|END_OF_TURN_TOKEN"
    r"|end_of_solution|eos|EOT|user|im_start)\|>|</s>|<end_of_turn>|<turn\|>|<eos>|<\uff5cend\u2581of\u2581sentence\uff5c>"
)
_TAIL = re.compile(rf"(?:\s{{0,20}}(?:{_ENDS}))+\s{{0,20}}\Z")
_TAIL_LENGTH = 200
_LAST_TOKEN = re.compile(r"(?:\s{0,20}<[|\uff5c/\w\u2581]{0,28}>?)+\s{0,20}\Z")
_MAY_MATTER = re.compile("[<\\[{\u25c1]")
_WRAPPED = re.compile(r"<(answer|response|output|solution|final|final_answer|result)>\s*\Z", re.IGNORECASE)
_MOST_CLOSINGS = 20
_QUOTES = " \t`'\".,;:()\u2018\u2019\u201c\u201d"


class Spoken(NamedTuple):
    """
    An answer without the thoughts before it.

    Attributes:
        text: The answer.
        thoughts: The thoughts, one paragraph for each stretch.
        unclear: True when the format of the answer stands among thoughts that begin behind its start.
    """

    text: str
    thoughts: str
    unclear: bool = False


@dataclass(frozen=True, slots=True)
class Thoughts:
    """
    Where thoughts end in one signature's answers.

    Attributes:
        begins: The beginning of an answer's format; a group ``name`` is the field's.
        fields: Names, in small letters, that are not thoughts in this format although they are written like them.
    """

    begins: re.Pattern[str]
    fields: frozenset[str] = frozenset()

    def opening(self, text: str, at: int = 0, *, fresh: bool = True) -> re.Match[str] | None:
        """Return where thoughts begin; ``fresh`` tells whether the text is the answer's from its start."""
        for found in _OPENS.finditer(text, at):
            if (found[2] or "").lower() not in self.fields and (fresh or found[_AT_START] is None):
                return found
        return None

    def spoken(self, text: str) -> Spoken:
        """Take the thoughts off a whole answer."""
        if not may_hold_thoughts(text):
            return Spoken(text, "")
        thoughts: list[str] = []
        kept: list[str] = []
        at = 0
        while (opened := self.opening(text, at)) is not None:
            begun = self.begins.search(text, at, opened.start())
            if begun is not None:
                break
            kept.append(text[at : opened.start()])
            closed = _closing(opened).search(text, opened.end())
            end = closed.start() if closed is not None else len(text)
            thoughts.append(text[opened.end() : end])
            at = closed.end() if closed is not None else end
        rest = CHANNEL.sub("", text[at:])
        start = self._end_of_unopened(rest)
        if start:
            closed = list(_CLOSES_ANY.finditer(rest, 0, start))[-1]
            thoughts.append(rest[: closed.start()])
            kept, rest = [], rest[start:]
        before = "".join(kept)
        rest = _without_wrapping(_without_end(rest), before, self.begins)
        said = "\n\n".join([each for thought in thoughts if (each := thought.strip())])
        return Spoken(before + rest, said, self._unclear(rest))

    def are_unopened(self, text: str) -> bool:
        """Tell whether a whole answer begins in thoughts whose opening was a part of the prompt."""
        return may_hold_thoughts(text) and self.opening(text) is None and self._end_of_unopened(text) > 0

    def apart(self, completion: Completion) -> Completion:
        """Return a completion whose thoughts are its reasoning; marks of a chat template behind it are dropped."""
        spoken = self.spoken(completion.text)
        if not spoken.thoughts:
            return completion if spoken.text == completion.text else replace(completion, text=spoken.text)
        reasoning = (*completion.reasoning, ReasoningPart(spoken.thoughts))
        return replace(completion, text=spoken.text.strip(), reasoning=reasoning)

    def _end_of_unopened(self, text: str) -> int:
        """Return where the answer goes on behind thoughts whose opening was a part of the prompt; 0 without any."""
        found = 0
        for number, closed in enumerate(_CLOSES_ANY.finditer(text)):
            if number >= _MOST_CLOSINGS:
                break
            if (closed["name"] or "").lower() in self.fields or _is_quoted(text, closed):
                continue
            before = self._names(text[found : closed.start()])
            if not before:
                found = closed.end()
                continue
            after = text[closed.end() :]
            if self._starts(after) and before <= self._names(after):
                found = closed.end()
        return found

    def _names(self, text: str) -> AbstractSet[str]:
        """Return the names of the fields whose marks are in a text."""
        names = "name" in self.begins.groupindex
        return {each["name"].lower() if names else "" for each in self.begins.finditer(text)} - {"completed"}

    def _starts(self, text: str) -> bool:
        """Tell whether the format begins at once, perhaps in a fence."""
        begun = self.begins.search(text)
        return begun is not None and text[: begun.start()].strip("`*#> \t\r\n").lower() in (
            "",
            "json",
            "xml",
            "text",
            "markdown",
        )

    def _unclear(self, text: str) -> bool:
        begun = self.begins.search(text)
        at = begun.start() if begun is not None else len(text)
        while (opened := self.opening(text, at)) is not None:
            at = opened.end()
            if not _at_line_start(text, opened.start()):
                continue
            closed = _closing(opened).search(text, at)
            if closed is not None and self.begins.search(text, at, closed.start()) is not None:
                return True
            at = closed.end() if closed is not None else len(text)
        return False


def may_hold_thoughts(text: str) -> bool:
    """Tell quickly that there are no thoughts in an answer, as in most; True leaves it open."""
    return "<" in text or "[/" in text or "\u25c1" in text or text.startswith("analysis")


def ends_in_thoughts(text: str) -> bool:
    """Tell whether nothing stands behind the end of thoughts whose opening was a part of the prompt."""
    end = len(text.rstrip())
    return may_hold_thoughts(text) and any(each.end() == end for each in _CLOSES_ANY.finditer(text))


class UnopenedThoughts:
    """
    Holds the beginning of an answer back until its thoughts end, where their opening was a part of the prompt.

    The reader of the answer then gets the opening as well, if it can be told from the closing.
    """

    __slots__ = ("_parts", "_tail")

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._tail = ""

    def feed(self, text: str, *, last: bool = False) -> str:
        """Take what was added; return all that came, with the opening before it, once the closing is there."""
        self._parts.append(text)
        window = self._tail + text
        self._tail = window[-_HELD:]
        for found in _CLOSES_ANY.finditer(window):
            if found.end() == len(window) and not last:  # the next character tells whether it is quoted
                return ""
            if not _is_quoted(window, found):
                return self._opened(found[0], len(window) - found.start())
        return ""

    def _opened(self, closing: str, behind: int) -> str:
        whole = "".join(self._parts)
        thoughts, rest = whole[:-behind], whole[len(whole) - behind :]
        if _OPENS.search(thoughts) is not None:
            return whole
        opening = closing.replace("/", "", 1)
        return f"{opening}{_CLOSES_ANY.sub('', thoughts)}{rest}" if opening != closing else rest[len(closing) :]

    def finish(self) -> str:
        """Take note that the answer has ended and had no thoughts; return all of it."""
        return "".join(self._parts)


def _closing(opened: re.Match[str]) -> re.Pattern[str]:
    """Return what closes these thoughts."""
    number = next(at for at in range(len(_PAIRS)) if opened[f"p{at}"] is not None)
    if number:
        return _CLOSES[number]
    return re.compile(rf"</\s*{re.escape(opened[2])}\s*>", re.IGNORECASE)


def _is_quoted(text: str, mark: re.Match[str]) -> bool:
    """Tell whether a mark is talked about: it stands in the middle of a line, with a space or a quote around it."""
    before, after = text[max(0, mark.start() - 1) : mark.start()], text[mark.end() : mark.end() + 1]
    line = text[max(0, mark.start() - _HELD) : mark.start()].rpartition("\n")[2]
    return bool(line.strip()) and before in _QUOTES and after in _QUOTES and after not in ("", "\n")


def _at_line_start(text: str, at: int) -> bool:
    return not text[max(0, at - _HELD) : at].rpartition("\n")[2].strip()


def _without_end(text: str, *, struck: bool = False) -> str:
    """Take off the marks of a chat template behind an answer."""
    start = max(0, len(text) - _TAIL_LENGTH)
    found = _TAIL.search(text, start)
    if found is None or ("</s>" in found[0] and (struck or "<s>" in text)):  # it may end a text that is struck out
        return text
    return text[: found.start()]


def _without_wrapping(text: str, before: str, begins: re.Pattern[str]) -> str:
    """Take off a tag behind an answer that opened before it began."""
    begun = begins.search(text)
    opened = _WRAPPED.search((before + text[: begun.start()])[-_HELD:]) if begun is not None else None
    if opened is None:
        return text
    closing = f"</{opened[1]}>"
    whole = text.rstrip()
    return whole[: -len(closing)].rstrip() if whole.lower().endswith(closing.lower()) else text


class ThoughtFilter:
    """
    Takes the thoughts off an answer while it comes.

    Attributes:
        is_unclear: True when the rest can only be understood when all of it is there.
    """

    __slots__ = ("_at", "_closing", "_first", "_fresh", "_handed", "_pending", "_struck", "_thoughts", "is_unclear")

    def __init__(self, thoughts: Thoughts) -> None:
        self._thoughts = thoughts
        self._pending = ""
        self._closing: re.Pattern[str] | None = None
        self._at = 0
        self._fresh = True  # whether all that came may still be a word that thoughts begin with
        self._handed = False  # whether something was handed on
        self._first = True  # whether the format has not begun
        self._struck = False  # whether a text is struck out in there
        self.is_unclear = False

    def feed(self, text: str) -> tuple[str, str]:
        """Take what was added; return what is said and what is thought of it."""
        return self._advance(self._pending + text, last=False)

    def finish(self) -> tuple[str, str]:
        """Take note that the answer has ended; return what was held back."""
        return self._advance(self._pending, last=True)

    def _advance(self, text: str, *, last: bool) -> tuple[str, str]:
        said: list[str] = []
        thought: list[str] = []
        at, length = 0, len(text)
        while at < length:
            if self._closing is not None:
                found = self._closing.search(text, at)
                if found is None:
                    end = length if last else max(at, length - _HELD)
                    thought.append(text[at:end])
                    at = end
                    break
                thought.append(text[at : found.start()] + "\n\n")
                at, self._closing = found.end(), None
                continue
            if not self._first:
                end = length if last else _safe_end(text, at)
                said.append(_without_end(text[at:], struck=self._struck) if last else text[at:end])
                self._struck = self._struck or "<s>" in text
                at = end
                break
            if not self._begin(text, at, said, last=last):
                end = length
                if not last and (self._fresh or _MAY_MATTER.search(text, max(at, length - _HELD))):
                    end = at if self._fresh else max(at, length - _HELD)
                said.append(text[at:end])
                at = end
                break
            at = self._at
        self._pending = text[at:]
        return "".join(said), "".join(thought)

    def _begin(self, text: str, at: int, said: list[str], *, last: bool) -> bool:
        """Find where thoughts or the format begin; False where neither does."""
        self._fresh = self._fresh and not at and len(text) <= _HELD and not last
        if not self._fresh and not _MAY_MATTER.search(text, at):
            return False
        opened = self._thoughts.opening(text, at, fresh=not at and not self._handed)
        begun = self._thoughts.begins.search(text, at, len(text) if opened is None else opened.start())
        if begun is not None:
            before = text[max(at, begun.start() - _HELD) : begun.start()]
            self.is_unclear = self.is_unclear or bool(_WRAPPED.search(before))
            self._first, self._at = False, at
            return True
        if opened is None:
            return False
        said.append(text[at : opened.start()])
        self._at, self._closing = opened.end(), _closing(opened)
        self._handed = True
        return True


def _safe_end(text: str, at: int) -> int:
    """Return where what may be the end mark of a chat template begins."""
    if "<" not in text[-_TAIL_LENGTH:]:
        return len(text)
    found = _LAST_TOKEN.search(text, max(at, len(text) - _TAIL_LENGTH))
    return found.start() if found is not None else len(text)
