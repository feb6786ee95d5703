"""Tool calls in the shapes that models and servers really write, from the wire to the tool."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

import dspex
from dspex.programs import Observation
from tests.support.provider_answers import (
    app_at,
    asked,
    by_body,
    call,
    calls,
    chat,
    claude,
    delta,
    events,
    failed,
    gemini,
    responses,
    streamed,
)
from tests.support.transports import Answer, serving

TOOLS: dict[str, Any] = {"capabilities": {"tools": True}}
FINISH = calls(call("finish"))
FINAL = chat("[[ ## reasoning ## ]]\nr\n\n[[ ## answer ## ]]\ndone\n\n[[ ## completed ## ]]")


def now() -> str:
    """Tell the time."""
    return "12:00"


def add(a: int, b: int = 2) -> int:
    """Add."""
    return a + b


class Choose(dspex.Signature):
    """Have tools called."""

    question: str = dspex.InputField()
    tools: list[dspex.Tool[..., Any]] = dspex.InputField()
    calls: dspex.ToolCalls = dspex.OutputField()


class ChooseAndSay(dspex.Signature):
    """Have tools called."""

    question: str = dspex.InputField()
    tools: list[dspex.Tool[..., Any]] = dspex.InputField()
    say: str = dspex.OutputField()
    calls: dspex.ToolCalls = dspex.OutputField()


CHOOSE: Any = dspex.Predict(Choose)
CHOOSE_AND_SAY: Any = dspex.Predict(ChooseAndSay)
AGENT = dspex.ReAct("question -> answer", tools=[now, add])


def first_step(prediction: Any) -> Any:
    trajectory = dspex.details(prediction).trajectory
    assert trajectory is not None
    return trajectory[0]


@pytest.mark.parametrize("signature", [Choose, ChooseAndSay])
async def test_text_beside_a_call_is_kept_and_is_not_an_output(signature: Any) -> None:
    async with serving(calls(call("now"), content="Let me look.")) as server, app_at(server, lm=TOOLS) as app:
        prediction = await app.run(dspex.Predict(signature), question="q", tools=[now, add])
        assert len(server.requests) == 1

    assert [each.name for each in prediction.calls] == ["now"]
    assert "say" not in prediction.to_dict()
    completion = dspex.details(prediction).completion
    assert completion is not None
    assert completion.text == "Let me look."


async def test_an_output_beside_a_call_is_an_output_where_it_is_written_as_one() -> None:
    written = "[[ ## say ## ]]\nLooking.\n\n[[ ## completed ## ]]"
    async with serving(calls(call("now"), content=written)) as server, app_at(server, lm=TOOLS) as app:
        prediction: Any = await app.run(CHOOSE_AND_SAY, question="q", tools=[now, add])

    assert [each.name for each in prediction.calls] == ["now"]
    assert prediction.say == "Looking."


class ChooseAndCount(dspex.Signature):
    """Have tools called."""

    question: str = dspex.InputField()
    tools: list[dspex.Tool[..., Any]] = dspex.InputField()
    say: int = dspex.OutputField()
    calls: dspex.ToolCalls = dspex.OutputField()


class ChooseAndSayBriefly(dspex.Signature):
    """Have tools called."""

    question: str = dspex.InputField()
    tools: list[dspex.Tool[..., Any]] = dspex.InputField()
    say: str = dspex.OutputField(desc="a few words")
    calls: dspex.ToolCalls = dspex.OutputField()


@pytest.mark.parametrize(
    ("signature", "text", "said"),
    [
        (ChooseAndSay, "Let me look.", None),
        (ChooseAndSay, "say: Looking.", "Looking."),
        (ChooseAndSay, '{"say": "Looking."}', "Looking."),
        (ChooseAndSayBriefly, "Let me look.", None),
        (ChooseAndSayBriefly, '{"say": "Looking."}', "Looking."),
        (ChooseAndCount, "I need 2 facts.", None),
        (ChooseAndCount, "2", None),
        (ChooseAndCount, "say: 2", 2),
    ],
)
@pytest.mark.parametrize("on_interrupt", ["", "raise", "reset"])
async def test_in_few_words_an_output_beside_a_call_says_that_it_is_one(
    signature: Any, text: str, said: object, on_interrupt: Any
) -> None:
    """Whole, and streamed: what a watcher was told is in the prediction, or was taken back."""
    pieces = [delta(content=text[:5]), delta(content=text[5:]), delta(tool_calls=[{"index": 0, **call("now")}])]
    answer = events(*pieces, delta(finish="tool_calls")) if on_interrupt else calls(call("now"), content=text)
    program: Any = dspex.Predict(signature, adapter="auto", repair_turns=0)
    told = ""
    async with serving(answer) as server, app_at(server, lm=TOOLS) as app:
        if on_interrupt:
            watched = app.options(on_interrupt=on_interrupt)
            async with watched.stream(program, question="q", tools=[now, add]) as stream:
                async for each in stream:
                    told = "" if isinstance(each, dspex.Reset) else told + each.text * (each.field == "say")
                prediction = await stream.result()
        else:
            prediction = await app.run(program, question="q", tools=[now, add])

    assert [each.name for each in prediction.calls] == ["now"]
    assert prediction.to_dict().get("say") == said
    assert told in ("", str(said))


@pytest.mark.parametrize(
    "shape",
    [
        {"id": "1", "type": "function", "function": {"name": "add", "parameters": {"a": 5}}},
        {"id": "1", "type": "function", "function": {"name": "add", "arguments": {"a": 5}}},
        {"id": "1", "type": "function", "function": {"name": "add", "arguments": '"{\\"a\\": 5}"'}},
        {"id": "1", "function": {"name": "add", "arguments": '{}{"a": 5}'}},
        {"id": "1", "name": "add", "arguments": '{"a": 5}'},
        {"id": "1", "type": "function", "function": "add", "arguments": {"a": 5}},
    ],
)
async def test_calls_are_read_in_every_shape(shape: dict[str, Any]) -> None:
    async with serving(calls(shape), FINISH, FINAL) as server, app_at(server, lm=TOOLS) as app:
        assert first_step(await app.run(AGENT, question="q")).observation.text == "7"


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>\n{"name": "add", "arguments": {"a": 5}}\n</tool_call>',
        'I will add.\n<tool_call>{"name": "add", "arguments": {"a": 5}}</tool_call>',
        '<tool_call>\n{"name": "add", "arguments": {"a": 5}}',
        '{"name": "add", "parameters": {"a": 5}}',
        '{"type": "function", "name": "add", "parameters": "{\\"a\\": 5}"}',
        '<|python_tag|>{"name": "add", "parameters": {"a": 5}}<|eom_id|>',
        '[TOOL_CALLS][{"name": "add", "arguments": {"a": 5}}]',
        '<function=add>{"a": 5}</function>',
        '```json\n{"function": {"name": "add", "arguments": {"a": 5}}}\n```',
        '{"tool_calls": [{"name": "add", "arguments": {"a": 5}}]}',
    ],
)
async def test_calls_that_a_server_left_in_the_text_are_made(text: str) -> None:
    """They go back as calls, so that the model sees its own answer in the form it was trained on."""
    async with serving(chat(text), FINISH, FINAL) as server, app_at(server, lm=TOOLS) as app:
        assert first_step(await app.run(AGENT, question="q")).observation.text == "7"
        [again] = asked(server)[1]["messages"][-2]["tool_calls"]

    assert json.loads(again["function"]["arguments"]) == {"a": 5}


SEPARATOR = "<\uff5ctool\u2581sep\uff5c>"
BEGIN = "<\uff5ctool\u2581calls\u2581begin\uff5c><\uff5ctool\u2581call\u2581begin\uff5c>NAME"
END = "<\uff5ctool\u2581call\u2581end\uff5c><\uff5ctool\u2581calls\u2581end\uff5c>"
MARKED = {
    "qwen": "<tool_call>\n<function=add>\n<parameter=a>\n5\n</parameter>\n</function>\n</tool_call>",
    "glm": "<tool_call>add\n<arg_key>a</arg_key>\n<arg_value>5</arg_value>\n</tool_call>",
    "deepseek": BEGIN.replace("NAME", f"function{SEPARATOR}add") + '\n```json\n{"a": 5}\n```' + END,
    "deepseek 3.1": BEGIN.replace("NAME", f"add{SEPARATOR}") + '{"a": 5}' + END,
    "kimi": "<|tool_calls_section_begin|><|tool_call_begin|>functions.add:0<|tool_call_argument_begin|>"
    '{"a": 5}<|tool_call_end|><|tool_calls_section_end|>',
    "gpt-oss": '<|channel|>commentary to=functions.add <|constrain|>json<|message|>{"a": 5}<|call|>',
    "gpt-oss without its stop": '<|start|>assistant to=functions.add<|channel|>commentary json<|message|>{"a": 5}',
    "mistral": '[TOOL_CALLS]add{"a": 5}',
    "mistral with arguments marked": '[TOOL_CALLS]add[ARGS]{"a": 5}',
    "granite": '<|tool_call|>[{"name": "add", "arguments": {"a": 5}}]',
    "functionary": '<function=add>{"a": 5}</function>',
    "claude": '<function_calls><invoke name="add"><parameter name="a">5</parameter></invoke></function_calls>',
    "llama": "[add(a=5)]",
}


@pytest.mark.parametrize("case", MARKED)
async def test_calls_in_the_marks_of_a_model_are_read(case: str) -> None:
    """By the predictor that asks for calls, and by the agent, which makes them."""
    answer = chat(MARKED[case])
    async with serving(answer, answer, FINISH, FINAL) as server, app_at(server, lm=TOOLS) as app:
        found = (await app.run(CHOOSE, question="q", tools=[now, add])).calls
        step = first_step(await app.run(AGENT, question="q"))

    assert [(each.name, each.arguments) for each in found] == [("add", {"a": 5})]
    assert (step.call.name, step.observation.text) == ("add", "7")


@pytest.mark.parametrize(
    "text",
    [
        "[add(5)]",
        "[add(a=now())]",
        "[add(a=5), drop()]",
    ],
)
async def test_calls_that_are_not_certain_are_not_made(text: str) -> None:
    async with serving(chat(text), FINISH, FINAL) as server, app_at(server, lm=TOOLS) as app:
        assert first_step(await app.run(AGENT, question="q")).call.name == "finish"


UNMARKED = {"llama"}


@pytest.mark.parametrize("case", [each for each in MARKED if each not in UNMARKED])
async def test_a_marked_call_of_a_tool_that_is_not_there_is_told_to_the_model(case: str) -> None:
    """An agent shows it the error and goes on; a predictor asks again, and says which tools there are."""
    wrong = chat(MARKED[case].replace("add", "drop"))
    agent, right = (wrong, FINISH, FINAL), calls(call("now"))
    async with serving(*agent, wrong, right) as server, app_at(server, lm=TOOLS) as app:
        step = first_step(await app.run(AGENT, question="q"))
        found = (await app.run(CHOOSE, question="q", tools=[now, add])).calls
        again = asked(server)[-1]["messages"]

    assert (step.call.name, step.call.arguments) == ("drop", {"a": 5})
    assert "there is no tool 'drop'; there are now, add" in step.observation.text
    assert [each.name for each in found] == ["now"]
    assert "there is no tool 'drop'; there are now, add" in again[-1]["content"]


@pytest.mark.parametrize(
    "text",
    [
        "<function=add><parameter=a>5</parameter> and more</function>",
        "<function=add><parameter=a>5</parameter><parameter=a>6</parameter></function>",
        '<tool_call>{"name": "add", "arguments": {"a": 5}</tool_call>',
        '<function=add>{"a": 5, "b": {"}</function>',
        "<tool_call>\n<function=add>\n<parameter=a>\n5\n",
        '<invoke name="add"><parameter name="a">5</parameter>',
        "<tool_call>add\n<arg_key>a</arg_key>\n<arg_value>5</arg_value>",
        "<tool_call>add<arg_key>a</arg_key><arg_value>5</arg_value><arg_key>a</arg_key><arg_value>6</arg_value></tool_call>",
    ],
)
async def test_a_marked_call_that_cannot_be_read_is_told_to_the_model(text: str) -> None:
    """It is not made, and it is not the model's last word; a predictor asks again."""
    script = (chat(text), FINISH, FINAL, chat(text), calls(call("now")))
    async with serving(*script) as server, app_at(server, lm=TOOLS) as app:
        step = first_step(await app.run(AGENT, question="q"))
        found = (await app.run(CHOOSE, question="q", tools=[now, add])).calls
        assert [each.name for each in found] == ["now"]

    assert step.call.name == "add"
    assert isinstance(step.observation.error, dspex.ToolArgumentsInvalid)


