"""From messages to cases and back to text: layouts, demonstrations, the query, and the outputs that are wanted."""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from dspex.simulator.learner._body import Body
from dspex.simulator.learner._shapes import hinted, keys_in, resolved, shape_in
from dspex.simulator.learner._text import is_number, normalise

Layout = Literal["markers", "tags", "json", "labels", "plain"]
_PLAIN = ""  # the one field of a turn without fields
_END = "completed"
_MARKER = re.compile(r"^[ \t]*\[\[ ## (\w+) ## \]\][ \t]*", re.MULTILINE)
_MENTION = re.compile(r"\[\[ ## (\w+) ## \]\]|`<(\w+)>`|`(\w+)`")
_OPEN = re.compile(r"<(\w+)>")
_CLOSE = re.compile(r"</(\w+)>")
_KEY = re.compile(r'"(\w+)"\s*:')
Schema = Mapping[str, object]
_NUMBERED = re.compile(r"^\[\d+\][ \t]", re.MULTILINE)
_LEFT_OUT = re.compile(r"\([^()\n]*\)").fullmatch  # nothing but a remark: how layouts mark a field not given
_STEP = re.compile(r"^Step \d+$", re.MULTILINE)
_OBSERVATION = re.compile(r"^Observation: ", re.MULTILINE)
_REMARK = r"(?: \([^\n]*\))?"
_REQUEST = re.compile(rf"(?:Think|Please reason|Answer with)\b|\w+{_REMARK}:\Z")
_BOXED = re.compile(rf"your final (\w[\w ]*){_REMARK} within \\boxed\{{\}}\.\Z")
_BOX = re.compile(r"\\boxed\{([^{}\n]*)\}\s*\Z")
_ENDING = re.compile(r"end with th(?:is line|ese lines):((?:\n\w+: .*)+)\Z")
_GIVE = re.compile(r"(?:\A|\n)\w+ \(([^\n]*)\):\Z")
_LABEL = re.compile(r"^(\w+): (.*)$", re.MULTILINE)
_THESE = re.compile(r"one of these:((?:\n\S.*)+)")
_OPENING = re.compile(r"(?:\A|\n\n)([a-z_][a-z0-9_]*):[ \n](?=\S)")
_PARAGRAPH = re.compile(r"\n\s*\n")
_QUOTED = re.compile(r"'((?:[^'\\\n]|\\.)*)'|\"((?:[^\"\\\n]|\\.)*)\"")
_LISTED = re.compile(r"\s*\(?[\w. |\[]*\[\s*(['\"].*?['\"])\s*\]")
_TYPED = re.compile(r"\s*\((bool|int|float|list|dict)\b")
_TYPES = {"bool": "boolean", "int": "integer", "float": "number", "list": "array", "dict": "object"}


@dataclass(frozen=True, slots=True)
class Case:
    """
    One demonstration, or the query: passages (title, text), the other inputs joined, and the outputs given.

    The results of an agent's calls stand among the passages; `calls` says how many of them are there.
    """

    passages: tuple[tuple[str, str], ...]
    text: str
    given: Mapping[str, str]
    complete: bool
    calls: int = 0


