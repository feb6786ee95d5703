"""``adapter="auto"``: which form a signature gets, what is forgiven, and the second turn behind thoughts."""

from __future__ import annotations

import enum
from datetime import date
from typing import Literal

import pydantic
import pytest

import dspex
from dspex.errors import DspexError, ResponseUnparsable
from dspex.programs import ChatAdapter
from dspex.programs.adapters._adapter import Repair
from dspex.programs.adapters.auto import AutoAdapter, form_of
from dspex.programs.signature import plan_of
from dspex.protocols.content import ReasoningPart, ToolCall
from dspex.protocols.lm import Completion, JsonSchema
from dspex.protocols.scope import Delta
from dspex.testing import ScriptedLM
from tests.support.field_pieces import streamed

AUTO = AutoAdapter()


class Item(pydantic.BaseModel):
    name: str
    sizes: list[int]


class Sort(dspex.Signature):
    """Sort the message."""

    message: str = dspex.InputField()
    kind: Literal["bug", "bug report", "praise"] = dspex.OutputField()


def told(text: str) -> object:
    return AUTO.parse(Sort, text).outputs["kind"]


# --- forms --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("signature", "form"),
    [
        ("question -> answer", "value"),
        ("question -> answer: int", "value"),
        ("question -> answer: list[str]", "object"),
        ("question -> answer: str | None", "object"),
        ("question -> answer, sure: bool", "object"),
        ("question -> reasoning, answer: int", "thoughts"),
        ("question -> reasoning", "value"),
    ],
)
def test_a_signature_has_the_form_that_asks_least(signature: str, form: str) -> None:
    assert form_of(plan_of(dspex.Predict(signature).signature)) == form


def with_notes(desc: str = "", most: int | None = None) -> type[dspex.Signature]:
    class Ask(dspex.Signature):
        question: str = dspex.InputField()
        answer: str = dspex.OutputField(desc=desc, max_length=most)

    return Ask


@pytest.mark.parametrize(
    ("desc", "is_in_object"),
    [
        ("a few words, not a sentence", True),
        ("often between 1 and 5 words", True),
        ("one or two words", True),
        ("a short factoid answer", True),
        ("one word", True),
        ("No full sentences", True),
        ("in a few short sentences", False),
        ("in simple words", False),
        ("at most 200 words", False),
        ("between 5 and 100 words", False),
        ("a long text", False),
        ("", False),
    ],
)
def test_a_text_of_a_few_words_is_in_an_object(desc: str, is_in_object: bool) -> None:
    assert form_of(plan_of(with_notes(desc))) == ("object" if is_in_object else "value")


def test_the_most_characters_tell_a_text_of_a_few_words() -> None:
    assert form_of(plan_of(with_notes(most=40))) == "object"
    assert form_of(plan_of(with_notes(most=4000))) == "value"


def test_a_few_words_without_an_object_are_the_value_all_the_same() -> None:
    asked = with_notes("a few words")

    assert AUTO.parse(asked, '{"answer": "Sao Paulo"}') == ({"answer": "Sao Paulo"}, (), "")
    parsed = AUTO.parse(asked, "Sao Paulo")
    assert (parsed.outputs, parsed.repairs) == ({"answer": "Sao Paulo"}, (Repair("answer", "format"),))
    assert AUTO.parse(asked, "answer: Sao Paulo").outputs == {"answer": "Sao Paulo"}
    for unclear in ('{"answer": "Sao', '"Sao Paulo"', "answer = Sao", "**Sao**", "<answer>Sao", "First\nSecond", ""):
        with pytest.raises(ResponseUnparsable):
            AUTO.parse(asked, unclear)


def test_the_whole_prompt_of_a_choice() -> None:
    system, user = AUTO.format(Sort, {"message": "It crashes."})

    assert system.text == "Sort the message.\n\nThe kind is one of these:\nbug\nbug report\npraise"
    assert user.text == "message: It crashes.\n\nkind:"


class Place(enum.Enum):
    HERE = "here"
    THERE = "over there"


def test_several_outputs_are_the_keys_of_an_object() -> None:
    """A schema of pydantic's costs three times as much, and small models copy it."""
    signature = (
        dspex.Signature.from_string("text -> name, sure: bool")
        .append("items", dspex.OutputField(), list[Item])
        .append("day", dspex.OutputField(desc="when it was"), date | None)
        .append("place", dspex.OutputField(), Place)
        .append("level", dspex.OutputField(), Literal["1", "2"])
        .append("tags", dspex.OutputField(default=None), list[str])
    )

    assert AUTO.format(signature, {"text": "x"})[-1].text == (
        "text: x\n\nAnswer with JSON with these keys: name, sure (true or false), "
        "items (a list of {name, sizes: [integer, ...]}), day (YYYY-MM-DD or null; when it was), "
        'place (here or over there), level ("1" or "2"), tags (a list or null).'
    )


