"""The learner's reading, its rules, and its report of them."""

import json
from collections.abc import Sequence

import pytest

from dspex.simulator.learner import Body, LearnerReply, Role, answer, tokens
from dspex.simulator.learner._extract import extract
from dspex.simulator.learner._shapes import keys_in, shape_in

_PASSAGES = ("json.dumps | Serialize obj to a str.", "os.getcwd | Return the current directory. By Guido van Rossum.")
_LAYOUT = "".join(f"[[ ## {name} ## ]]\n{{{name}}}\n\n" for name in ("passages", "question", "answer"))
_ASK = "Respond with `[[ ## answer ## ]]`, then `[[ ## completed ## ]]`."


def _chat(system: str, *turns: str, **settings: object) -> Body:
    """Build a conversation of user and assistant turns in alternation, at temperature 0."""
    roles: Sequence[Role] = ("user", "assistant")
    messages: list[tuple[Role, str]] = [("system", system)] if system else []
    messages += [(roles[at % 2], text) for at, text in enumerate(turns)]
    return Body(**{"messages": tuple(messages), "temperature": 0.0, **settings})  # type: ignore[arg-type] # by test


def _marked(**fields: str) -> str:
    return "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items())


def _outputs(reply: LearnerReply) -> dict[str, str]:
    parts = reply.text.split("[[ ## ")[1:]
    return {part.partition(" ## ]]")[0]: part.partition(" ## ]]\n")[2].strip() for part in parts}


_NUMBERED = "\n".join(f"[{at}] {one}" for at, one in enumerate(_PASSAGES, 1))
_OBJECTS = [dict(zip(("title", "text"), one.split(" | "), strict=True)) for one in _PASSAGES]


@pytest.mark.parametrize("passages", [_NUMBERED, json.dumps(_PASSAGES), json.dumps(_OBJECTS)])
def test_passages_are_read_in_every_form_they_come_in(passages: str) -> None:
    """Numbered lines, a list of strings and a list of objects are the same passages."""
    query = _marked(passages=passages, question="the current directory") + f"\n\n{_ASK}"
    demo = _marked(passages=passages, question="serialize to a str")
    shown = _marked(answer="json.dumps") + "\n\n[[ ## completed ## ]]"
    reply = answer(_chat(_LAYOUT, demo, shown, query), 0)

    assert _outputs(reply) == {"answer": "os.getcwd", "completed": ""}
    assert (reply.rule, reply.demos, reply.finish) == ("title", 1, "stop")


@pytest.mark.parametrize(
    ("rule", "shown", "said"),
    [
        ("sentence", "Serialize obj to a str.", "Return the current directory."),
        ("title", "json.dumps", "os.getcwd"),
        ("title_tail", "dumps", "getcwd"),
        ("echo", "serialize obj", "the current directory"),
        ("title_first", "os.getcwd", "json.dumps"),
    ],
)
def test_one_demonstration_shows_a_rule(rule: str, shown: str, said: str) -> None:
    """The rule that reproduces the demonstration's output is followed on the query."""
    first = _NUMBERED if rule != "title_first" else "\n".join(f"[1] {one}" for one in reversed(_PASSAGES))
    demo = _marked(passages=first, question="serialize obj")
    query = _marked(passages=_NUMBERED, question="the current directory")
    reply = answer(_chat(_LAYOUT, demo, _marked(answer=shown), query), 0)

    assert (reply.rule, _outputs(reply)["answer"]) == (rule, said)


def test_the_tag_layout_is_answered_in_tags() -> None:
    """A layout of tags in, the same layout out."""
    system = "<question>\n{question}\n</question>\n<answer>\n{answer}\n</answer>"
    reply = answer(_chat(system, "<question>\nhow many\n</question>\n\nRespond with `<answer>`."), 0)

    assert reply.text == "<answer>\nhow many\n</answer>"


def test_a_schema_is_answered_with_an_object_of_its_types() -> None:
    """With a schema the reply is JSON, every member of the type asked for."""
    properties = {
        "note": {"type": "string"},
        "label": {"enum": ["cold", "hot"]},
        "count": {"type": "integer"},
        "tags": {"type": "array", "items": {"type": "string"}},
    }
    body = _chat("", _marked(text="it is hot: 31 degrees"), schema={"type": "object", "properties": properties})
    said = json.loads(answer(body, 0).text)

    assert (said["label"], said["count"]) == ("hot", 31)
    assert isinstance(said["note"], str)
    assert isinstance(said["tags"], list)


