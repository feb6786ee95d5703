"""Answers as models write them: each is read as what was meant, or refused, so that the model is asked again."""

from __future__ import annotations

from typing import Any

import pytest

from dspex.errors import ResponseUnparsable
from dspex.programs import ChatAdapter, JSONAdapter, Signature, ToolAdapter, XMLAdapter
from tests.support.field_pieces import streamed

CHAT, JSON, XML, TOOL = ChatAdapter(), JSONAdapter(), XMLAdapter(), ToolAdapter()
REFUSED = "refused"
END = "\n\n[[ ## completed ## ]]"


def read(adapter: Any, spec: str, text: str) -> Any:
    """Return the outputs, or ``REFUSED``; the stream must say the same, however it is cut."""
    signature = Signature.from_string(spec)
    try:
        outputs = adapter.parse(signature, text).outputs
    except ResponseUnparsable:
        return REFUSED
    for size in (1, 7, len(text)):
        chunks = [text[at : at + size] for at in range(0, len(text), size)]
        texts, values = streamed(adapter, signature, chunks)
        for name, value in outputs.items():
            assert values.get(name, value) == value
            assert not isinstance(value, str) or texts.get(name, "") == value or signature.fields[name].optional
    return outputs


@pytest.mark.parametrize(
    "text",
    [
        "[[ ## answer ## ]]\nParis [[ ## completed ## ]]",
        "[[ ## answer ## ]]\nParis[[ ## completed ## ]]\n",
        "[[ ## answer ## ]] Paris [[ ## completed ## ]]",
        "[[ ## answer ## ]]\nParis\n[[ ## Completed ## ]]",
        "**[[ ## answer ## ]]**\nParis\n\n**[[ ## completed ## ]]**",
        "### [[ ## answer ## ]]\nParis",
        "- [[ ## answer ## ]]\nParis",
        "1. [[ ## answer ## ]]: Paris",
        "> `[[ ## answer ## ]]`\nParis",
        "[[ ## Answer ## ]]\nParis",
        "[[ ## ANSWER ## ]]\nParis" + END,
        "[[ ## answer ## (str)]]\nParis" + END,
        "[[ ## answer ## ]] (str)\nParis",
        "[[ ## answer (str) ## ]]\nParis",
        "[[ ## answer: str ## ]]\nParis",
        "[[ ## answer ## : str]]\nParis",
        '[[ ## "answer" ## ]]\nParis',
        "[[ ## `answer` ## ]]\nParis",
        "[[ ## {answer} ## ]]\nParis",
        "[[## answer ##]]\nParis",
        "[[ ### answer ### ]]\nParis",
        "[[ ## answer ## ]\nParis",
        "[[ ## answer ## ]]]\nParis",
        "[[ ## answer ##\nParis",
        "[[ ## answer ]]\nParis",
        "[[answer]]\nParis",
        "[ ## answer ## ]\nParis",
        "## answer ##\nParis",
        "[[ # answer # ]]\nParis",
        "\\[\\[ ## answer ## \\]\\]\nParis",
        "Here it is: [[ ## answer ## ]] Paris",
        "Sure!\n\n[[ ## answer ## ]]\r\nParis\r\n\r\n[[ ## completed ## ]]",
        "```\n[[ ## answer ## ]]\nParis\n```",
        "```markdown\n[[ ## answer ## ]]\nParis\n\n[[ ## completed ## ]]\n```",
        "[[ ## answer ## ]]\nParis\n\n[[ ## completed",
        "[[ ## answer ## ]]\nParis\n\n[[ ## comp",
        "[[ ## answer ## ]]\nParis [[ ##",
        "[[ ## answer ## ]]\nParis<|im_end|>",
        "[[ ## answer ## ]]\nParis\n<|eot_id|>",
        "[[ ## answer ## ]]\n\n[[ ## answer ## ]]\nParis",
        "[[ ## question ## ]]\nWhere?\n\n[[ ## answer ## ]]\nParis",
        "[[ ## answer ## ]]\nParis" + END + "\n\n[[ ## question ## ]]\nNext?\n\n[[ ## answer ## ]]\nRome",
        '{"answer": "Paris"}',
        '```json\n{"answer": "Paris"}\n```',
    ],
)
def test_a_header_is_a_header(text: str) -> None:
    assert read(CHAT, "question -> answer", text) == {"answer": "Paris"}


