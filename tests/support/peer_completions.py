"""Signatures and completions, drawn from a seed, that two libraries should read alike."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Case", "cases"]

WORDS = (
    "Ada",
    "wrote it",
    "42",
    "yes",
    "a: b",
    'the "best" one',
    "it's",
    "größer",
    "🦋",
    "x, y",
    "[1]",
    "true",
    "null",
)


@dataclass(frozen=True)
class Case:
    """One completion: how it was spoilt (``twist``), and the type of the value that was spoilt."""

    adapter: str
    signature: str
    completion: str
    twist: str
    kind: str


def _text(draw: random.Random) -> str:
    return " ".join(draw.choice(WORDS) for _ in range(draw.randint(1, 3)))


KINDS: dict[str, Callable[[random.Random], Any]] = {
    "str": _text,
    "int": lambda draw: draw.randint(-5, 10_000),
    "float": lambda draw: draw.choice([0.5, -1.25, 3.0, 1e6]),
    "bool": lambda draw: draw.random() < 0.5,
    "list[str]": lambda draw: [_text(draw) for _ in range(draw.randint(0, 3))],
    "list[int]": lambda draw: [draw.randint(0, 9) for _ in range(draw.randint(0, 3))],
    "dict[str, int]": lambda draw: {draw.choice("abc"): draw.randint(0, 9) for _ in range(draw.randint(0, 2))},
    "Literal['happy', 'sad']": lambda draw: draw.choice(["happy", "sad"]),
    "Optional[int]": lambda draw: draw.choice([None, 7]),
    "Optional[str]": lambda draw: draw.choice([None, "seven"]),
}


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


CHAT_TWISTS = (
    *("exact", "prose before", "no end", "header inline", "python literal", "quoted", "fenced", "spaces", "missing"),
    *("twice", "unknown header", "other type", "word for a number", "windows lines", "bold header", "lower case end"),
    *(
        "end on the line",
        "one line",
        "typed header",
        "capitals",
        "all fenced",
        "bold value",
        "thoughts",
        "prose behind",
    ),
    *("no last bracket", "slips", "mention", "single header"),
)
JSON_TWISTS = (
    *("exact", "fenced", "prose before", "prose after", "trailing comma", "single quotes", "missing", "extra key"),
    *("cut short", "number as text", "comments", "true as word", "thoughts", "inside", "in a list", "capitals"),
    *("bare keys", "quotes inside", "two objects", "null", "raw lines", "escapes", "no braces", "Python"),
)


END = " [[ ## completed ## ]]"


def _spoilt(text: str, twist: str) -> str:
    """Return one value's text as a model may write it."""
    match twist:
        case "bold value":
            return f"**{text}**"
        case "prose behind":
            return f"{text}\n\nI hope this helps."
        case "no last bracket":
            return text.removesuffix("]").removesuffix("}")
        case "slips":
            return text.replace('"', "'").replace("]", ",]").replace("}", ",}")
    return text


def _chat(draw: random.Random, fields: dict[str, Any], at: str, twist: str) -> str:
    texts = {name: _plain(value) for name, value in fields.items()}
    value = fields[at]
    if twist == "python literal":
        texts[at] = repr(value)
    elif twist == "quoted":
        texts[at] = json.dumps(texts[at], ensure_ascii=False)
    elif twist == "fenced":
        texts[at] = f"```json\n{texts[at]}\n```"
    elif twist == "spaces":
        texts[at] = f"\n  {texts[at]}  \n\n"
    elif twist == "other type":
        texts[at] = draw.choice(["I do not know", "[]", "12", "{}"])
    elif twist == "word for a number":
        texts[at] = draw.choice(["True", "None", "1,000", "7.0", "007", "1e3", "NaN"])
    if twist == "missing":
        del texts[at]
    if at in texts:
        texts[at] = _spoilt(texts[at], twist)
    header = {
        "bold header": "**[[ ## {} ## ]]**",
        "typed header": "[[ ## {} ## (str)]]",
        "single header": "[[## {} ##]]",
    }.get(twist, "[[ ## {} ## ]]")
    between = " " if twist in ("header inline", "one line") else "\n"
    sections = [
        f"{header.format(name.title() if twist == 'capitals' else name)}{between}{text}" for name, text in texts.items()
    ]
    if twist == "twice":
        sections.append(f"[[ ## {at} ## ]]\nanother")
    if twist == "unknown header":
        sections.insert(draw.randint(0, len(sections)), "[[ ## thoughts ## ]]\nhm")
    if twist == "prose before":
        sections.insert(0, "Sure, here it is:")
    if twist == "mention":
        sections.insert(0, f"Now I write [[ ## {at} ## ]] and the rest.")
    if twist == "thoughts":
        sections.insert(0, f"<think>\n[[ ## {at} ## ]]\na draft\n</think>")
    if twist in ("end on the line", "one line"):
        return " ".join([*sections, "[[ ## completed ## ]]"]) if twist == "one line" else "\n\n".join(sections) + END
    if twist == "all fenced":
        return "```\n" + "\n\n".join(sections) + "\n```"
    if twist == "lower case end":
        sections.append("[[ ## completed")
    elif twist != "no end":
        sections.append("[[ ## completed ## ]]")
    whole = "\n\n".join(sections)
    return whole.replace("\n", "\r\n") if twist == "windows lines" else whole