async def test_a_call_that_the_model_only_thought_of_is_not_made() -> None:
    text = f"<think>Perhaps {MARKED['qwen']}?</think>It is done."
    async with serving(chat(text), FINAL) as server, app_at(server, lm=TOOLS) as app:
        assert first_step(await app.run(AGENT, question="q")).call.name == "finish"


async def test_words_before_a_marked_call_stay() -> None:
    """They go back to the model beside the call."""
    async with (
        serving(chat("I will add.\n" + MARKED["qwen"]), FINISH, FINAL) as server,
        app_at(server, lm=TOOLS) as app,
    ):
        step = first_step(await app.run(AGENT, question="q"))
        again = asked(server)[1]["messages"][-2]

    assert (step.thought, step.observation.text) == ("I will add.", "7")
    assert (again["content"], len(again["tool_calls"])) == ("I will add.", 1)


@pytest.mark.parametrize(
    "text", ["Call add with 5.", 'For example {"name": "add", "arguments": {"a": 5}} adds.', '{"name": "drop"}', "[]"]
)
async def test_other_text_is_an_answer(text: str) -> None:
    async with serving(chat(text), FINAL) as server, app_at(server, lm=TOOLS) as app:
        assert first_step(await app.run(AGENT, question="q")).call.name == "finish"


