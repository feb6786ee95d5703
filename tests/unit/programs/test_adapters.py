"""The requests of each adapter, given the model's capabilities, and the abilities that models may use by themselves."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import json
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pydantic
import pytest

from dspex.errors import MissingInput, ResponseUnparsable, SignatureError, StateError
from dspex.programs import (
    ChainOfThought,
    ChatAdapter,
    Citations,
    FieldType,
    History,
    Image,
    InputField,
    JSONAdapter,
    Module,
    OutputField,
    Predict,
    Reasoning,
    Signature,
    Tool,
    ToolAdapter,
    ToolCalls,
    XMLAdapter,
    details,
)
from dspex.protocols.content import Citation, ReasoningPart, TextPart, ToolCall, ToolResult
from dspex.protocols.lm import Capabilities, Completion, JsonObject, JsonSchema, Message, ToolSpec
from dspex.protocols.model import LMParams
from dspex.testing.scripted import ScriptedScope
from tests.support.streams import WatchedScope

ABLE = Capabilities(json_schema=True, json_object=True, tools=True, reasoning=True)


@dataclass(frozen=True, slots=True)
class Shouting(ChatAdapter):
    """An adapter of a user's own."""

    name: ClassVar[str] = "shouting"


class Kind(enum.Enum):
    GOOD = "good"
    BAD = "bad"


class Item(pydantic.BaseModel):
    title: str
    size: int | None = None


class Rated(Signature):
    """Rate the text."""

    text: str = InputField()
    kind: Kind = OutputField(desc="how it is")
    items: list[Item] = OutputField(default_factory=list)
    score: float = OutputField(ge=0, le=1)


class Open(Signature):
    text: str = InputField()
    facts: dict[str, Any] = OutputField()


def output_of(adapter: Any, signature: type[Signature], able: Capabilities) -> JsonSchema | JsonObject | None:
    output: JsonSchema | JsonObject | None = adapter.request(signature, (), LMParams(), able).output
    return output


class TestJson:
    def test_the_schema_is_closed_and_made_once(self) -> None:
        output = output_of(JSONAdapter(), Rated, ABLE)

        assert isinstance(output, JsonSchema)
        assert output.strict
        assert output_of(JSONAdapter(), Rated, ABLE) is output
        schema = output.schema
        assert (schema["required"], schema["additionalProperties"]) == (["kind", "items", "score"], False)
        assert schema["properties"]["score"] == {"maximum": 1, "minimum": 0, "type": "number"}
        item = schema["$defs"]["Item"]
        assert (item["required"], item["additionalProperties"]) == (["title", "size"], False)
        assert {"type": "null"} in schema["properties"]["items"]["anyOf"]

    @pytest.mark.parametrize(
        ("signature", "able", "expected"),
        [
            (Rated, Capabilities(json_object=True), JsonObject()),
            (Rated, Capabilities(), None),
            (Open, ABLE, JsonObject()),
            (Open, Capabilities(json_schema=True), None),
        ],
    )
    def test_it_asks_for_the_strictest_form_there_is(
        self, signature: type[Signature], able: Capabilities, expected: object
    ) -> None:
        assert output_of(JSONAdapter(), signature, able) == expected

    def test_what_strict_modes_refuse_is_left_out(self) -> None:
        """The values are checked here anyway."""
        signature = Signature.from_string("q -> n").append("out", OutputField(max_length=3), str)
        signature = signature.append("cost", OutputField(), decimal.Decimal).append("at", OutputField(), dt.date)

        output = output_of(JSONAdapter(), signature, ABLE)

        assert isinstance(output, JsonSchema)
        assert output.schema["properties"]["out"] == {"type": "string"}
        assert output.schema["properties"]["at"] == {"type": "string", "format": "date"}
        assert "(?" not in json.dumps(output.schema)

    @pytest.mark.parametrize("type_", [dict[str, int], tuple[int, str], Any, list[Any], dict[str, Any] | None])
    def test_what_cannot_be_enforced_gets_the_json_mode(self, type_: Any) -> None:
        signature = Signature.from_string("q -> n").append("out", OutputField(), type_)

        assert output_of(JSONAdapter(), signature, ABLE) == JsonObject()

    @pytest.mark.parametrize(
        "type_",
        [str, int, bool, Literal["a", "b"], Kind, Item, list[Item], Item | None, list[list[int]], Image, ToolCalls],
    )
    def test_any_schema_is_json_and_every_object_in_it_is_closed(self, type_: Any) -> None:
        signature = Signature.from_string("q -> other").append("out", OutputField(), type_)

        output = output_of(JSONAdapter(), signature, Capabilities(json_schema=True, json_object=True))

        if isinstance(output, JsonSchema):
            text = json.dumps(output.schema)
            assert text.count('"type": "object"') == text.count('"additionalProperties": false')

    @pytest.mark.parametrize(
        ("answer", "repair"),
        [
            ('{"answer": "a"}', ()),
            ('```json\n{"answer": "a"}\n```', ()),
            ('Here it is: {"answer": "a"} as asked.', (("", "json"),)),
            ('{"answer": "a"', (("", "json"),)),
            ("{'answer': 'a'}", (("", "json"),)),
        ],
    )
    def test_reading_climbs_down_and_says_so(self, answer: str, repair: tuple[object, ...]) -> None:
        parsed = JSONAdapter().parse(Signature.from_string("q -> answer"), answer)

        assert (parsed.outputs, parsed.repairs) == ({"answer": "a"}, repair)

    def test_null_means_left_out_where_there_is_a_default(self) -> None:
        parsed = JSONAdapter().parse(Rated, '{"kind": "GOOD", "items": null, "score": "0.5"}')

        assert parsed.outputs == {"kind": Kind.GOOD, "items": [], "score": 0.5}

    def test_no_object_is_every_output_missing(self) -> None:
        with pytest.raises(ResponseUnparsable) as caught:
            JSONAdapter().parse(Rated, "I cannot")

        assert caught.value.missing_fields == ("kind", "score")

    async def test_a_correction_names_the_keys(self) -> None:
        scope = ScriptedScope(["no", '{"answer": "a"}'])

        await scope.run(Predict("q -> answer", adapter=JSONAdapter()), q="q")

        assert "- there was no key `answer`" in scope.asked[1].request.messages[-1].text


