"""Calls of tools: the one that overlaps most, with arguments out of the question, one after the other."""

import json
import re
from collections.abc import Mapping, Sequence

from dspex.simulator.learner._body import Body
from dspex.simulator.learner._extract import Schema, extract, names_in
from dspex.simulator.learner._reading import Prompt
from dspex.simulator.learner._text import idf_of, overlap, stems

_MOST = 8
_WRITTEN = re.compile(r"^- `(\w+)`: (.*)\n[ \t]+arguments: (\{.*\})$", re.MULTILINE)


def tool_use(body: Body, text: str) -> tuple[str, str] | None:
    """
    Return the next call and its arguments as text; None for words instead.

    That is: without tools, where the choice allows none, where nothing of the question is about a tool, and when all
    that the question names has been asked for.
    """
    if not body.tools or body.tool_choice == "none":
        return None
    roles = [role for role, _ in body.messages]
    since = max((at for at, role in enumerate(roles) if role == "user"), default=0)
    made = roles[since:].count("tool")
    forced = body.tool_choice != "auto"
    found = chosen_tool(body.tools, text, body.tool_choice)
    if found is None or (made and forced is False and made >= len(calls_of(_parameters(found), text))):
        return None
    asked = calls_of(_parameters(found), text)
    return str(found["name"]), json.dumps(asked[min(made, len(asked) - 1)], ensure_ascii=False)


def chosen_tool(tools: Sequence[Schema], text: str, choice: str = "auto") -> Schema | None:
    """Return the tool that the choice names, else the one that overlaps most with a text; None where none does."""
    named = [tool for tool in tools if f"={tool['name']}" == choice]
    if named:
        return named[0]
    described = [f"{tool['name']} {tool.get('description', '')} {tool.get('parameters', '')}" for tool in tools]
    asked = stems(text)
    idf = idf_of([*map(stems, described), asked])
    scores = [overlap(words, asked, idf) for words in described]
    if choice == "auto" and not any(scores):
        return None
    return tools[scores.index(max(scores))]


def calls_of(parameters: Schema, text: str) -> list[dict[str, object]]:
    """Return the arguments of every call that a question is worth: one for each name, where one text is asked for."""
    held = parameters.get("properties")
    own = (
        {str(name): one for name, one in held.items() if isinstance(one, Mapping)} if isinstance(held, Mapping) else {}
    )
    texts = [
        name for name, one in own.items() if one.get("type") == "string" and "enum" not in one and "format" not in one
    ]
    rest = {name: one for name, one in own.items() if name not in texts}
    filled = extract({"properties": rest}, text)
    given = dict(filled) if isinstance(filled, Mapping) else {}
    found = names_in(text)
    if len(texts) == 1 and not any(one.get("type") in ("integer", "number") for one in rest.values()):
        each = [{texts[0]: name} for name in found[:_MOST]] or [{texts[0]: text}]
    else:
        each = [{name: found[at] if at < len(found) else text for at, name in enumerate(texts)}]
    return [{name: {**given, **one}[name] for name in own} for one in each]


def _parameters(tool: Schema) -> Schema:
    parameters = tool.get("parameters")
    return parameters if isinstance(parameters, Mapping) else {}


def written_call(prompt: Prompt) -> dict[str, object]:
    """
    Return the outputs that stand for a call, where the system turn lists tools in words; nothing elsewhere.

    They are the one that may be any of their names, and behind it the one that is an object of no said shape. When all
    that the question names has been asked for, the last of the tools ends it.
    """
    tools = [_read(*found) for found in _WRITTEN.findall(prompt.system)]
    names = [str(tool["name"]) for tool in tools]
    for at, output in enumerate(prompt.outputs[:-1]):
        behind = prompt.outputs[at + 1]
        if len(tools) > 1 and set(output.alternatives) == set(names) and "properties" not in behind.schema:
            *working, last = tools
            tool = chosen_tool(working, prompt.query.text, "required")
            asked = calls_of(_parameters(tool), prompt.query.text) if tool is not None else []
            made = prompt.query.calls
            if tool is not None and made < len(asked):
                return {output.name: tool["name"], behind.name: asked[made]}
            said = " ".join(text for _, text in prompt.query.passages) or prompt.query.text
            return {output.name: last["name"], behind.name: calls_of(_parameters(last), said)[0]}
    return {}


def _read(name: str, description: str, arguments: str) -> Schema:
    try:
        parameters = json.loads(arguments)
    except (ValueError, RecursionError):
        parameters = {}
    return {"name": name, "description": description, "parameters": parameters}