def _json(draw: random.Random, fields: dict[str, Any], at: str, twist: str) -> str:
    fields = dict(fields)
    if twist == "missing":
        del fields[at]
    elif twist == "extra key":
        fields["note"] = "more"
    elif twist == "number as text":
        fields[at] = _plain(fields[at])
    elif twist == "true as word":
        fields[at] = draw.choice(["yes", "True", "None", "happy"])
    text = json.dumps(fields, ensure_ascii=False)
    match twist:
        case "fenced":
            return f"```json\n{text}\n```"
        case "prose before":
            return f"Sure, {{here}} it is: {text}"
        case "prose after":
            return f"{text}\n\nI hope {{this}} helps."
        case "trailing comma":
            return text[:-1] + ",}"
        case "single quotes":
            return repr(fields)
        case "thoughts":
            return f'<think>Perhaps {{"{at}": "a draft"}}?</think>\n{text}'
        case "inside":
            return f'{{"answers": {text}}}'
        case "in a list":
            return f"[{text}]"
        case "capitals":
            return json.dumps({name.title(): value for name, value in fields.items()}, ensure_ascii=False)
        case "bare keys":
            return "{" + ", ".join(f"{name}: {json.dumps(value)}" for name, value in fields.items()) + "}"
        case "quotes inside":
            return text.replace('\\"', '"')
        case "two objects":
            return f"{text}\n\nOr rather: {json.dumps(dict.fromkeys(fields))}"
        case "null":
            return json.dumps({**fields, at: None}, ensure_ascii=False)
        case "raw lines":
            return json.dumps({**fields, "note": "one\ntwo"}, ensure_ascii=False, indent=1).replace("\\n", "\n")
        case "escapes":
            return text.replace("a", "\\d", 1) if '"a' not in text else text
        case "no braces":
            return text[1:-1]
        case "Python":
            return repr(fields).replace("'", '"')
        case "cut short":
            return text[: -draw.randint(1, 3)]
        case "comments":
            return text[:-1] + " // the end\n}"
    return text


def cases(count: int, seed: int) -> list[Case]:
    """Return ``count`` cases, every twist with every kind about equally often."""
    draw = random.Random(seed)
    found = []
    for number in range(count):
        adapter, twists, write = ("chat", CHAT_TWISTS, _chat) if number % 2 else ("json", JSON_TWISTS, _json)
        kinds = list(KINDS)
        main = kinds[(number // 2) % len(kinds)]
        twist = twists[(number // 2 // len(kinds) + number // 2) % len(twists)]
        names = ["answer", "second_one", "third"][: draw.randint(1, 3)]
        types = {name: draw.choice(kinds) for name in names}
        at = draw.choice(names)
        types[at] = main
        fields = {name: KINDS[kind](draw) for name, kind in types.items()}
        signature = "question -> " + ", ".join(f"{name}: {kind}" for name, kind in types.items())
        found.append(Case(adapter, signature, write(draw, fields, at, twist), twist, main))
    return found