def test_a_type_that_refers_to_itself_is_shown_by_its_schema() -> None:
    class Tree(pydantic.BaseModel):
        leaves: "list[Tree]"  # noqa: UP037 - itself

    Tree.model_rebuild(_types_namespace={"Tree": Tree})
    signature = dspex.Signature.from_string("text -> a: int").append("tree", dspex.OutputField(), Tree)

    assert 'tree (JSON that fits this schema: {"$defs"' in AUTO.format(signature, {"text": ""})[-1].text


# --- reading ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["bug report", " Bug Report.\n", "kind: bug report", "**Kind:** bug report", "It is a `bug report`."]
)
def test_a_choice_is_found_in_a_short_sentence(text: str) -> None:
    assert told(text) == "bug report"


@pytest.mark.parametrize("text", ["", "bug or praise", "debug", "no idea", "praise " + "x" * 300])
def test_a_choice_is_refused_where_there_are_several_or_none(text: str) -> None:
    with pytest.raises(ResponseUnparsable):
        told(text)


@pytest.mark.parametrize(
    ("text", "value", "is_repaired"),
    [
        ("[[ ## answer ## ]]\nAda\n\n[[ ## completed ## ]]", "Ada", True),
        ('{"answer": "Ada"}', "Ada", True),
        ('{"answer": ["Ada"]}', '["Ada"]', True),
        ('{"name": "Ada"}', '{"name": "Ada"}', False),
        ('answer: {"answer": "Ada"}', '{"answer": "Ada"}', False),
        ("[[Ada]]", "[[Ada]]", False),
        ('{"answer": "Ada", "age": 36}', None, False),
        ('{"answer": "Ada', None, False),
        ('{"answer": ' + "[" * 100_000, None, False),
        ("[[ ## name ## ]]\nAda", None, False),
        ('```json\n{"answer": "Ada"}\n```', "Ada", True),
        ('```\n{"answer": "Ada"}\n```', "Ada", True),
        ('```json\n{"answer": "Ada"}\n```\nThat is all.', None, False),
        ('```json\n{"name": "Ada"}\n```', '```json\n{"name": "Ada"}\n```', False),
        ("<answer>Ada</answer>", "Ada", True),
        ("<answer>\nAda & <b>Bob</b>\n</answer>", "Ada & <b>Bob</b>", True),
        ("<answer>Ada</answer><answer>Bob</answer>", None, False),
        ("<answer>Ada", None, False),
        ("<name>Ada</name>", "<name>Ada</name>", False),
    ],
)
def test_a_text_in_another_form_is_not_taken_for_the_value(text: str, value: str | None, is_repaired: bool) -> None:
    """Models that learned header lines, or JSON, write them unasked."""
    signature = dspex.Predict("question -> answer").signature
    if value is None:
        with pytest.raises(ResponseUnparsable):
            AUTO.parse(signature, text)
        return

    parsed = AUTO.parse(signature, text)

    assert parsed.outputs == {"answer": value}
    assert bool(parsed.repairs) == is_repaired
    assert streamed(AUTO, signature, list(text))[0] == {"answer": value}
    assert AUTO.parse(signature, AUTO.format_outputs(signature, {"answer": text})).outputs == {"answer": text}


def test_tags_that_may_be_the_value_s_own_stay() -> None:
    signature = dspex.Predict("question -> html").signature

    assert AUTO.parse(signature, "<html>Ada</html>").outputs == {"html": "<html>Ada</html>"}