@pytest.mark.parametrize(
    ("text", "outputs"),
    [
        (
            "[[ ## reasoning ## ]]\nThink.[[ ## answer ## ]]\nParis[[ ## completed ## ]]",
            {"reasoning": "Think.", "answer": "Paris"},
        ),
        (
            "[[ ## reasoning ## ]] Think. [[ ## answer ## ]] Paris [[ ## completed ## ]]",
            {"reasoning": "Think.", "answer": "Paris"},
        ),
        (
            "[[ ## reasoning ## ]]\nI write [[ ## answer ## ]] then [[ ## completed ## ]].\n\n[[ ## answer ## ]]\nX"
            + END,
            {"reasoning": "I write [[ ## answer ## ]] then [[ ## completed ## ]].", "answer": "X"},
        ),
        (
            "[[ ## reasoning ## ]]\nA wiki link [[ ## other page ## ]] here.\n\n[[ ## answer ## ]]\nX",
            {"reasoning": "A wiki link [[ ## other page ## ]] here.", "answer": "X"},
        ),
        (
            "[[ ## reasoning ## ]]\nSee [[#anchor]] and a[[0]].\n\n[[ ## answer ## ]]\nX",
            {"reasoning": "See [[#anchor]] and a[[0]].", "answer": "X"},
        ),
        ("[[ ## reasoning ## ]]\nI say [[ ## answer ## ]] is X, so [[ ## answer ## ]] X", REFUSED),
        ("[[ ## reasoning ## ]]\nThink.\n\nParis", REFUSED),
        ("Think. The answer is Paris.", REFUSED),
    ],
)
def test_what_is_said_about_headers_stays_text(text: str, outputs: Any) -> None:
    assert read(CHAT, "q -> reasoning, answer", text) == outputs


def test_names_may_be_written_with_spaces() -> None:
    assert read(CHAT, "q -> final_answer: int", "[[ ## Final Answer ## ]]\n4") == {"final_answer": 4}
    assert read(JSON, "q -> final_answer: int", '{"Final Answer": 4}') == {"final_answer": 4}
    assert read(JSON, "q -> answer: int", '{"answer (int)": 4}') == {"answer": 4}


@pytest.mark.parametrize(
    "text",
    [
        '``` json\n["a"]\n```[[ ## completed ## ]]',
        '```json\n["a"]\n```',
        '~~~\n["a"]\n~~~',
        "```python\n['a']\n```",
        'Here:\n["a"]',
        'The list is: ["a"]',
        '["a",]',
        '["a"]\n\nI hope this helps.',
        "('a',)",
        "[a]",
        "[\u201ca\u201d]",
        '["a"] // one',
    ],
)
def test_a_list_with_things_around_it(text: str) -> None:
    assert read(CHAT, "q -> xs: list[str]", f"[[ ## xs ## ]]\n{text}") == {"xs": ["a"]}


@pytest.mark.parametrize("text", ['["a"', '["a", "b', '["a", ...]', "See [1]. a, b", '["a"]\n["b"]', '["a" "b"]', "a"])
def test_a_list_that_is_not_certain(text: str) -> None:
    assert read(CHAT, "q -> xs: list[str]", f"[[ ## xs ## ]]\n{text}") == REFUSED


THOUGHTS = [
    "<think>{}</think>\n\n",
    "<think>{}</think>",
    "\n<think>\n{}\n</think>\n",
    "<THINK>{}</THINK>",
    "<thinking>{}</thinking>\n",
    "<thought>{}</thought>\n",
    "<thinking>{}</thinking>",
    "<think>a</think>\n<think>{}</think>",
    "<think>about the <think> tag: {}</think>\n",
    "{}</think>\n\n",
    "Okay, so.\n{}\n</think>\n",
    "Let me think.\n<think>{}</think>\n",
    "[THINK]{}[/THINK]",
    "<|begin_of_thought|>\n{}\n<|end_of_thought|>\n\n<|begin_of_solution|>\n",
    "<|START_THINKING|>{}<|END_THINKING|><|START_RESPONSE|>",
    "<unused94>thought\n{}<unused95>",
    "<|channel>thought\n{}\n<channel|>",
    "\u25c1think\u25b7{}\u25c1/think\u25b7",
    "<seed:think>{}</seed:think>",
    "<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>",
    "<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>final <|constrain|>json<|message|>",
    "analysisWe must write {} assistantfinal",
]