@pytest.mark.parametrize("arguments", ['{"a": 1', '{"a": "1', "a is 5", "[5]"])
async def test_broken_arguments_are_shown_to_the_model(arguments: str) -> None:
    """Nothing is done with half of them, and no server is sent what it cannot read."""
    async with serving(calls(call("add", arguments)), FINISH, FINAL) as server, app_at(server, lm=TOOLS) as app:
        step = first_step(await app.run(AGENT, question="q"))
        [again] = asked(server)[1]["messages"][-2]["tool_calls"]

    assert isinstance(step.observation.error, dspex.ToolArgumentsInvalid)
    assert json.loads(again["function"]["arguments"]) == {"INVALID_JSON": arguments}


class Talk(dspex.Signature):
    """Have tools called."""

    question: str = dspex.InputField()
    history: dspex.History = dspex.InputField(default_factory=dspex.History)
    tools: list[dspex.Tool[..., Any]] = dspex.InputField()
    calls: dspex.ToolCalls = dspex.OutputField()


CALLED = {"type": "function_call", "call_id": "1", "name": "now", "arguments": "{}"}
SPOKEN: dict[str, tuple[Answer, Callable[[Any], list[Any]]]] = {
    "openai/m": (
        calls(call("now"), content="Let me look."),
        lambda body: [
            (each["content"], each["tool_calls"][0]["function"]["name"])
            for each in body["messages"]
            if each["role"] == "assistant"
        ],
    ),
    "openai-responses/m": (
        responses("Let me look.", more=[CALLED]),
        lambda body: [
            (first["content"], second["name"])
            for first, second in pairwise(body["input"])
            if second.get("type") == "function_call"
        ],
    ),
    "anthropic/claude-sonnet-4-5": (
        claude(
            {"type": "text", "text": "Let me look."},
            {"type": "tool_use", "id": "t", "name": "now", "input": {}},
            stop="tool_use",
        ),
        lambda body: [
            (each["content"][0]["text"], each["content"][1]["name"])
            for each in body["messages"]
            if each["role"] == "assistant"
        ],
    ),
    "gemini/gemini-2.5-flash": (
        gemini({"text": "Let me look."}, {"functionCall": {"name": "now", "args": {}}}),
        lambda body: [
            (each["parts"][0]["text"], each["parts"][1]["functionCall"]["name"])
            for each in body["contents"]
            if each["role"] == "model"
        ],
    ),
}