@pytest.mark.parametrize(
    ("text", "value", "thoughts"),
    [
        ("<think>hm</think>Ada", "Ada", "hm"),
        ("hm\n</think>\n\nAda", "Ada", "hm"),
        ("hm</think>Ada", "Ada", "hm"),
        ("Use </think> to end it.", "Use </think> to end it.", ""),
        ("Use `</think>` here.", "Use `</think>` here.", ""),
        ("Ada<|im_end|>", "Ada", ""),
        ("Ada</s>", "Ada", ""),
        ("<s>Bob</s> Ada</s>", "<s>Bob</s> Ada</s>", ""),
        ("<|channel|>final<|message|>Ada", "Ada", ""),
        ("<think>hm", None, ""),
        ("hm</think>", None, ""),
        ("hm\n</think>\n", None, ""),
    ],
)
def test_thoughts_and_marks_of_a_chat_template_are_not_the_value(text: str, value: str | None, thoughts: str) -> None:
    """Servers without a reader for them leave both in the text."""
    signature = dspex.Predict("question -> answer").signature
    if value is None:
        with pytest.raises(ResponseUnparsable):
            AUTO.parse(signature, text)
        return

    parsed = AUTO.parse(signature, text)

    assert parsed.outputs == {"answer": value}
    assert parsed.thoughts == thoughts


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("17", 17),
        ("The answer is 1,017.", 1017),
        ("5 + 3 = 8\nanswer: 8", 8),
        ("So \\boxed{8}.", 8),
        ("So \\boxed{8} and \\boxed{9}", None),
        ("So \\boxed{8 or 9}", None),
        ("So \\boxed{8}. Again: \\boxed{8}", 8),
        ("So \\(\\boxed{\\$1{,}008 \\text{ dollars}}\\)", 1008),
        ("So \\boxed{\\frac{8}{2}}", None),
        ("So \\boxed{\\sqrt{9}}", None),
        ("So \\boxed{2^3}", None),
        ("So \\boxed{8", None),
        ("So \\boxed{}", None),
        ("So within \\boxed{}, it is \\boxed{8}.", 8),
        ("5 + 3\n**Answer:** $8", 8),
        ("### answer: \\boxed{8}\n", 8),
        ("answer: 8\nYes.\nanswer: 8", 8),
        ("answer: 8\nNo.\nanswer: 9", None),
        ("answer: 8 or 9", None),
        ("thinking", None),
    ],
)
def test_a_number_stands_alone_or_behind_its_label(text: str, value: int | None) -> None:
    thinks = len(text.split("\n")) > 1 or text.startswith(("So", "answer: 8 or 9", "thinking"))
    spec = "question -> reasoning, answer: int" if thinks else "question -> answer: int"
    signature = dspex.Predict(spec).signature

    if value is None:
        with pytest.raises(ResponseUnparsable):
            AUTO.parse(signature, text)
    else:
        assert AUTO.parse(signature, text).outputs["answer"] == value


def test_a_box_that_is_the_last_line_is_not_a_thought() -> None:
    signature = dspex.Predict("question -> reasoning, answer: int").signature

    read = AUTO.parse(signature, "Three and four.\n\\boxed{7}\n").outputs
    inside = AUTO.parse(signature, "So it is\n\\(\\boxed{7}\\).").outputs

    assert read == {"reasoning": "Three and four.", "answer": 7}
    assert inside == {"reasoning": "So it is\n\\(\\boxed{7}\\).", "answer": 7}


@pytest.mark.parametrize(
    "thoughts", ["Three.", "In a \\boxed{3} already.", "\\boxed{3}", "answer: 3\n\\boxed{4}", "x\n"]
)
def test_thoughts_with_a_box_of_their_own_come_back(thoughts: str) -> None:
    signature = dspex.Predict("question -> reasoning, answer: int").signature
    outputs = {"reasoning": thoughts.strip(), "answer": 7}

    assert AUTO.parse(signature, AUTO.format_outputs(signature, outputs)).outputs == outputs


# --- turns --------------------------------------------------------------------------------------------------------


async def test_thoughts_that_end_with_their_value_take_one_turn() -> None:
    lm = ScriptedLM(["Three and four.\nanswer: 7"])
    async with dspex.App(lm, adapter="auto", cache=None) as app:
        prediction = await app.run(dspex.ChainOfThought("question -> answer: int"), question="3 + 4?")

    assert prediction.answer == 7
    assert dspex.details(prediction).reasoning == "Three and four."
    assert len(lm.requests) == 1
    assert lm.requests[0].prompt == (
        "question: 3 + 4?\n\nPlease reason step by step, and put your final answer within \\boxed{}."
    )