class TestTool:
    def test_the_outputs_are_the_arguments_of_the_one_tool(self) -> None:
        request = ToolAdapter().request(Rated, (), LMParams(), ABLE)

        assert [each.name for each in request.tools] == [request.tool_choice]
        assert list(request.tools[0].parameters["properties"]) == ["kind", "items", "score"]

    def test_a_model_without_tools_is_asked_for_text(self) -> None:
        request = ToolAdapter().request(Rated, (), LMParams(), Capabilities(json_object=True))

        assert (request.tools, request.output) == ((), JsonObject())


class TestChoosing:
    @pytest.mark.parametrize("name", ["yaml", 3, ChatAdapter, object()])
    def test_what_is_no_adapter_is_refused(self, name: Any) -> None:
        with pytest.raises(ValueError, match="expected one of auto, chat, json, xml, tool"):
            Predict("q -> a", adapter=name)

    def test_a_program_passes_it_to_its_predictors(self) -> None:
        class Two(Module):
            def __init__(self) -> None:
                self.one = Predict("q -> a")
                self.two = ChainOfThought("q -> a", adapter="json")

            async def forward(self, q: str) -> None:
                """Nothing."""

        program = Two().with_adapter("xml")

        assert [each.adapter for each in program.predictors().values()] == [XMLAdapter(), XMLAdapter()]
        assert Two().two.predict.adapter == JSONAdapter()

    def test_it_is_saved(self) -> None:
        state = Predict("q -> a", adapter="json").dump_state()

        assert Predict("q -> a").load_state(state).adapter == JSONAdapter()
        state["self"]["dspex"]["adapter"] = "yaml"
        with pytest.raises(
            StateError, match="adapter 'yaml' is not one of auto, chat, json, xml, tool: load into a program"
        ):
            Predict("q -> a").load_state(state)

    def test_one_of_the_users_own_is_kept_where_it_stands(self) -> None:
        """A file names it; only the program can bring it."""
        state = Predict("q -> a", adapter=Shouting()).dump_state()

        assert Predict("q -> a", adapter=Shouting()).load_state(state).adapter == Shouting()
        with pytest.raises(StateError, match="adapter 'shouting' is not one of"):
            Predict("q -> a").load_state(state)

    async def test_demos_follow_the_format(self) -> None:
        scope = ScriptedScope(["<a>2</a>"])
        predict = Predict("q -> a: int", demos=[{"q": "one", "a": 1}]).with_adapter("xml")

        assert (await scope.run(predict, q="two")).a == 2
        turns = [each.text for each in scope.asked[0].request.messages]
        assert turns[1:3] == ["<q>\none\n</q>", "<a>\n1\n</a>"]