@pytest.mark.parametrize("thoughts", THOUGHTS)
@pytest.mark.parametrize(
    ("adapter", "draft", "answer"),
    [
        pytest.param(CHAT, "\n[[ ## v ## ]]\ndraft\n", "[[ ## v ## ]]\nfinal" + END, id="chat"),
        pytest.param(JSON, 'Like {"v": "draft"}?', '{"v": "final"}', id="json"),
        pytest.param(JSON, 'Like {"v": "draft"}?', '```json\n{"v": "final"}\n```', id="json-fenced"),
        pytest.param(XML, "Say <v>draft</v>", "<v>final</v>", id="xml"),
        pytest.param(TOOL, 'Like {"v": "draft"}?', '{"v": "final"}', id="tool"),
    ],
)
def test_a_rehearsal_is_not_the_answer(adapter: Any, draft: str, answer: str, thoughts: str) -> None:
    signature = Signature.from_string("q -> v")
    text = thoughts.format(draft) if "{}" in thoughts else thoughts
    text += answer

    assert adapter.parse(signature, text).outputs == {"v": "final"}
    if not thoughts.startswith(("{}", "Okay")):  # a stream has told the draft by then, and is taken back
        for size in (1, 5, len(text)):
            chunks = [text[at : at + size] for at in range(0, len(text), size)]
            assert streamed(adapter, signature, chunks)[0] == {"v": "final"}


@pytest.mark.parametrize(
    ("adapter", "text"),
    [
        (CHAT, "<think>I might\n[[ ## v ## ]]\nLondon"),
        (CHAT, "<think>I might\n[[ ## v ## ]]\nLondon\n[[ ## completed ## ]]"),
        (JSON, '<think>I might {"v": "London"}'),
        (XML, "<think>I might <v>London</v>"),
        (CHAT, "<|channel|>analysis<|message|>I might\n[[ ## v ## ]]\nLondon"),
        (JSON, '{"v": "London"} hm, no: {"v": "Paris"}'),
        (JSON, '{"v": "London", "v": "Paris"}'),
    ],
)
def test_thoughts_alone_are_no_answer(adapter: Any, text: str) -> None:
    assert read(adapter, "q -> v", text) == REFUSED


@pytest.mark.parametrize(
    "value",
    [
        "Use <think> and </think>.",
        "<think>",
        "</think>",
        "a\n</think>\nb",
        "so:\n<think>\nwhat\n</think>\nthat is how R1 writes",
        "[THINK] is Magistral's",
        "<|im_end|> ends a turn",
        "<reasoning>x</reasoning>",
    ],
)
@pytest.mark.parametrize("adapter", [CHAT, JSON, XML, TOOL], ids=lambda each: each.name)
def test_a_value_may_speak_of_thoughts(adapter: Any, value: str) -> None:
    signature = Signature.from_string("q -> first, last")
    for outputs in ({"first": value, "last": "x"}, {"first": "x", "last": value}):
        assert read(adapter, "q -> first, last", adapter.format_outputs(signature, outputs)) == outputs


def test_headers_among_late_thoughts_are_not_certain() -> None:
    text = "[[ ## a ## ]]\nx\n\n<think>hm\n[[ ## b ## ]]\nLondon?</think>\n\n[[ ## b ## ]]\nParis"

    assert read(CHAT, "q -> a, b", text) == REFUSED