async def test_values_are_asked_for_behind_thoughts_that_lack_them() -> None:
    """The second turn goes on from the first, under an enforced schema of the values alone."""
    lm = ScriptedLM(["Three and four are seven.", '{"answer": 7}'])
    async with dspex.App(lm, adapter="auto", cache=None) as app:
        prediction = await app.run(dspex.ChainOfThought("question -> answer: int"), question="3 + 4?")

    details = dspex.details(prediction)
    assert prediction.answer == 7
    assert details.reasoning == "Three and four are seven."
    assert [each.kind for each in details.repairs] == ["values"]
    assert "  asked for the values behind the thoughts (values)\n" in details.explain()
    first, second = (each.request for each in lm.requests)
    assert first.output is None
    assert second.messages[: len(first.messages)] == first.messages
    assert [each.role for each in second.messages[len(first.messages) :]] == ["assistant", "user"]
    assert second.messages[-1].text == "Now give only the final values as JSON with these keys: answer (integer)."
    assert isinstance(second.output, JsonSchema)
    assert list(second.output.schema["properties"]) == ["answer"]


@pytest.mark.parametrize("streams", [False, True])
async def test_a_model_that_thinks_by_itself_is_not_asked_to_think_again(streams: bool) -> None:
    """Its own thoughts are the reasoning; one that is told not to think, or cannot, thinks in words."""
    said = Completion("7", reasoning=(ReasoningPart("Three and four."),))
    think = dspex.ChainOfThought("question -> answer: int", reasoning="low")
    lm = ScriptedLM([said], capabilities={"reasoning": True})
    async with dspex.App(lm, adapter="auto", cache=None) as app:
        if streams:
            async with app.stream(think, question="3 + 4?") as stream:
                pieces = [each async for each in stream]
                prediction = await stream.result()
            assert [each.text for each in pieces if isinstance(each, Delta) and each.field == "reasoning"] != []
        else:
            prediction = await app.run(think, question="3 + 4?")
    plain = ScriptedLM(["So.\nanswer: 7"] * 2, capabilities={"reasoning": False})
    async with dspex.App(plain, adapter="auto", cache=None) as app:
        assert (await app.run(think, question="3 + 4?")).answer == 7
        assert (await app.run(think.with_config(reasoning="none"), question="3 + 4?")).answer == 7

    assert prediction.answer == 7
    assert dspex.details(prediction).reasoning == "Three and four."
    assert type(dspex.details(prediction).reasoning) is str
    assert "step by step" not in lm.requests[0].prompt
    assert all("step by step" in each.prompt for each in plain.requests)


async def test_the_second_turn_is_paid_for() -> None:
    """A budget that has room for one call refuses the second; the totals have both."""
    think = dspex.ChainOfThought("question -> answer: int")
    lm = ScriptedLM(lambda request: '{"answer": 7}' if len(request.messages) > 2 else "Three and four.")
    async with dspex.App(lm, adapter="auto", cache=None) as app:
        details = dspex.details(await app.run(think, question="3 + 4?"))
        with pytest.raises(DspexError) as caught:
            await app.options(budget=dspex.Budget(calls=1)).run(think, question="3 + 4?")
        with pytest.raises(dspex.BudgetExceeded):
            await app.options(budget=dspex.Budget(tokens=details.usage.total_tokens - 1)).run(think, question="3 + 4?")

    assert details.request.calls == 2
    assert details.usage.total_tokens == sum(each.response.usage.total_tokens for each in details.results)
    assert isinstance(caught.value, ResponseUnparsable)
    assert isinstance(caught.value.__cause__, dspex.BudgetExceeded)


async def test_values_that_cannot_be_read_are_asked_for_again() -> None:
    lm = ScriptedLM(["Hm.", '{"answer": "seven"}', '{"answer": 7}'])
    async with dspex.App(lm, adapter="auto", cache=None) as app:
        prediction = await app.run(dspex.ChainOfThought("question -> answer: int"), question="3 + 4?")

    assert prediction.answer == 7
    assert dspex.details(prediction).reasoning == "Hm."
    assert [each.kind for each in dspex.details(prediction).repairs] == ["values", "turn"]
    assert len(lm.requests[-1].request.messages) == len(lm.requests[0].request.messages) + 4


async def test_without_repair_turns_the_first_answer_is_the_last_word() -> None:
    lm = ScriptedLM(["Hm."])
    async with dspex.App(lm, adapter="auto", cache=None) as app:
        with pytest.raises(ResponseUnparsable):
            await app.run(dspex.ChainOfThought("question -> answer: int", repair_turns=0), question="3 + 4?")


