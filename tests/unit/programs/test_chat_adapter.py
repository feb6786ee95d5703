"""The chat format, word for word."""

from __future__ import annotations

import enum
from typing import Any, Literal

import pydantic
import pytest

from dspex.errors import ResponseUnparsable
from dspex.programs import ChatAdapter, InputField, OutputField, Signature
from dspex.protocols.retrieval import Passage

ADAPTER = ChatAdapter()


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Item(pydantic.BaseModel):
    name: str


class Full(Signature):
    """Pick a color."""

    passages: list[Passage] = InputField()
    question: str = InputField(desc="as typed")
    color: Color = OutputField(desc="what fits best")
    score: float = OutputField(ge=0, le=1)
    items: list[Item] = OutputField(default_factory=list)


class Short(Signature):
    a: str = InputField()
    b: int = InputField()
    c: str = OutputField()
    d: Literal["x", "y"] = OutputField()


INPUTS = {"passages": [Passage("text", "Title"), Passage("one\ntwo")], "question": "which?"}


def parse(signature: Any, **sections: str) -> dict[str, Any]:
    return ADAPTER.parse(
        signature, "\n\n".join(f"[[ ## {name} ## ]]\n{text}" for name, text in sections.items())
    ).outputs


class TestFormat:
    def test_the_system_message_states_fields_layout_and_task(self) -> None:
        system = ADAPTER.format(Full, INPUTS)[0]

        schema = (
            '{"$defs": {"Item": {"properties": {"name": {"type": "string"}}, "required": ["name"], '
            '"type": "object"}}, "items": {"$ref": "#/$defs/Item"}, "type": "array"}'
        )
        assert system.role == "system"
        assert system.content == (
            "You receive these fields:\n"
            "1. `passages` (list[Passage])\n"
            "2. `question` (str): as typed\n\n"
            "You write these fields:\n"
            "1. `color` (Color): what fits best\n"
            "2. `score` (float): at least 0, at most 1\n"
            "3. `items` (list[Item]): may be left out\n\n"
            "Each field stands below a header line of its own, in this layout:\n\n"
            "[[ ## passages ## ]]\n{passages}\n\n"
            "[[ ## question ## ]]\n{question}\n\n"
            "[[ ## color ## ]]\n{color}    (exactly one of: red, blue)\n\n"
            "[[ ## score ## ]]\n{score}\n\n"
            f"[[ ## items ## ]]\n{{items}}    (JSON that fits this schema: {schema})\n\n"
            "After the last field comes the line\n[[ ## completed ## ]]\n\n"
            "What to do:\nPick a color."
        )

    def test_schemas_are_shown_without_titles_made_of_names(self) -> None:
        class Line(pydantic.BaseModel):
            title: str
            more: dict[str, Any] = pydantic.Field(default={"title": "More"}, title="Whatever it says")

        signature = Signature.from_string("q -> lines: list[Line]", types={"Line": Line})
        system = ADAPTER.prefix(signature)[0].text

        assert '"properties": {"title": {"type": "string"}, "more": {' in system
        assert '"default": {"title": "More"}, "title": "Whatever it says"' in system
        assert system.count('"title"') == 4

    def test_the_last_turn_holds_the_inputs_and_says_what_to_write(self) -> None:
        last = ADAPTER.format(Full, INPUTS)[-1]

        assert last.role == "user"
        assert last.content == (
            "[[ ## passages ## ]]\n[1] Title | text\n[2] one\n    two\n\n"
            "[[ ## question ## ]]\nwhich?\n\n"
            "Now write `[[ ## color ## ]]` (Color), then `[[ ## score ## ]]` (float), then `[[ ## items ## ]]` "
            "(list[Item]), and end with `[[ ## completed ## ]]`."
        )

    def test_complete_demonstrations_follow_incomplete_ones(self) -> None:
        demos: list[dict[str, Any]] = [
            {"a": "A", "b": 1, "c": "C", "d": "x"},
            {"a": "only inputs", "b": 1},
            {"c": "only outputs"},
            {"b": 2, "d": "y", "other": "ignored"},
        ]

        messages = ADAPTER.format(Short, {"a": "now", "b": 3}, demos)

        assert [each.role for each in messages] == ["system", "user", "assistant", "user", "assistant", "user"]
        assert messages[1].content == (
            "An incomplete example; some of its fields are left out.\n\n"
            "[[ ## a ## ]]\n(left out of this example)\n\n[[ ## b ## ]]\n2"
        )
        assert messages[2].content == (
            "[[ ## c ## ]]\n(left out of this example)\n\n[[ ## d ## ]]\ny\n\n[[ ## completed ## ]]"
        )
        assert messages[3].content == "[[ ## a ## ]]\nA\n\n[[ ## b ## ]]\n1"
        assert messages[4].content == "[[ ## c ## ]]\nC\n\n[[ ## d ## ]]\nx\n\n[[ ## completed ## ]]"

    def test_demonstrations_need_not_fit_their_types(self) -> None:
        demos = [{**INPUTS, "passages": ["plain"], "color": "mauve", "score": "high", "items": [{"name": "n"}]}]

        messages = ADAPTER.format(Full, INPUTS, demos)

        assert messages[1].text.startswith('[[ ## passages ## ]]\n[1] "plain"')
        assert "[[ ## color ## ]]\nmauve\n\n[[ ## score ## ]]\nhigh\n\n[[ ## items ## ]]\n[" in messages[2].content
        assert '[{"name":"n"}]' in messages[2].content

    @pytest.mark.parametrize(
        ("type_", "value", "text"),
        [
            (str, "  as it is ", "  as it is "),
            (bool, True, "True"),
            (list[str], ["é", "b"], '["é","b"]'),
            (dict[str, Any], {"a": None}, '{"a":null}'),
            (Item, Item(name="n"), '{"name":"n"}'),
            (Color, Color.RED, "red"),
            (str | None, None, "null"),
            (str | None, "null", '"null"'),
            (str | None, "text", "text"),
            (list[Passage], [], ""),
        ],
    )
    def test_values(self, type_: Any, value: Any, text: str) -> None:
        signature = Signature.from_string("-> c").append("v", InputField(), type_)

        content = ADAPTER.turn(signature, {"v": value}).text

        assert content.startswith(f"[[ ## v ## ]]\n{text}\n\nNow write")

    def test_a_header_in_a_value_is_escaped(self) -> None:
        content = ADAPTER.turn(
            Short, {"a": "x\n [[ ## c ## ]] y\n\\[[ ## c ## ]]\nin [[ ## c ## ]] line", "b": 1}
        ).content

        assert "x\n \\[[ ## c ## ]] y\n\\\\[[ ## c ## ]]\nin \\[[ ## c ## ]] line" in content

    def test_without_inputs_there_is_only_the_request(self) -> None:
        signature = Signature.from_string("-> joke")

        system, turn = ADAPTER.format(signature, {})

        assert system.text.startswith("You write these fields:\n1. `joke` (str)\n")
        assert turn.content == "Now write `[[ ## joke ## ]]` (str), and end with `[[ ## completed ## ]]`."