def test_alternatives_listed_in_the_system_turn_are_a_closed_set() -> None:
    """The label nearest to the text by stems is chosen, and demonstrations add to its stems."""
    system = "1. `label` (Literal['card lost', 'top up']):\n\n[[ ## text ## ]]\n{text}\n\n[[ ## label ## ]]\n{label}"
    plain = answer(_chat(system, _marked(text="my cards are gone, lost")), 0)
    shown = (_marked(text="purse stolen yesterday"), _marked(label="card lost"))
    learnt = answer(_chat(system, *shown, _marked(text="my purse was stolen")), 0)

    assert (_outputs(plain)["label"], plain.rule) == ("card lost", "choice")
    assert _outputs(learnt)["label"] == "card lost"


def test_a_template_is_learnt_from_numbers() -> None:
    """Two demonstrations that add leave one template."""
    body = _chat("", "3 pears and 4 figs", "7", "10 and 5", "15", "20 apples, 22 plums")

    assert answer(body, 0).text == "42"


def test_a_field_before_the_answer_is_a_note() -> None:
    """Reasoning is one fixed sentence that names what was used."""
    system = _LAYOUT.replace("[[ ## answer", "[[ ## reasoning ## ]]\n{reasoning}\n\n[[ ## answer")
    query = _marked(passages=_NUMBERED, question="the current directory")
    said = _outputs(answer(_chat(system, query), 0))

    assert list(said) == ["reasoning", "answer", "completed"]
    assert said["reasoning"] == "The passage used is os.getcwd."


def test_the_last_sentence_about_the_layout_is_not_read() -> None:
    """The reminder of the output fields is not part of the question it follows."""
    query = _marked(question="the current directory") + f"\n\n{_ASK}"

    assert _outputs(answer(_chat(_LAYOUT, query), 0))["answer"] == "the current directory"


def test_a_plain_conversation_is_answered_plainly() -> None:
    """Without any layout a turn is one field."""
    assert answer(_chat("Be nice.", "hello"), 0).text == "hello"


def test_stop_sequences_and_limits_cut_the_reply() -> None:
    """A stop sequence ends a reply as usual; a token limit ends it with its own reason."""
    stopped = answer(_chat("", "one two three", stop=("two",)), 0)
    limited = answer(_chat("", "one two three", limit=2), 0)

    assert (stopped.text, stopped.finish) == ("one ", "stop")
    assert (limited.text, limited.finish, limited.tokens) == ("one two ", "length", 2)


def test_tokens_are_bytes_by_four_rounded_up() -> None:
    """The size of a text does not depend on a vocabulary."""
    assert [tokens(text) for text in ("", "a", "four", "fives", "éé€")] == [0, 1, 1, 2, 2]


_NUMBERS = {"a": {"type": "number"}, "b": {"type": "integer"}}
_TOOLS = (
    {"name": "add", "description": "Add two numbers", "parameters": {"properties": _NUMBERS}},
    {"name": "search", "description": "Search the web", "parameters": {"properties": {"query": {"type": "string"}}}},
)


def test_the_tool_that_overlaps_most_is_called() -> None:
    """Strings get the text, numbers the text's numbers in order."""
    search = answer(_chat("", "search for cats", tools=_TOOLS), 0)
    add = answer(_chat("", "add 2.5 and 4", tools=_TOOLS), 0)

    assert (search.tool, json.loads(search.text), search.finish) == (
        "search",
        {"query": "search for cats"},
        "tool_calls",
    )
    assert (add.tool, json.loads(add.text)) == ("add", {"a": 2.5, "b": 4})


def test_tool_choice_is_kept_to() -> None:
    """No call when none is allowed, the named tool when one is named, words when nothing overlaps."""
    none = answer(_chat("", "search", tools=_TOOLS, tool_choice="none"), 0)
    named = answer(_chat("", "search", tools=_TOOLS, tool_choice="=add"), 0)
    apart = answer(_chat("", "zebra", tools=_TOOLS), 0)

    assert (none.tool, named.tool, apart.tool) == (None, "add", None)


def test_a_tool_result_is_the_passage() -> None:
    """After a tool has answered, the reply is made from its answer."""
    body = _chat("", "who wrote it", tools=_TOOLS)
    turns: tuple[tuple[Role, str], ...] = (
        *body.messages,
        ("assistant", ""),
        ("tool", "Hamlet | It was written by Shakespeare."),
    )
    reply = answer(Body(messages=turns, tools=_TOOLS, temperature=0), 0)

    assert (reply.tool, reply.text) == (None, "It was written by Shakespeare.")