async def test_a_stream_keeps_its_thoughts_when_values_are_asked_for() -> None:
    lm = ScriptedLM(["Three.\nFour.", '{"answer": 7}'])
    async with dspex.App(lm, adapter="auto", cache=None) as app:
        program = dspex.ChainOfThought("question -> answer: int")
        async with app.stream(program, question="3 + 4?") as stream:
            parts = [part async for part in stream]
            assert (await stream.result()).answer == 7

    pieces = [each for each in parts if isinstance(each, Delta)]
    assert len(pieces) == len(parts) - 1 or len(pieces) == len(parts)  # no reset
    assert "".join(each.text for each in pieces if each.field == "reasoning") == "Three.\nFour."
    assert [each.value_so_far for each in pieces if each.field == "answer"][-1] == 7


# --- calls that are written as text ---------------------------------------------------------------------------------


def search(query: str) -> str:
    """Search."""
    return query


class Act(dspex.Signature):
    """Call a tool."""

    request: str = dspex.InputField()
    tools: list[dspex.Tool[..., object]] = dspex.InputField()
    calls: dspex.ToolCalls = dspex.OutputField()


@pytest.mark.parametrize("adapter", ["chat", "json", "auto"])
@pytest.mark.parametrize(
    "text",
    [
        '{"name": "search", "arguments": {"query": "cats"}}',
        '```json\n[{"name": "search", "args": {"query": "cats"}}]\n```',
        '<tool_call>\n{"name": "search", "arguments": {"query": "cats"}}\n</tool_call>',
    ],
)
async def test_a_call_that_is_written_as_text_is_a_call(adapter: Literal["chat", "json", "auto"], text: str) -> None:
    """Servers do not notice every model's way to ask for a call; the answer would be lost in silence."""
    lm = ScriptedLM([text])
    async with dspex.App(lm, adapter=adapter, cache=None) as app:
        prediction = await app.run(dspex.Predict(Act), request="cats?", tools=[dspex.tool(search)])

    assert [(each.name, each.arguments) for each in prediction.calls] == [("search", {"query": "cats"})]
    assert Repair("calls", "json") in dspex.details(prediction).repairs


def rain(city: str, day: date, hours: int = 24, exact: bool = False) -> str:
    """Tell if it
    will rain."""
    return city


IN_WORDS = {"tools": True, "json_schema": True, "grammar": True}
CALL = '{"name": "rain", "arguments": {"city": "Rome", "day": "2026-01-31"}}'


async def test_where_calls_can_be_enforced_each_tool_is_a_line() -> None:
    """Native definitions cost three times the tokens, and small models call no better by them."""
    lm = ScriptedLM([CALL], capabilities=IN_WORDS)
    async with dspex.App(lm, adapter="auto", cache=None) as app:
        tools: list[dspex.Tool[..., object]] = [dspex.tool(rain), dspex.tool(search)]
        prediction = await app.run(dspex.Predict(Act), request="Rain?", tools=tools)

    [call] = prediction.calls
    request = lm.requests[0].request
    assert (call.name, call.arguments) == ("rain", {"city": "Rome", "day": "2026-01-31"})
    assert dspex.details(prediction).repairs == ()
    assert request.tools == ()
    assert request.messages[0].text == (
        "Call a tool.\n\nTools:\nrain(city, day: YYYY-MM-DD, hours?: integer, exact?: boolean): Tell if it will rain.\n"
        "search(query): Search."
    )
    assert request.messages[-1].text == (
        'request: Rain?\n\nAnswer with the call as JSON: {"name": ..., "arguments": {...}}; [] for none.'
    )
    assert isinstance(request.output, JsonSchema)
    first, _, several = request.output.schema["anyOf"]
    assert first["properties"]["name"] == {"const": "rain"}
    assert first["properties"]["arguments"]["required"] == ["city", "day"]
    assert first["properties"]["arguments"]["additionalProperties"] is False
    assert len(several["items"]["anyOf"]) == 2


@pytest.mark.parametrize(("text", "count"), [("[]", 0), (f"[{CALL}, {CALL}]", 2), ("There is nothing to call.", 0)])
async def test_none_or_several_calls_can_be_written(text: str, count: int) -> None:
    lm = ScriptedLM([text], capabilities=IN_WORDS)
    async with dspex.App(lm, adapter="auto", cache=None) as app:
        prediction = await app.run(dspex.Predict(Act), request="Rain?", tools=[dspex.tool(rain)])

    assert len(prediction.calls) == count