@dataclass(frozen=True, slots=True)
class Output:
    """One wanted field; `schema` is its own, or one made from what the system turn lists."""

    name: str
    kind: Literal["free", "number", "closed"]
    alternatives: tuple[str, ...]
    schema: Schema


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as the learner sees it; `demos` are in the order of the messages."""

    layout: Layout
    demos: tuple[Case, ...]
    query: Case
    outputs: tuple[Output, ...]
    system: str = ""


def read_prompt(body: Body) -> Prompt:
    """Read the demonstrations, the query and the wanted outputs out of a body."""
    turns = body.messages
    at = max((at for at, (role, _) in enumerate(turns) if role == "user"), default=-1)
    last = turns[at][1] if at >= 0 else ""
    system = "\n".join(text for role, text in turns if role == "system")
    roles = [role for role, _ in turns]
    ahead = [i for i in range(at - 1) if roles[i : i + 2] == ["user", "assistant"] and turns[i + 1][1]]
    root = body.schema
    if root is None or not root.get("properties"):
        root = keys_in(last) or shape_in(system) or root  # written out, for servers that keep to no schema
    layout = _layout_of([system, *(turns[i + 1][1] for i in ahead)], last, as_json=root is not None)
    boxed = _shown(system, last, root, layout)[:1] if _BOXED.search(last) else ()
    replies = [_in_box(turns[i + 1][1], boxed) or _fields_of(turns[i + 1][1], layout, reply=True) for i in ahead]
    fields = _fields_of(last, layout)
    opening = fields if fields == _asked(last) else ()  # demonstrations ask for nothing: the query tells their fields
    before = [(opening and _opened(turns[i][1], opening)) or _fields_of(turns[i][1], layout) for i in ahead]
    pairs = list(zip(before, replies, strict=True))
    given = list(dict.fromkeys(name for _, reply in pairs for name in reply))
    inputs = set(fields).union(*(asked for asked, _ in pairs))
    names = _wanted(given, fields, inputs, _shown(system, last, root, layout))
    asked = _without_reminder(fields, names)
    query = _case(asked, {}, ())
    results = [text.strip() for role, text in turns[at + 1 :] if role == "tool"]
    if found := [one for text in results for one in _passages(text) or (_passage(text),)]:
        query = replace(query, passages=tuple(found))  # what a tool said stands for what was retrieved
    demos = tuple(_case(given, reply, list(asked)) for given, reply in pairs)
    outputs = tuple(_output(name, system, root or {}, demos, _hint(name, last)) for name in names)
    return Prompt(layout, demos, query, outputs, system)


def _wanted(given: Sequence[str], query: Mapping[str, str], inputs: set[str], show: Sequence[str]) -> list[str]:
    # Inputs stand before outputs; what is shown counts if it holds all that is given, since turns may lack a field.
    after = max((at + 1 for at, name in enumerate(show) if name in query and name != _PLAIN), default=0)
    left = list(dict.fromkeys(name for name in show[after:] if name not in inputs or name == _PLAIN))
    return left if set(given) <= set(left) else list(given)


def _without_reminder(fields: dict[str, str], outputs: Sequence[str]) -> dict[str, str]:
    """Drop the last paragraph of the last field if it names outputs: it is about the layout, not the task."""
    name = list(fields)[-1]
    *kept, reminder = _PARAGRAPH.split(fields[name])
    drop = set(_mentioned(reminder)) & set(outputs) and (kept or "[[ ##" in reminder)
    return {**fields, name: "\n\n".join(kept).strip()} if drop else fields


def _case(fields: Mapping[str, str], reply: Mapping[str, str], wanted: Sequence[str]) -> Case:
    inputs, given = ({name: one for name, one in some.items() if not _LEFT_OUT(one)} for some in (fields, reply))
    lists = {name: found for name, value in inputs.items() if (found := _passages(value)) is not None}
    seen = {name: found for name, value in inputs.items() if name not in lists and (found := _observed(value))}
    text = "\n".join(value for name, value in inputs.items() if name not in lists and name not in seen)
    passages = (*next(iter(lists.values()), ()), *next(iter(seen.values()), ()))
    calls = len(next(iter(seen.values()), ()))
    return Case(passages, text, given, all(inputs.get(name) for name in wanted), calls)


def _observed(value: str) -> tuple[tuple[str, str], ...]:
    """Read what an agent's calls came to out of the steps that it took; nothing where the value is not such a list."""
    _, *parts = _OBSERVATION.split(value) if _STEP.match(value) else ("",)
    return tuple(_passage(_STEP.split(part)[0]) for part in parts)