@dataclass(frozen=True)
class Search:
    """A tool of somebody's own: it has a spec."""

    name: str

    @property
    def spec(self) -> ToolSpec:
        return ToolSpec(self.name, "Search.")


class Agent(Signature):
    """Use the tools."""

    question: str = InputField()
    tools: list[ToolSpec] = InputField()
    thought: str = OutputField()
    calls: ToolCalls = OutputField()


CALL = ToolCall("abc", "search", {"q": "x"}, '{"q": "x"}')
TOOLS = [ToolSpec("search", "Search.")]


class TestNativeTools:
    async def test_the_model_is_given_the_tools_and_asked_for_the_rest(self) -> None:
        scope = WatchedScope([Completion("thought: look", tool_calls=(CALL,))], able=ABLE)

        prediction = await scope.run(Predict(Agent), question="q", tools=TOOLS)

        request = scope.requests[0]
        assert (request.tools, request.tool_choice) == (tuple(TOOLS), "auto")
        assert "calls" not in request.messages[0].text
        assert "tools" not in request.messages[-1].text
        assert (prediction.thought, list(prediction.calls)) == ("look", [CALL])
        assert "tool search: Search." in details(prediction).explain()

    async def test_an_answer_of_calls_alone_leaves_the_rest_unset(self) -> None:
        scope = WatchedScope([Completion("", "tool_calls", (CALL,))], able=ABLE)

        prediction = await scope.run(Predict(Agent), question="q", tools=TOOLS)

        assert list(prediction.to_dict()) == ["question", "tools", "calls"]

    async def test_a_model_without_tools_writes_the_calls(self) -> None:
        answer = '[[ ## thought ## ]]\nlook\n[[ ## calls ## ]]\n[{"name": "search", "args": {"q": "x"}}]'
        scope = WatchedScope([answer])

        prediction = await scope.run(Predict(Agent), question="q", tools=TOOLS)

        assert scope.requests[0].tools == ()
        assert (prediction.calls[0].name, prediction.calls[0].arguments) == ("search", {"q": "x"})

    async def test_what_has_a_spec_is_a_tool(self) -> None:
        signature = Signature.from_string("q, tools: list[Search] -> calls: ToolCalls", types={"Search": Search})
        scope = WatchedScope([Completion("", tool_calls=(CALL,))], able=ABLE)

        prediction = await scope.run(Predict(signature), q="q", tools=[Search("search")])

        assert scope.requests[0].tools == tuple(TOOLS)
        assert len(prediction.calls) == 1


class TestNativeText:
    async def test_citations_of_the_provider_replace_those_asked_for(self) -> None:
        signature = Signature.from_string("q -> a, sources: Citations")
        source = Citation("the words", url="https://x.y/z")
        completion = Completion("[[ ## a ## ]]\nb\n[[ ## sources ## ]]\n[]", citations=(source,))

        prediction = await WatchedScope([completion]).run(Predict(signature), q="q")

        assert prediction.sources == Citations([source])
        assert details(prediction).citations == (source,)

    async def test_a_model_that_does_not_reason_is_asked_for_reasoning(self) -> None:
        signature = Signature.from_string("q -> r: Reasoning, a")

        prediction = await WatchedScope(["[[ ## r ## ]]\nso\n[[ ## a ## ]]\nb"]).run(Predict(signature), q="q")

        assert (prediction.r, type(prediction.r)) == ("so", Reasoning)

    async def test_native_reasoning_is_in_the_details(self) -> None:
        completion = Completion("[[ ## a ## ]]\nb", reasoning=(ReasoningPart("so"),))

        prediction = await WatchedScope([completion]).run(Predict("q -> a"), q="q")

        assert details(prediction).reasoning == "so"
        assert "(reasoning: so)" in details(prediction).explain()


class Chat(Signature):
    """Talk."""

    question: str = InputField()
    history: History | None = InputField(default=None)
    answer: str = OutputField()