@pytest.mark.parametrize(
    ("text", "outputs"),
    [
        ('The set {a, b} matters.\n{"answer": "a"}\nSee {x}.', {"answer": "a"}),
        ('For x in {"x": 1}: {"answer": "a"}', {"answer": "a"}),
        ('{"output": {"answer": "a"}}', {"answer": "a"}),
        ('{"name": "give_outputs", "arguments": {"answer": "a"}}', {"answer": "a"}),
        ('[{"answer": "a"}]', {"answer": "a"}),
        ('{"answer": "a"}\n{"answer": "a"}', {"answer": "a"}),
        ('{"Answer": "a"}', {"answer": "a"}),
        ("{'answer': 'it\\'s'}", {"answer": "it's"}),
        ("{'answer': \"it's\", 'x': None, 'y': True}", {"answer": "it's"}),
        ('{"answer": "a",}', {"answer": "a"}),
        ('{answer: "a"}', {"answer": "a"}),
        ('{"answer": "a"', {"answer": "a"}),
        ('"answer": "a"', {"answer": "a"}),
        ('{"answer": "raw\nline"}', {"answer": "raw\nline"}),
        ('{"answer": "the "best" one"}', {"answer": 'the "best" one'}),
        ('{"answer": "\\d+ \\(x\\)"}', {"answer": "\\d+ \\(x\\)"}),
        ('{"answer": """a "b"\nc"""}', {"answer": 'a "b"\nc'}),
        ('{"answer": `a`}', {"answer": "a"}),
        ("{\u201canswer\u201d: \u201ca\u201d}", {"answer": "a"}),
        ("[[ ## answer ## ]]\na\n\n[[ ## completed ## ]]", {"answer": "a"}),
        ('{"answer": """a\\nb"""}', REFUSED),
        ('{"answer": "\\x41"}', REFUSED),
        ('{"answer": "Par', REFUSED),
        ('{"answer": "a" "b"}', REFUSED),
        ('{"answer": "He said "yes", "no" and left"}', REFUSED),
        ('{"answer": ```a```}', REFUSED),
        ('{"answer": null}', REFUSED),
        ('{"answer": Paris, France}', REFUSED),
        ('{"other": "a"}', REFUSED),
        ("{}", REFUSED),
        ("", REFUSED),
    ],
)
def test_objects(text: str, outputs: Any) -> None:
    assert read(JSON, "q -> answer", text) == outputs


@pytest.mark.parametrize(
    ("spec", "text", "outputs"),
    [
        ("q -> v", '<v type="text">a</v>', "a"),
        ("q -> v", "<V>a</V>", "a"),
        ("q -> v", "< v >a</ v >", "a"),
        ("q -> v", "<outputs><v>a</v></outputs>", "a"),
        ("q -> v", "```xml\n<v>a</v>\n```", "a"),
        ("q -> v", "<?xml version='1.0'?>\n<v>a</v>", "a"),
        (
            "q -> v",
            "<v>Tom &amp; Jerry &lt;3 &#65;&#x42; &quot;x&quot; &apos;y&apos;</v>",
            "Tom & Jerry <3 AB \"x\" 'y'",
        ),
        ("q -> v", "<v>R&D, a < b & c</v>", "R&D, a < b & c"),
        ("q -> v", "<v><![CDATA[if a < b && c: &amp;]]></v>", "if a < b && c: &amp;"),
        ("q -> v", "<v><![CDATA[</v>]]></v>", "</v>"),
        ("q -> v", "<v><v>a</v></v>", "a"),
        ("q -> v", "<v>a", "a"),
        ("q -> v", "<v>a</", "a"),
        ("q -> v", "<v/>", ""),
        ("q -> v", "<v>a</v><v>b</v>", REFUSED),
        ("q -> v", "<v>a</v><v> a </v><v/>", "a"),
        ("q -> v", "<v>a<v>", REFUSED),
        ("q -> v: list[str]", "<v></v>", []),
        ("q -> v: list[str]", "<v />", []),
        ("q -> v: list[str]", "<v>a</v>", ["a"]),
        ("q -> v: list[str]", "<v>a</v><v>b &amp; c</v>", ["a", "b & c"]),
        ("q -> v: list[str]", "<v><item>a</item><item>b</item></v>", ["a", "b"]),
        ("q -> v: list[str]", '<v>["a &amp; b"]</v>', ["a & b"]),
        ("q -> v: list[str]", "<v>Here: <item>a</item></v>", REFUSED),
        ("q -> v: list[int]", "<v>1</v><v>2</v>", [1, 2]),
        ("q -> v: dict[str, int]", "<v></v>", {}),
        ("q -> v: dict[str, list[int]]", "<v><a>1</a><a>2</a><b>3</b></v>", {"a": [1, 2], "b": [3]}),
        ("q -> v: Optional[int]", "<v>None</v>", None),
        ("q -> v: int", "<v>\n 7 \n</v>", 7),
        ("q -> v", '{"v": "a"}', "a"),
    ],
)
def test_elements(spec: str, text: str, outputs: Any) -> None:
    assert read(XML, spec, text) == (outputs if outputs == REFUSED else {"v": outputs})


def test_an_output_that_is_not_closed_ends_at_the_next() -> None:
    assert read(XML, "q -> a, b", "<a>one\n<b>two</b>") == {"a": "one", "b": "two"}
    assert read(XML, "q -> a, b", "<a>say <b> here</a>\n<b>two</b>") == {"a": "say <b> here", "b": "two"}