def _passages(value: str) -> tuple[tuple[str, str], ...] | None:
    """Read a list of texts: a JSON list of strings or objects, or numbered lines. None when it is not such a list."""
    if _NUMBERED.match(value):
        return tuple(_passage(part) for part in _NUMBERED.split(value) if part.strip())
    items = _loads(value) if value.startswith("[") else None
    is_list = isinstance(items, list) and all(isinstance(item, str | Mapping) for item in items)
    return tuple(map(_passage, items)) if isinstance(items, list) and is_list else None


def _passage(item: object) -> tuple[str, str]:
    if isinstance(item, Mapping):
        texts = [value for value in item.values() if isinstance(value, str)]
        return texts[0] if len(texts) > 1 else "", " ".join(texts[1:] or texts)
    line = str(item).strip()
    title, bar, text = (line[1:-1] if line[:1] + line[-1:] in ("«»", '""') else line).partition("|")
    return (title.strip(), text.strip()) if bar else ("", title.strip())


def _output(name: str, system: str, root: Schema, demos: Sequence[Case], hint: str) -> Output:
    """Find a field's type: in the schema, where the system turn lists it, in the hint, as the demonstrations show."""
    properties = root.get("properties")
    declared = properties.get(name) if isinstance(properties, Mapping) else None
    own = declared if isinstance(declared, Mapping) else _listed(name, system) or hinted(hint)
    kind, enum = own.get("type"), own.get("enum")
    enum = enum if isinstance(enum, list) else []
    if kind == "boolean" or enum:
        return Output(name, "closed", tuple(map(str, enum or (True, False))), own)
    given = [normalise(demo.given[name]) for demo in demos if name in demo.given]
    shows_numbers = bool(given) and all(map(is_number, given)) and kind in (None, "string")
    return Output(name, "number" if shows_numbers or kind in ("integer", "number") else "free", (), own)


def _hint(name: str, last: str) -> str:
    """Return the words about a value where it is asked for: ``supported: (True or False)``."""
    if name == _PLAIN:
        return found[1] if (found := _GIVE.search(last)) else ""
    return next((told[name] for each in _ENDING.findall(last) if name in (told := _labels(each))), "")[1:-1]


def _listed(name: str, system: str) -> Schema:
    """Read the alternatives or the type listed for a field, on the first line of the system turn that has either."""
    if not name:
        return {"enum": found.group(1).strip().split("\n")} if (found := _THESE.search(system)) else {}
    if f"{{{name}}}    (JSON that fits" in system:
        system = system[system.index(f"{{{name}}}    (JSON that fits") :]
    shows = re.compile(rf"`{name}`|\{{{name}\}}")
    for line in system.splitlines():
        _, mention, rest = line.partition(found.group()) if (found := shows.search(line)) else ("", "", "")
        if listed := _LISTED.match(rest):
            return {"enum": [single or double for single, double in _QUOTED.findall(listed.group(1))]}
        if typed := _TYPED.match(rest):
            return {"type": _TYPES[typed.group(1)]}
        told = rest.partition(": ")[2].removesuffix(")") if mention[:1] == "{" else ""
        if isinstance(schema := _loads(told), Mapping):
            return resolved(schema)
        parts = told.rpartition(": ")[2].split("; " if "; " in told else ", ")
        if len(parts) > 1 and not told.startswith("{"):
            return {"enum": parts}
    return {}


def _layout_of(showing: Sequence[str], last: str, *, as_json: bool) -> Layout:
    if as_json:
        return "json"
    if _ENDING.search(last) or _BOXED.search(last):
        return "labels"
    if any(_MARKER.search(text) for text in (*showing, last)):
        return "markers"
    return "tags" if any(map(_tags, showing)) else "plain"


def _markers(text: str) -> dict[str, str]:
    _, *parts = _MARKER.split(text)
    named = zip(parts[-2::-2], parts[::-2], strict=True)  # backwards: the first of a name wins
    return {name: value.strip() for name, value in reversed(dict(named).items()) if name != _END}