@pytest.mark.parametrize("model", SPOKEN)
async def test_words_beside_a_call_go_back_with_it(model: str) -> None:
    """In the form of each protocol: from a history and from a demonstration."""
    answer, replayed = SPOKEN[model]
    talk: Any = dspex.Predict(Talk)
    async with serving(answer, answer) as server, app_at(server, model, lm=TOOLS) as app:
        first = await app.run(talk, question="q", tools=[now, add])
        demo = {"question": "e", "tools": [], "calls": first.calls}
        history = dspex.History().with_turn(first).with_results(first.calls, [Observation("12:00")])
        await app.run(talk.with_demos([demo]), question="q", tools=[now, add], history=history)
        body = asked(server)[1]

    assert replayed(body) == [("Let me look.", "now")] * 2


@pytest.mark.parametrize("arguments", ['{"a": 1', '{"a": "1', "a is 5", "[5]", '{"a": 1, "a": 2}'])
async def test_a_predictor_asks_again_where_arguments_are_broken(arguments: str) -> None:
    """It tells the model what they were, in words; a call with half of them is never handed out."""
    script = (calls(call("add", arguments), content="So:"), calls(call("add", '{"a": 5}')))
    async with serving(*script) as server, app_at(server, lm=TOOLS) as app:
        prediction: Any = await app.run(CHOOSE, question="q", tools=[now, add])
        *_, said, told = asked(server)[1]["messages"]

    assert [(each.name, each.arguments) for each in prediction.calls] == [("add", {"a": 5})]
    assert (said["content"], "tool_calls" in said) == ("So:", False)
    assert f"they were {arguments!r}" in told["content"]


