"""Texts of which an answer must be one, in the words of llama.cpp, vLLM and SGLang."""

import json
import re

from dspex.simulator.dialects._checks import Json, strings
from dspex.simulator.dialects._dialect import BodyInvalid

__all__ = ["choices_of"]

_LITERAL = r'"((?:[^"\\\n]|\\.)*)"'
_GRAMMAR = re.compile(rf"root ::= {_LITERAL}(?: \| {_LITERAL})*")
_OPTION = r"((?:[^|()\\]|\\.)+)"
_PATTERN = re.compile(rf"\({_OPTION}(?:\|{_OPTION})*\)")
_BLANK = {"n": "\n", "r": "\r", "t": "\t"}
_MOST = 100_000


def choices_of(body: Json) -> tuple[str, ...]:
    """
    Read the choices of a body; empty where there is no ``grammar``, ``structured_outputs``, ``regex`` or ``ebnf``.

    Raises:
        BodyInvalid: It is a grammar of another kind, which this simulator does not follow.
    """
    structured = body.get("structured_outputs") or {}
    if not isinstance(structured, dict):
        raise BodyInvalid("structured_outputs", "an object")
    asked = {**{name: body.get(name) for name in ("grammar", "ebnf", "regex")}, **structured}
    if asked.get("choice") is not None:
        return strings(asked, "choice", _MOST)
    grammar = asked["grammar"] or asked["ebnf"]
    if grammar:
        _fits(_GRAMMAR, grammar, "grammar")
        return tuple(json.loads(f'"{each}"') for each in re.findall(_LITERAL, str(grammar)))
    if asked["regex"]:
        _fits(_PATTERN, asked["regex"], "regex")
        found = re.findall(_OPTION, str(asked["regex"])[1:-1])
        return tuple(re.sub(r"\\(.)", lambda match: _BLANK.get(match[1], match[1]), each) for each in found)
    return ()


def _fits(pattern: re.Pattern[str], value: object, name: str) -> None:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise BodyInvalid(name, "texts to choose from and nothing else: no other grammar is followed here")