def _tags(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    position = 0
    closed = {closing.group(1): closing.start() for closing in _CLOSE.finditer(text)}  # no search that must fail
    for opening in _OPEN.finditer(text):
        name = opening.group(1)
        if position <= opening.start() < closed.get(name, -1):
            position = text.index(f"</{name}>", opening.end())
            found.setdefault(name, text[opening.end() : position].strip())
    return found


def _loads(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _object(text: str) -> dict[str, str]:
    value = _loads(text[text.find("{") : text.rfind("}") + 1])
    named = value if isinstance(value, dict) else {}
    return {name: one if isinstance(one, str) else json.dumps(one, ensure_ascii=False) for name, one in named.items()}


def _labels(text: str) -> dict[str, str]:
    return {name: value.strip() for name, value in _LABEL.findall(text)}


def _in_box(text: str, names: Sequence[str]) -> dict[str, str]:
    return {name: found[1] for name in names if (found := _BOX.search(text))}


def _asked(text: str) -> dict[str, str]:
    """Read fields that open a paragraph each with their name and a colon, before a paragraph that asks for others."""
    *kept, request = _PARAGRAPH.split(text)
    if not kept or not _REQUEST.match(request):
        return {}
    return _opened("\n\n".join(kept))


def _opened(text: str, names: Collection[str] = ()) -> dict[str, str]:
    """Read fields that open a paragraph each, with their name and a colon; only those of `names`, where given."""
    _, *parts = _OPENING.split(text)
    return {one: text.strip() for one, text in zip(parts[::2], parts[1::2], strict=True) if not names or one in names}


def _fields_of(text: str, layout: Layout, *, reply: bool = False) -> dict[str, str]:
    inputs = {"markers": (_markers,), "tags": (_tags,), "json": (_markers, _tags, _asked, _object)}
    inputs |= {"labels": (_labels,) if reply else (_asked,), "plain": () if reply else (_asked,)}
    for reader in (_object,) if reply and layout == "json" else inputs[layout]:
        if found := reader(text):
            return found
    return {} if reply and layout != "plain" else {_PLAIN: text.strip()}


def _shown(system: str, last: str, schema: Mapping[str, object] | None, layout: Layout) -> list[str]:
    """List the fields, in order, that the schema, the system turn or the end of the last user turn shows."""
    properties = schema.get("properties") if schema else None
    if layout == "labels":
        boxed = [found.replace(" ", "_") for found in _BOXED.findall(last)]
        return boxed or [name for found in _ENDING.findall(last) for name in _labels(found)]
    if layout == "plain" or isinstance(properties, Mapping):
        return list(properties) if isinstance(properties, Mapping) else [_PLAIN]
    readers = {"markers": (_markers,), "tags": (_tags,), "json": (_markers, _tags, _KEY.findall)}[layout]
    return [name for reader in readers for name in reader(system)] or [one for one in _mentioned(last) if one != _END]


def _mentioned(text: str) -> list[str]:
    return list(dict.fromkeys("".join(names) for names in _MENTION.findall(text)))


def write(values: Mapping[str, object], layout: Layout) -> str:
    """Write outputs, in order, in the layout they were asked for."""
    if layout == "json":
        return json.dumps(values, ensure_ascii=False)
    texts = {name: one if isinstance(one, str) else json.dumps(one) for name, one in values.items()}
    if layout == "markers":
        return "".join(f"[[ ## {name} ## ]]\n{text}\n\n" for name, text in texts.items()) + f"[[ ## {_END} ## ]]"
    if layout == "labels":
        return "\n".join(f"{name}: {text}" for name, text in texts.items())
    if layout == "tags":
        return "\n".join(f"<{name}>\n{text}\n</{name}>" for name, text in texts.items())
    return "\n".join(texts.values())