def test_a_type_that_cannot_be_read_is_no_output() -> None:
    class Drawn(FieldType):
        """Only ever shown."""

    class Sent(Drawn):
        """Read from JSON."""

        @classmethod
        def from_json(cls, value: Any) -> Sent:
            return cls()

    assert Signature.from_string("d: Drawn -> a", types={"Drawn": Drawn})
    assert Signature.from_string("q -> a: Sent", types={"Sent": Sent})
    with pytest.raises(SignatureError, match="Drawn cannot be an output: it does not define from_text"):
        Signature.from_string("q -> a: Drawn", types={"Drawn": Drawn})


async def test_functions_are_tools_where_tools_are_wanted() -> None:
    def search(query: str) -> str:
        """Find pages."""
        return query

    scope = ScriptedScope([{"calls": [{"name": "search", "args": {"query": "x"}}]}])
    signature = Signature.from_string("q, tools: list[Tool] -> calls: ToolCalls", types={"Tool": Tool})

    prediction = await scope.run(Predict(signature), q="x", tools=[search])

    assert [each.name for each in prediction.calls] == ["search"]
    assert '"description":"Find pages."' in scope.asked[0].request.messages[-1].text
    with pytest.raises(MissingInput, match="should be an instance of Tool"):
        await scope.run(Predict(signature), q="x", tools=[3])


class TestHistory:
    async def test_earlier_turns_stand_before_the_last(self) -> None:
        scope = ScriptedScope([{"answer": "one"}, {"answer": "two"}])
        first = await scope.run(Predict(Chat), question="1?")

        await scope.run(Predict(Chat), question="2?", history=History().with_turn(first))

        messages = scope.asked[1].request.messages
        assert [each.role for each in messages] == ["system", "user", "assistant", "user"]
        assert messages[1].text == "question: 1?"
        assert messages[2].text == "one"
        assert "history" not in "".join(each.text for each in messages)

    async def test_messages_are_sent_as_they_are(self) -> None:
        turns = [Message("assistant", (CALL,)), Message("tool", (ToolResult("abc", "search", "found"),))]
        scope = ScriptedScope([{"answer": "a"}])

        await scope.run(Predict(Chat), question="q", history=History(turns))

        assert list(scope.asked[0].request.messages[1:3]) == turns

    async def test_a_list_of_turns_will_do(self) -> None:
        scope = ScriptedScope([{"answer": "a"}])

        await scope.run(Predict(Chat), question="q", history=[{"question": "1?", "answer": "one"}])

        assert len(scope.asked[0].request.messages) == 4

    async def test_turns_of_other_protocols_are_messages(self) -> None:
        scope = ScriptedScope([{"answer": "a"}])
        turns = [{"role": "user", "content": "1?"}, {"role": "assistant", "content": "one"}]

        await scope.run(Predict(Chat), question="2?", history=turns)

        assert list(scope.asked[0].request.messages[1:3]) == [Message("user", "1?"), Message("assistant", "one")]

    @pytest.mark.parametrize("turn", [{"qestion": "1?"}, {}, {"role": "pirate", "content": "1?"}])
    async def test_a_turn_that_would_be_lost_is_refused(self, turn: dict[str, str]) -> None:
        names = ", ".join(turn) or "nothing"
        with pytest.raises(MissingInput, match=f"history: turn 1 has none of question, answer; it has {names}"):
            await ScriptedScope().run(Predict(Chat), question="2?", history=[{"question": "1?"}, turn])


@pytest.mark.parametrize("adapter", ["chat", "json", "xml", "tool"])
async def test_media_stand_at_their_place_in_every_format(adapter: Any) -> None:
    picture = Image.from_bytes(b"\x89PNG\r\n\x1a\n")
    signature = Signature.from_string("before, pictures: dict[str, list[Image]], behind -> a")
    scope = WatchedScope(['{"a": "b"}' if adapter in ("json", "tool") else "[[ ## a ## ]]\nb<a>b</a>"])

    await scope.run(Predict(signature, adapter=adapter), before="x", pictures={"~part0~": [picture]}, behind="y")

    content = scope.requests[0].messages[-1].content
    assert isinstance(content, tuple)
    assert [type(each) for each in content] == [TextPart, Image, TextPart]
    assert content[1] is picture
    text = scope.requests[0].messages[-1].text
    assert text.index("x") < text.index('{"~part0~":[') < text.index("]}") < text.index("y")