@pytest.mark.parametrize("arguments", ["{'a': 5}", '```json\n{"a": 5}\n```', '{"a": 5,}'])
async def test_arguments_that_are_nearly_json_are_repaired_the_same_way(arguments: str) -> None:
    """By an agent and by a predictor; what goes back to a server is JSON."""
    wrong = calls(call("add", arguments))
    async with serving(wrong, wrong, FINISH, FINAL) as server, app_at(server, lm=TOOLS) as app:
        prediction: Any = await app.run(CHOOSE, question="q", tools=[now, add])
        assert first_step(await app.run(AGENT, question="q")).observation.text == "7"

    [only] = prediction.calls
    assert (only.arguments, json.loads(only.raw)) == ({"a": 5}, {"a": 5})
    assert [each.kind for each in dspex.details(prediction).repairs] == ["json"]


async def test_broken_arguments_are_an_error_where_nothing_is_asked_again() -> None:
    program: Any = dspex.Predict(Choose, repair_turns=0)
    async with serving(calls(call("add", '{"a": 1'))) as server, app_at(server, lm=TOOLS) as app:
        with pytest.raises(dspex.ResponseUnparsable, match="they end too early"):
            await app.run(program, question="q", tools=[now, add])


@pytest.mark.parametrize("arguments", ["null", "", "[]", None])
async def test_no_arguments_are_none_in_every_spelling(arguments: str | None) -> None:
    async with serving(calls(call("now", arguments)), FINISH, FINAL) as server, app_at(server, lm=TOOLS) as app:
        assert first_step(await app.run(AGENT, question="q")).observation.text == "12:00"