async def test_what_looks_like_a_call_and_is_none_is_asked_for_again() -> None:
    lm = ScriptedLM(['{"tool": "rain"}', CALL], capabilities=IN_WORDS)
    async with dspex.App(lm, adapter="auto", cache=None) as app:
        prediction = await app.run(dspex.Predict(Act), request="Rain?", tools=[dspex.tool(rain)])

    assert len(prediction.calls) == 1
    assert "there is no call in it" in lm.requests[1].prompt
    assert lm.requests[1].prompt.endswith("[] for none.")


async def test_demonstrations_of_calls_are_written_as_they_are_asked_for() -> None:
    lm = ScriptedLM([CALL], capabilities=IN_WORDS)
    demo = {
        "request": "Rome?",
        "tools": [],
        "calls": dspex.ToolCalls([("rain", {"city": "Rome", "day": "2026-01-31"})]),
    }
    async with dspex.App(lm, adapter="auto", cache=None) as app:
        await app.run(dspex.Predict(Act, demos=[demo]), request="Rain?", tools=[dspex.tool(rain)])

    _, user, assistant, last = lm.requests[0].request.messages
    assert (user.text, assistant.content) == ("request: Rome?", CALL)
    assert last.role == "user"


async def test_tools_stay_native_where_an_answer_may_be_something_else() -> None:
    lm = ScriptedLM([ToolCall("1", "rain", {})], capabilities=IN_WORDS)
    signature = Act.append("words", dspex.OutputField(default=""), str)
    async with dspex.App(lm, adapter="auto", cache=None) as app:
        await app.run(dspex.Predict(signature), request="Rain?", tools=[dspex.tool(rain)])

    assert [each.name for each in lm.requests[0].request.tools] == ["rain"]


async def test_a_written_call_of_no_tool_is_refused_and_asked_for_again() -> None:
    lm = ScriptedLM(['{"name": "fly", "arguments": {}}', ToolCall("1", "search", {"query": "cats"})])
    async with dspex.App(lm, cache=None) as app:
        prediction = await app.run(dspex.Predict(Act), request="cats?", tools=[dspex.tool(search)])

    assert [each.name for each in prediction.calls] == ["search"]
    assert "there is no tool 'fly'" in lm.requests[-1].prompt


@pytest.mark.parametrize(
    "text",
    [
        *('{"name": "search"}', '{"name": "search", "arguments": 1}', "[", "search(query='cats')"),
        '{"name": "search", "arguments": {"query": "cats"}}\n{"name": "search", "arguments": {"query": "dogs"}}',
        '{"name": "search", "arguments": {"query": "cats", "query": "dogs"}}',
        '{"name": "search", "name": "fly", "arguments": {"query": "cats"}}',
        'I call {"name": "search", "arguments": {"query": "cats"}} now.',
        '{"search": {"query": "cats"}}',
        "{'name': 'search', 'arguments': {'query': 'cats'}}",
    ],
)
async def test_what_looks_like_calls_and_is_none_is_not_taken_for_no_call(text: str) -> None:
    """Where calls are the only output, nothing else is said by it."""
    lm = ScriptedLM([text, ToolCall("1", "search", {"query": "cats"})])
    async with dspex.App(lm, cache=None) as app:
        prediction = await app.run(dspex.Predict(Act), request="cats?", tools=[dspex.tool(search)])

    assert [each.name for each in prediction.calls] == ["search"]
    assert [each.kind for each in dspex.details(prediction).repairs] == ["turn"]


@pytest.mark.parametrize("text", ["Nothing to call.", "There is no need to search(it).", "[]", "{}"])
async def test_other_text_is_no_call(text: str) -> None:
    lm = ScriptedLM([text])
    async with dspex.App(lm, cache=None) as app:
        prediction = await app.run(dspex.Predict(Act), request="cats?", tools=[dspex.tool(search)])

    assert len(prediction.calls) == 0


@pytest.mark.parametrize(
    "spec",
    [
        "question -> answer",
        "question -> answer: int",
        "text -> sure: bool",
        "text, question -> answer: list[str]",
        "text -> kind: Literal['a', 'b', 'c']",
        "text -> scores: dict[str, float]",
        "question -> reasoning, answer",
        "question -> reasoning, answer: float",
    ],
)
def test_no_prompt_is_longer_than_that_of_the_chat_format(spec: str) -> None:
    """Large models pay for a prompt's words, too."""
    signature = dspex.Predict(spec).signature
    inputs = dict.fromkeys((each.name for each in plan_of(signature).inputs), "x")

    few, chat = (sum(len(each.text) for each in adapter.format(signature, inputs)) for adapter in (AUTO, ChatAdapter()))

    assert few <= 0.7 * chat