def test_a_field_marked_as_left_out_is_left_out() -> None:
    """A remark in parentheses in a field's place makes a demonstration incomplete; it is not a value to learn from."""
    demo = _marked(passages="(left out)", question="serialize to a str")
    shown = _marked(note="(left out)", answer="json.dumps")
    query = _marked(passages=_NUMBERED, question="the current directory")
    reply = answer(_chat("", demo, shown, query), 0)

    assert list(_outputs(reply)) == ["note", "answer", "completed"]
    assert (reply.rule, _outputs(reply)["answer"]) == ("title", "os.getcwd")


def test_a_schema_in_the_system_turn_is_kept_to() -> None:
    """A structured field shown with its schema gets an object of that shape."""
    schema = '{"properties": {"a": {"type": "integer"}}, "required": ["a"], "type": "object"}'
    system = f"[[ ## text ## ]]\n{{text}}\n\n[[ ## found ## ]]\n{{found}}    (JSON for this schema: {schema})"

    assert json.loads(_outputs(answer(_chat(system, _marked(text="7 of them")), 0))["found"]) == {"a": 7}


def _filled(schema: dict[str, object], text: str) -> object:
    return extract({"properties": {"it": schema}}, text)["it"]  # type: ignore[index]  # an object by its shape


_STRING, _INTEGER = {"type": "string"}, {"type": "integer"}
_PERSON = {"type": "object", "properties": {"name": _STRING, "age": _INTEGER, "city": _STRING}}


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        (_PERSON, "Name: Ada; Age: 36; City: London", {"name": "Ada", "age": 36, "city": "London"}),
        (_PERSON, "Ada Lovelace, 36, of London.", {"name": "Ada Lovelace", "age": 36, "city": "London"}),
        (_PERSON, "", {"name": "", "age": 0, "city": ""}),
        ({"type": "string", "format": "date"}, "It was on 2026-03-14 at 12:30.", "2026-03-14"),
        ({"type": "string", "format": "email"}, "Write to ada@example.org, please.", "ada@example.org"),
        ({"enum": ["red", "dark red"]}, "It is dark red.", "dark red"),
        ({"type": "array", "items": _INTEGER}, "They are 3, 4 and 1,200.", [3, 4, 1200]),
        ({"type": "array", "items": _STRING}, "Ada met Grace and Barbara.", ["Grace", "Barbara"]),
        (
            {"type": "array", "items": {"properties": {"name": _STRING, "count": _INTEGER}}},
            "2 pears and 3 green apples",
            [{"name": "pears", "count": 2}, {"name": "green apples", "count": 3}],
        ),
    ],
)
def test_values_are_taken_by_label_by_form_and_in_order(schema: dict[str, object], text: str, value: object) -> None:
    assert _filled(schema, text) == value


def test_a_shape_that_holds_itself_ends() -> None:
    node: dict[str, object] = {"type": "object", "properties": {"name": _STRING}}
    node["properties"]["children"] = {"type": "array", "items": node}  # type: ignore[index]  # a dict, see above

    assert len(json.dumps(extract(node, "Ada."))) < 1000


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ('{\n  "a": string,  // why\n  "b": [{"c": integer}, ...]\n}', {"a": "string", "b": "array"}),
        (
            '{"a": (exactly one of: x, y), "b": (Thing: JSON that fits: {"type": "object"})}',
            {"a": "string", "b": "object"},
        ),
        ('{"a": "x" or "y", "b": {...}}', {"a": "string", "b": "object"}),
        ('{"a": string', None),
        ("{a}", None),
        ("{" * 2000, None),
    ],
)
def test_a_shape_that_is_written_out_is_read(text: str, shape: dict[str, str] | None) -> None:
    found = shape_in(f"Answer so:\n{text}\n")
    properties = found["properties"] if found is not None else None

    assert (properties and {name: own["type"] for name, own in properties.items()}) == shape  # type: ignore[attr-defined]  # a mapping


def test_keys_in_words_are_a_shape() -> None:
    found = keys_in(
        "text: x\n\nAnswer with JSON with these keys: name (as it is), sure (true or false), level (integer; 1 to 5), "
        "items (a list of {name, size: integer, at: [number, ...]}), tags (a list or null; some), "
        'mood (happy, angry or mixed), grade ("1" or "2"), day (YYYY-MM-DD or null).'
    )

    item = {
        "name": {"type": "string"},
        "size": {"type": "integer"},
        "at": {"type": "array", "items": {"type": "number"}},
    }
    assert found == {
        "type": "object",
        "properties": {
            "name": {},
            "sure": {"type": "boolean"},
            "level": {"type": "integer"},
            "items": {"type": "array", "items": {"type": "object", "properties": item}},
            "tags": {"type": "array", "items": {"type": "string"}},
            "mood": {"type": "string", "enum": ["happy", "angry", "mixed"]},
            "grade": {"type": "string", "enum": ["1", "2"]},
            "day": {},
        },
    }
