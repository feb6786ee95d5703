"""The rules, each giving a value for a case or abstaining, and what the demonstrations teach about them."""

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dspex.simulator.learner import _text
from dspex.simulator.learner._reading import Case, Output, Prompt
from dspex.simulator.learner._text import normalise, overlap, shape, stems

# Fixed: no result may be improved by touching them.
_WEIGHT, _INCOMPLETE = 0.25, 0.5
_AGREES, _DISAGREES = math.log(0.9), math.log(0.1 / 50)
# Over the text's first three numbers; one that is lacking makes the templates that name it abstain.
_TEMPLATES = ("a", "b", "c", "a+b", "a-b", "b-a", "a*b", "a/b", "a*b+c", "a*b-c", "a+b+c", "a*b*c")


@dataclass(frozen=True, slots=True)
class Evidence:
    """A case and what the rules that look at it alone found in it."""

    case: Case
    stems: Counter[str]
    found: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Looked:
    """A prompt with the evidence of its cases; `idf` is counted over this prompt's passages, texts and labels only."""

    prompt: Prompt
    idf: Mapping[str, float]
    demos: tuple[Evidence, ...]
    query: Evidence


@dataclass(frozen=True, slots=True)
class Learned:
    """The rule chosen for one output, its value and probability, and whether any demonstration follows a rule."""

    rule: str
    value: str
    p: float
    shown: bool


def look(prompt: Prompt) -> Looked:
    """Look at every case."""
    cases = (*prompt.demos, prompt.query)
    texts = [" ".join(passage) for case in cases for passage in case.passages]
    labels = [label for output in prompt.outputs for label in output.alternatives]
    idf = _text.idf_of(map(stems, [*texts, *labels, *(case.text for case in cases)]))
    *demos, query = (_look(case, idf) for case in cases)
    return Looked(prompt, idf, tuple(demos), query)


def _look(case: Case, idf: Mapping[str, float]) -> Evidence:
    text = stems(case.text)
    best = max(case.passages, key=lambda passage: overlap(" ".join(passage), text, idf), default=None)
    parts = [sentence for _, passage in case.passages for sentence in _text.sentences(passage)]
    sentence = max(parts, key=lambda part: overlap(part, text, idf), default="")
    title = best[0] if best else ""
    new = (phrase for phrase in _text.PHRASE.findall(sentence) if not stems(phrase).keys() <= text.keys())
    found = {
        "sentence": sentence,
        "title": title,
        "title_first": case.passages[0][0] if case.passages else "",
        "title_tail": title.rpartition(".")[2] if "." in title else "",
        "span": next(new, ""),
        "echo": case.text.strip(),
    }
    return Evidence(case, text, {rule: value for rule, value in found.items() if value})


def _values(seen: Evidence, output: Output, like: str) -> dict[str, str]:
    """Apply every rule to one case, in the rules' order; for a number, keep only values that are one."""
    found = {**seen.found, **({"nearest": like} if like else {})}
    if output.kind != "number":
        return found
    kept = {rule: own for rule, value in found.items() if _text.is_number(own := normalise(value))}
    given = _text.numbers(seen.case.text)[:3]
    a, b, c = (*given, 0.0, 0.0, 0.0)[:3]
    made = (a, b, c, a + b, a - b, b - a, a * b, a / b if b else math.nan, a * b + c, a * b - c, a + b + c, a * b * c)
    for name, value in zip(_TEMPLATES, made, strict=True):
        whole = math.isfinite(value) and (value == int(value) or output.schema.get("type") != "integer")
        if whole and max(name) <= "`abc"[len(given)]:
            kept[name] = _text.number_text(value)
    return kept


def nearest(text: Counter[str], demos: Sequence[Evidence], idf: Mapping[str, float]) -> int | None:
    """Return the position of the demonstration most like a text; None without demonstrations."""
    return max(range(len(demos)), key=lambda at: _text.cosine(text, demos[at].stems, idf), default=None)


def _label(looked: Looked, output: Output, held: Sequence[Evidence]) -> str:
    """Return the label most like the text: twice its own stems and those of the demonstrations that have it."""
    vectors = {label: stems(f"{label} {label}") for label in output.alternatives}
    known = {normalise(label): label for label in output.alternatives}
    for seen in held:
        if (label := known.get(normalise(seen.case.given[output.name]))) is not None:
            vectors[label].update(seen.stems)
    return max(vectors, key=lambda label: _text.cosine(looked.query.stems, vectors[label], looked.idf))


def learn(looked: Looked, output: Output, temperature: float, source: random.Random) -> Learned:
    """Choose the value of one output; `source` is drawn from only at a temperature above 0."""
    held = [seen for seen in looked.demos if output.name in seen.case.given]

    def like(text: Counter[str], but: Evidence | None = None) -> str:
        others = [seen for seen in held if seen.case.complete and seen is not but]
        at = nearest(text, others, looked.idf)
        return "" if at is None else others[at].case.given[output.name]

    if output.kind == "closed":
        return Learned("choice", _label(looked, output, held), 1.0, shown=True)
    found = _values(looked.query, output, like(looked.query.stems))
    logs = dict.fromkeys(found, 0.0)
    shown = False
    for seen in held:
        whole = seen.case.complete
        own = _values(seen, output, like(seen.stems, seen)) if whole else found
        form = normalise if whole else shape
        agreeing = {rule for rule, value in own.items() if form(value) == form(seen.case.given[output.name])}
        shown = shown or (whole and bool(agreeing - {"nearest"}))
        for rule in logs:
            logs[rule] += _WEIGHT * (1.0 if whole else _INCOMPLETE) * (_AGREES if rule in agreeing else _DISAGREES)
    if not found:
        return Learned("none", "0" if output.kind == "number" else "", 1.0, shown=False)
    rule = _chosen(logs, temperature, source)
    return Learned(rule, found[rule], 1 / math.fsum(math.exp(log - logs[rule]) for log in logs.values()), shown)


def _chosen(logs: Mapping[str, float], temperature: float, source: random.Random) -> str:
    """Draw in proportion to p^(1/T); at 0 take the most probable, the first of equals."""
    best = max(logs, key=lambda rule: logs[rule])
    if temperature == 0:
        return best
    weights = [math.exp((log - logs[best]) / temperature) for log in logs.values()]
    return source.choices(list(logs), weights)[0]
