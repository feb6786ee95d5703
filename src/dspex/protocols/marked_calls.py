"""Tool calls in the marks that models were trained to write, for servers that hand them on as text."""

from __future__ import annotations

import ast
import json
import re
from typing import Final

__all__ = ["has_marks", "has_too_many_marks", "marked_calls", "python_calls", "words_before_calls"]

_SPACE: Final = r"\s{0,20}"
_JSON: Final = rf"{_SPACE}(?:```\w{{0,8}}{_SPACE})?(?P<given>\{{.*?\}}){_SPACE}(?:```)?{_SPACE}"
_NAME: Final = r"(?:functions\.)?(?P<name>[\w.\-]{1,100})"
_BEGIN: Final = r"<\uff5ctool\u2581call\u2581begin\uff5c>"
_SEPARATOR: Final = r"<\uff5ctool\u2581sep\uff5c>"
_FORMAT: Final = rf"(?:<\|channel\|>\w{{0,20}})?{_SPACE}(?:<\|constrain\|>{_SPACE})?(?:json)?"
_WITH_JSON: Final = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        # DeepSeek, of two generations.
        rf"{_BEGIN}(?:function{_SEPARATOR})?{_NAME}(?:{_SEPARATOR})?{_JSON}<\uff5ctool\u2581call\u2581end\uff5c>",
        # Kimi.
        rf"<\|tool_call_begin\|>{_SPACE}{_NAME}:\d{{1,4}}{_SPACE}<\|tool_call_argument_begin\|>{_JSON}<\|tool_call_end\|>",
        # gpt-oss; its last mark is a stop token, which servers leave out.
        rf"to={_NAME}{_FORMAT}<\|message\|>{_JSON}(?:<\|call\|>|\Z|(?=<\|start\|>))",
        # Mistral from 2025 on.
        rf"\[TOOL_CALLS\]{_SPACE}{_NAME}(?:\[CALL_ID\]\w{{1,40}})?(?:\[ARGS\])?{_JSON}(?=\[TOOL_CALLS\]|</s>|\Z)",
    )
)
_BLOCK: Final = re.compile(
    r"<function=(?P<one>[\w.\-]{1,100})>(?P<one_body>.*?)</function>"  # Qwen's coders
    r'|<invoke name="(?P<two>[\w.\-]{1,100})">(?P<two_body>.*?)</invoke>'  # Claude's, in text
    r"|<tool_call>\s{0,20}(?P<three>[\w.\-]{1,100})\s{0,20}(?P<three_body>(?:<arg_key>.*?)?)</tool_call>",  # GLM
    re.DOTALL,
)
_UNCLOSED: Final = re.compile(
    r'<(?:function=|invoke name="|tool_call>\s{0,20})(?P<name>[\w.\-]{1,100})(?:"?>)?\s{0,20}'
    r"(?P<body><(?:parameter|arg_key).*)",
    re.DOTALL,
)
_PARAMETER: Final = re.compile(
    r'<parameter=(?P<one>\w{1,100})>(?P<one_value>.*?)</parameter>|<parameter name="(?P<two>\w{1,100})"[^>]{0,100}>'
    r"(?P<two_value>.*?)</parameter>|<arg_key>(?P<three>.{1,100}?)</arg_key>\s{0,20}<arg_value>(?P<three_value>.*?)"
    r"</arg_value>",
    re.DOTALL,
)
_BEGINS: Final = re.compile(
    r"<(?:tool_call|function_call|function_calls|tool_use)>|<function=|<invoke name=|\[TOOL_CALLS\]"
    r"|<\|(?:tool_call|tool_calls_section_begin|python_tag|channel|start)|<\uff5ctool\u2581call"
)
_PYTHON: Final = re.compile(r"\[\s{0,20}[A-Za-z_][\w.]{0,100}\(.*\)\s{0,20}\]", re.DOTALL)
_MARK: Final = re.compile(
    r"call_begin\|>|\u2581call\u2581begin|<\|message\|>|\[TOOL_CALLS\]|<function[=_]|<invoke|<tool_[cu]|<parameter|<arg_key>"
)
_MOST_MARKS: Final = 64
"""So many are not calls: each costs a look at the text behind it."""
_LONGEST: Final = 8_000
"""Characters of calls that are written as Python."""


def has_marks(text: str) -> bool:
    """Tell whether a text has a mark of calls or of their parts."""
    return _MARK.search(text) is not None


def has_too_many_marks(text: str) -> bool:
    """Tell whether a text has more marks of calls than calls are made at once: looking through it takes too long."""
    return sum(1 for _ in _MARK.finditer(text)) > _MOST_MARKS


def marked_calls(text: str) -> list[tuple[str, object]]:
    """
    Return names and arguments of the calls in a text; empty where no mark is known.

    Values between tags are texts; those that are JSON as it is written here become what they say. Where the tags do not
    fit together, the arguments are the text between them, which nobody can read as arguments.
    """
    for pattern in _WITH_JSON:
        found = [(match["name"], match["given"]) for match in pattern.finditer(text)]
        if found:
            return list(found)
    blocks: list[tuple[str, object]] = []
    for match in _BLOCK.finditer(text):
        kind = next(each for each in ("one", "two", "three") if match[each] is not None)
        body: str = match[f"{kind}_body"]
        blocks.append((match[kind], _parameters(body)))
    if not blocks and (unclosed := _UNCLOSED.search(text)) is not None:
        return [(unclosed["name"], unclosed["body"])]  # who knows what was to follow
    return blocks


def words_before_calls(text: str) -> str:
    """Return what a model said before the first mark of a call; empty where the text begins with it, or has none."""
    begins = _BEGINS.search(text)
    return text[: begins.start()].strip() if begins is not None else ""


def _parameters(body: str) -> object:
    """Return the values by name; the text itself where a name is there twice, or anything stands beside the tags."""
    given: dict[str, object] = {}
    for each in _PARAMETER.finditer(body):
        of = next(name for name in ("one", "two", "three") if each[name] is not None)
        name = each[of].strip()
        if name in given:
            return body
        given[name] = _value(each[f"{of}_value"])
    return body if _PARAMETER.sub("", body).strip() else given


def _value(text: str) -> object:
    """Return a value between tags, without the line ends that belong to the tags."""
    text = text.removeprefix("\n").removesuffix("\n")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return text
    is_sure = isinstance(found, (dict, list)) or json.dumps(found) == text
    return found if is_sure and not isinstance(found, str) else text


def python_calls(text: str) -> list[tuple[str, object]]:
    """Read a list of calls as Python has it (Llama): names, and arguments by name that are literals; nothing is run."""
    if len(text) > _LONGEST or _PYTHON.fullmatch(text) is None:
        return []
    try:
        tree = ast.parse(text, mode="eval").body
        calls: list[ast.expr] = tree.elts if isinstance(tree, ast.List) else []
        found: list[tuple[str, object]] = []
        for call in calls:
            if not isinstance(call, ast.Call) or call.args or any(each.arg is None for each in call.keywords):
                return []
            given = {str(each.arg): ast.literal_eval(each.value) for each in call.keywords}
            json.dumps(given, allow_nan=False)
            found.append((ast.unparse(call.func), given))
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return []
    return found