async def test_two_calls_with_one_id_get_a_result_each() -> None:
    both = calls(call("now"), call("add", '{"a": 5}'))
    async with serving(both, FINISH, FINAL) as server, app_at(server, lm=TOOLS) as app:
        await app.run(AGENT, question="q")
        results = {
            each["tool_call_id"]: each["content"] for each in asked(server)[1]["messages"] if each["role"] == "tool"
        }

    assert list(results.values()) == ["12:00", "7"]


PIECES: dict[str, list[tuple[str, str, str]]] = {
    "in pieces": [("", "ad", ""), ("", "d", ""), ("", "", '{"a":'), ("", "", "5}")],
    "in pieces, the id at first": [("1", "ad", ""), ("", "d", ""), ("", "", '{"a": 5}')],
    "in pieces, the id always": [("1", "ad", ""), ("1", "d", ""), ("1", "", '{"a": 5}')],
    "in every piece": [("", "add", ""), ("", "add", '{"a":'), ("", "add", "5}")],
    "longer in every piece": [("1", "a", ""), ("1", "add", ""), ("1", "add", '{"a": 5}')],
    "behind its arguments' beginning": [("1", "", '{"a":'), ("1", "add", ""), ("1", "", "5}")],
}


@pytest.mark.parametrize("case", PIECES)
async def test_a_name_is_read_however_it_is_streamed(case: str) -> None:
    pieces = [
        delta(tool_calls=[{"index": 0, "id": call_id or None, "function": {"name": name, "arguments": arguments}}])
        for call_id, name, arguments in PIECES[case]
    ]
    async with serving(events(*pieces, delta(finish="tool_calls"))) as server, app_at(server, lm=TOOLS) as app:
        found = (await streamed(app, CHOOSE, question="q", tools=[now, add])).calls

    assert [(each.name, each.arguments) for each in found] == [("add", {"a": 5})]


async def test_the_form_before_there_were_several_is_read() -> None:
    """``function_call``, whole and streamed."""
    one = {"name": "add", "arguments": '{"a": 5}'}
    pieces = [{"name": "add", "arguments": ""}, {"arguments": '{"a":'}, {"arguments": "5}"}]
    stream = events(*(delta(function_call=each) for each in pieces), delta(finish="function_call"))
    whole_answer = chat(None, "function_call", function_call=one)
    async with serving(whole_answer, stream) as server, app_at(server, lm=TOOLS) as app:
        whole = (await app.run(CHOOSE, question="q", tools=[now, add])).calls
        told = (await streamed(app, CHOOSE, question="q", tools=[now, add])).calls

    assert [(each.name, each.arguments) for each in whole] == [("add", {"a": 5})]
    assert [(each.name, each.arguments) for each in told] == [("add", {"a": 5})]


@pytest.mark.parametrize("number", [0, None])
async def test_streamed_calls_with_one_number_stay_apart(number: int | None) -> None:
    pieces = [
        delta(tool_calls=[{"index": number, **call(name, arguments, call_id)}])
        for call_id, name, arguments in (("1", "now", ""), ("2", "add", '{"a":'), ("2", "", "5}"))
    ]
    async with serving(events(*pieces, delta(finish="tool_calls"))) as server, app_at(server, lm=TOOLS) as app:
        found = (await streamed(app, CHOOSE, question="q", tools=[now, add])).calls

    assert [(each.name, each.arguments) for each in found] == [("now", {}), ("add", {"a": 5})]


@pytest.mark.parametrize(
    "text",
    [
        '[{"name": "add", "parameters": {"a": 5}}]',
        '[{"name": "add", "args": "{\\"a\\": 5}"}]',
        '{"tool_calls": [{"type": "function", "function": {"name": "add", "arguments": "{\\"a\\": 5}"}}]}',
        '{"name": "add", "arguments": {"a": 5}}',
    ],
)
async def test_calls_written_as_a_field_are_read_in_every_shape(text: str) -> None:
    answer = chat(f"[[ ## calls ## ]]\n{text}\n\n[[ ## completed ## ]]")
    async with serving(answer) as server, app_at(server, lm={"capabilities": {"tools": False}}) as app:
        found = (await app.run(CHOOSE, question="q", tools=[now, add])).calls

    assert [(each.name, each.arguments) for each in found] == [("add", {"a": 5})]