class TestParse:
    def test_sections_become_typed_outputs(self) -> None:
        found = parse(Full, color="red", score="0.5", items='[{"name": "n"}]', completed="")

        assert found == {"color": Color.RED, "score": 0.5, "items": [Item(name="n")]}

    def test_the_rest_of_a_header_line_belongs_to_the_value(self) -> None:
        text = "Sure!\n  [[ ## c ## ]] one\ntwo\n[[ ## d ## ]] x\n\n[[ ## completed ## ]]"

        assert ADAPTER.parse(Short, text).outputs == {"c": "one\ntwo", "d": "x"}

    def test_sections_of_one_name_must_not_differ(self) -> None:
        """Which of two answers the model means is not for us to guess."""
        text = "[[ ## c ## ]]\none\n[[ ## d ## ]]\nx\n[[ ## c ## ]]\ntwo\n[[ ## completed ## ]]"
        with pytest.raises(ResponseUnparsable, match="several sections that differ"):
            ADAPTER.parse(Short, text)

    @pytest.mark.parametrize(
        "more",
        [
            "[[ ## c ## ]]\none",
            "[[ ## c ## ]]\n\n[[ ## completed ## ]]",
            "[[ ## completed ## ]]\n[[ ## c ## ]]\ntwo",
            "[[ ## a ## ]]\nthe next one\n[[ ## c ## ]]\ntwo\n[[ ## d ## ]]\ny\n[[ ## completed ## ]]",
        ],
        ids=["the same again", "nothing", "behind the end", "a next answer"],
    )
    def test_repeated_sections_that_say_no_more_are_left_out(self, more: str) -> None:
        text = f"[[ ## c ## ]]\none\n[[ ## d ## ]]\nx\n{more}"

        assert ADAPTER.parse(Short, text).outputs == {"c": "one", "d": "x"}

    def test_unknown_sections_are_ignored(self) -> None:
        text = "[[ ## c ## ]]\none\n[[ ## note ## ]]\nnoise\n[[ ## d ## ]]\nx\n[[ ## completed ## ]]\ntrailing"

        assert ADAPTER.parse(Short, text).outputs == {"c": "one", "d": "x"}

    def test_carriage_returns_do_not_matter(self) -> None:
        assert ADAPTER.parse(Short, "[[ ## c ## ]]\r\none\r\n\r\n[[ ## d ## ]]\r\nx\r\n").outputs == {
            "c": "one",
            "d": "x",
        }

    @pytest.mark.parametrize(
        ("type_", "text", "value", "repair"),
        [
            (int, "3", 3, ""),
            (int, "```json\n3\n```", 3, "json"),
            (bool, "yes", True, ""),
            (list[str], '["a", "b",]', ["a", "b"], "json"),
            (list[str], "['a', 'b']", ["a", "b"], "json"),
            (list[int], "Here: [1, 2]", [1, 2], "json"),
            (int | None, "None", None, "literal"),
            (set[int], "{1, 2}", {1, 2}, "json"),
            (Color, "RED", Color.RED, ""),
            (Color, "Color.RED", Color.RED, "literal"),
            (Color, "'blue'", Color.BLUE, "literal"),
            (Literal["x", "y"], "\u201cx\u201d", "x", "literal"),
            (Literal["x", "y"], "`y`", "y", "literal"),
            (Literal["yes", "no"], "Yes.", "yes", "literal"),
            (Literal["x", "X", "y"], "Y", "y", "literal"),
            (Literal["x", "X", "y"], "X", "X", ""),
            (Color, "Red", Color.RED, "literal"),
        ],
    )
    def test_the_ladder(self, type_: Any, text: str, value: Any, repair: str) -> None:
        signature = Signature.from_string("q -> r").append("v", OutputField(), type_)

        parsed = ADAPTER.parse(signature, f"[[ ## r ## ]]\nr\n[[ ## v ## ]]\n{text}")

        assert parsed.outputs["v"] == value
        assert [each.kind for each in parsed.repairs] == ([repair] if repair else [])

    @pytest.mark.parametrize(
        ("type_", "text"), [(Literal["Aa", "aA"], "aa"), (Literal["yes"] | None, "No idea."), (Color, "re")]
    )
    def test_no_choice_is_guessed(self, type_: Any, text: str) -> None:
        signature = Signature.from_string("q -> r").append("v", OutputField(), type_)

        with pytest.raises(ResponseUnparsable, match="exactly one of"):
            ADAPTER.parse(signature, f"[[ ## r ## ]]\nr\n[[ ## v ## ]]\n{text}")

    def test_a_value_that_reads_but_does_not_fit_says_why(self) -> None:
        signature = Signature.from_string("q -> r").append("v", OutputField(), list[Color])

        with pytest.raises(ResponseUnparsable) as caught:
            ADAPTER.parse(signature, "[[ ## r ## ]]\nr\n[[ ## v ## ]]\n['green']")

        assert caught.value.invalid_fields["v"].startswith("0: Input should be ")

    def test_missing_and_wrong_values_are_named_with_the_text(self) -> None:
        text = "[[ ## score ## ]]\nhigh\n[[ ## items ## ]]\n[{}]"

        with pytest.raises(ResponseUnparsable) as caught:
            ADAPTER.parse(Full, text)

        assert caught.value.raw == text
        assert caught.value.missing_fields == ("color",)
        assert set(caught.value.invalid_fields) == {"score", "items"}
        assert caught.value.invalid_fields["items"] == "0.name: Field required"

    def test_defaults_fill_in_order(self) -> None:
        class Defaults(Signature):
            q: str = InputField()
            a: int | None = OutputField(default=7)
            b: int | None = OutputField(default_factory=lambda: 8)
            c: int | None = OutputField()

        assert ADAPTER.parse(Defaults, "[[ ## completed ## ]]").outputs == {"a": 7, "b": 8, "c": None}
        with pytest.raises(ResponseUnparsable):
            ADAPTER.parse(Defaults, "Nothing of the format is in here.")
        assert parse(Defaults, a="", b="", c="") == {"a": 7, "b": 8, "c": None}
        assert parse(Defaults, a="1", b="2", c="3") == {"a": 1, "b": 2, "c": 3}

    def test_an_empty_text_is_a_text(self) -> None:
        assert parse(Short, c="", d="x") == {"c": "", "d": "x"}

    def test_long_junk_is_not_repaired(self) -> None:
        signature = Signature.from_string("q -> v: list[str]")

        with pytest.raises(ResponseUnparsable):
            parse(signature, v='["a' * 50_000)
