"""From a body to a reply: read, learn, choose, write, cut."""

import hashlib
import json
import random
from collections.abc import Mapping

from dspex.simulator.learner._body import Body, Finish, LearnerReply
from dspex.simulator.learner._reading import fitted, read_prompt, write
from dspex.simulator.learner._rules import Learned, Looked, learn, look, nearest
from dspex.simulator.learner._text import cut, idf_of, number_text, numbers, overlap, stems, tokens

MODEL = "rules-1"  # the version: it changes when any reply changes


def answer(body: Body, index: int) -> LearnerReply:
    """Answer a body with its choice numbered `index`: the same reply in any process and in any order."""
    prompt = read_prompt(body)
    tool, text = _tool_use(body, prompt.query.text) or (None, "")
    finish: Finish = "tool_calls" if tool else "stop"
    learned = Learned("tool", "", 1.0, shown=False)
    if tool is None:
        digest = hashlib.sha256(body.canonical() + b"\n%d" % index).digest()
        outputs, learned = _outputs(look(prompt), body.temperature, random.Random(int.from_bytes(digest, "big")))
        text = write(outputs, prompt.layout)
        text = text[: min((at for at in map(text.find, body.stop) if at >= 0), default=len(text))]
    if body.limit is not None and tokens(text) > body.limit:
        text, finish = cut(text, body.limit), "length"
    return LearnerReply(text, tool, finish, learned.rule, learned.p, len(prompt.demos), tokens(text))


def _outputs(looked: Looked, temperature: float, source: random.Random) -> tuple[dict[str, object], Learned]:
    """Choose every output; free text before another is a note, unless a demonstration shows the rule it follows."""
    found: dict[str, object] = {}
    learned = Learned("none", "", 1.0, shown=False)
    for output in looked.prompt.outputs:
        learned = learn(looked, output, temperature, source)
        is_note = output.kind == "free" and output is not looked.prompt.outputs[-1] and not learned.shown
        found[output.name] = fitted(_note(looked) if is_note else learned.value, output.schema)
    return found, learned


def _note(looked: Looked) -> str:
    if looked.query.case.passages:
        return f"The passage used is {looked.query.found.get('title') or looked.query.found.get('sentence')}."
    at = nearest(looked.query.stems, looked.demos, looked.idf)
    return "No passage was used." if at is None else f"The demonstration used is number {at + 1}."


def _tool_use(body: Body, text: str) -> tuple[str, str] | None:
    """Call the tool that overlaps most; None without tools, after a tool result, or when the choice allows none."""
    if not body.tools or body.tool_choice == "none" or body.messages[-1][0] == "tool":
        return None
    described = [f"{tool['name']} {tool.get('description', '')} {tool.get('parameters', '')}" for tool in body.tools]
    asked = stems(text)
    idf = idf_of([*map(stems, described), asked])
    scores = [overlap(words, asked, idf) for words in described]
    if body.tool_choice == "auto" and not any(scores):
        return None
    named = [at for at, tool in enumerate(body.tools) if f"={tool['name']}" == body.tool_choice]
    tool = body.tools[named[0] if named else scores.index(max(scores))]
    return str(tool["name"]), json.dumps(_arguments(tool.get("parameters"), text), ensure_ascii=False)


def _arguments(parameters: object, text: str) -> dict[str, object]:
    """Fill every parameter: strings with the text, numbers in the order they stand in it."""
    properties = parameters.get("properties") if isinstance(parameters, Mapping) else None
    named = properties.items() if isinstance(properties, Mapping) else ()
    schemas = {str(name): own for name, own in named if isinstance(own, Mapping)}
    takes = [name for name, own in schemas.items() if own.get("type") in ("integer", "number")]
    given = dict(zip(takes, map(number_text, numbers(text)), strict=False))
    return {name: fitted(given.get(name, "" if name in takes else text), own) for name, own in schemas.items()}