async def test_anthropics_input_as_text_is_read() -> None:
    script = (
        claude({"type": "tool_use", "id": "t", "name": "add", "input": '{"a": 5}'}, stop="tool_use"),
        claude({"type": "tool_use", "id": "u", "name": "finish", "input": None}, stop="tool_use"),
        claude(stop="end_turn", text="[[ ## reasoning ## ]]\nr\n\n[[ ## answer ## ]]\ndone"),
    )
    async with serving(*script) as server, app_at(server, "anthropic/claude-sonnet-4-5") as app:
        assert first_step(await app.run(AGENT, question="q")).observation.text == "7"


async def test_a_server_that_refuses_tools_is_asked_in_text_from_then_on() -> None:
    def answer(body: Any) -> Any:
        if "tools" in body:
            return failed(400, '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set')
        prompt = json.dumps(body["messages"])
        if "next_tool_name" not in prompt:
            return FINAL
        name = "finish" if "12:00" in prompt else "now"
        return chat(
            f"[[ ## next_thought ## ]]\nt\n\n[[ ## next_tool_name ## ]]\n{name}\n\n[[ ## next_tool_args ## ]]\n{{}}"
            "\n\n[[ ## completed ## ]]"
        )

    async with serving(by_body(answer)) as server, app_at(server, lm=TOOLS) as app:
        assert first_step(await app.run(AGENT, question="q")).observation.text == "12:00"
        before = len(server.requests)
        await app.run(AGENT, question="q")

    assert len(server.requests) == 2 * before - 1


async def test_half_an_answer_in_the_finishing_call_is_not_the_answer() -> None:
    """It is shown to the model, which gives all of it."""
    quick = dspex.ReAct("question -> answer", tools=[now], answer_in_finish=True)
    half, whole = calls(call("finish", '{"answer": "Par')), calls(call("finish", '{"answer": "Paris"}'))
    async with serving(half, whole) as server, app_at(server, lm=TOOLS) as app:
        assert (await app.run(quick, question="q")).answer == "Paris"


@pytest.mark.parametrize("adapter", ["tool", "chat"])
async def test_a_predictor_goes_on_without_tools_where_they_are_refused(adapter: str) -> None:
    """The form of the answer, and the calls of a field, are asked for as text."""

    def answer(body: Any) -> Any:
        if "tools" in body:
            return failed(400, "registry.ollama.ai/library/x does not support tools")
        if adapter == "tool":
            return chat('{"answer": "Paris"}')
        return chat('[[ ## calls ## ]]\n[{"name": "now", "args": {}}]\n\n[[ ## completed ## ]]')

    async with serving(by_body(answer)) as server, app_at(server, lm=TOOLS) as app:
        if adapter == "tool":
            assert (await app.run(dspex.Predict("question -> answer", adapter="tool"), question="q")).answer == "Paris"
        else:
            found = (await app.run(CHOOSE, question="q", tools=[now, add])).calls
            assert [each.name for each in found] == ["now"]


def note(text: str) -> str:
    """Keep a note."""
    return f"kept {text}"


NOTES = dspex.ReAct("question -> answer", tools=[note])


async def test_an_argument_that_is_there_twice_is_shown_to_the_model() -> None:
    """The last of two is not done without a word about the first."""
    twice = calls(call("note", '{"text": "a", "text": "b"}'))
    async with serving(twice, FINISH, FINAL) as server, app_at(server, lm=TOOLS) as app:
        step = first_step(await app.run(NOTES, question="q"))

    assert isinstance(step.observation.error, dspex.ToolArgumentsInvalid)
    assert "'text' is there twice" in step.observation.text


async def test_a_number_for_a_text_keeps_its_digits() -> None:
    async with serving(calls(call("note", '{"text": 1.10}')), FINISH, FINAL) as server, app_at(server, lm=TOOLS) as app:
        assert first_step(await app.run(NOTES, question="q")).observation.text == "kept 1.10"
