"""From a body to a reply: read, learn, choose, write, cut."""

import hashlib
import random

from dspex.simulator.learner._body import Body, Finish, LearnerReply
from dspex.simulator.learner._calls import tool_use, written_call
from dspex.simulator.learner._extract import extract, fitted, is_structured
from dspex.simulator.learner._reading import read_prompt, write
from dspex.simulator.learner._rules import Learned, Looked, learn, look, nearest
from dspex.simulator.learner._text import cut, tokens

MODEL = "rules-1"  # the version: it changes with a release that changes any reply


def answer(body: Body, index: int) -> LearnerReply:
    """Answer a body with its choice numbered `index`: the same reply in any process and in any order."""
    prompt = read_prompt(body)
    tool, text = tool_use(body, prompt.query.text) or (None, "")
    finish: Finish = "tool_calls" if tool else "stop"
    learned = Learned("tool", "", 1.0, shown=False)
    if tool is None:
        digest = hashlib.sha256(body.canonical() + b"\n%d" % index).digest()
        source = random.Random(int.from_bytes(digest, "big"))
        outputs, learned = _outputs(look(prompt), body.temperature, source)
        outputs |= written_call(prompt)
        text = write(outputs, prompt.layout) if prompt.outputs or prompt.layout == "json" else _note(look(prompt))
        text = f"{_note(look(prompt))}\n{text}" if prompt.layout == "labels" else text
        text = _one_of(body.choices, text) if body.choices else text
        text = text[: min((at for at in map(text.find, body.stop) if at >= 0), default=len(text))]
    if body.limit is not None and tokens(text) > body.limit:
        text, finish = cut(text, body.limit), "length"
    return LearnerReply(text, tool, finish, learned.rule, learned.p, len(prompt.demos), tokens(text))


def _one_of(choices: tuple[str, ...], text: str) -> str:
    """Return the choice that is most like what would have been said."""
    said = set(text.split())
    return text if text in choices else max(choices, key=lambda each: (each in text, len(said & set(each.split()))))


def _outputs(looked: Looked, temperature: float, source: random.Random) -> tuple[dict[str, object], Learned]:
    """Choose every output; free text before another is a note, unless a demonstration shows the rule it follows."""
    found: dict[str, object] = {}
    learned = Learned("none", "", 1.0, shown=False)
    for output in looked.prompt.outputs:
        if is_structured(output.schema):
            found[output.name] = extract(output.schema, _source(looked))
            learned = Learned("extract", "", 1.0, shown=True)
            continue
        learned = learn(looked, output, temperature, source)
        is_note = output.kind == "free" and output is not looked.prompt.outputs[-1] and not learned.shown
        found[output.name] = fitted(_note(looked) if is_note else learned.value, output.schema)
    return found, learned


def _note(looked: Looked) -> str:
    if looked.query.case.passages:
        return f"The passage used is {looked.query.found.get('title') or looked.query.found.get('sentence')}."
    at = nearest(looked.query.stems, looked.demos, looked.idf)
    return "No passage was used." if at is None else f"The demonstration used is number {at + 1}."


def _source(looked: Looked) -> str:
    """Return the text that values are taken from: the inputs, and what was retrieved for them."""
    case = looked.query.case
    return "\n".join([case.text, *(text for _, text in case.passages)]).strip()
