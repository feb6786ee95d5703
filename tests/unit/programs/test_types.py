"""Types of fields: how they are made, shown, sent, read and kept."""

from __future__ import annotations

import base64
import copy
import json
from pathlib import Path
from typing import Any, Literal

import pydantic
import pytest

from dspex.errors import MissingInput, SignatureError
from dspex.programs import (
    Audio,
    ChatAdapter,
    Citations,
    Code,
    FieldType,
    File,
    History,
    Image,
    InputField,
    OutputField,
    Predict,
    Prediction,
    Reasoning,
    Signature,
    ToolCalls,
    render_class,
)
from dspex.protocols.content import AudioPart, FilePart, ImagePart, ReasoningPart, TextPart, ToolCall, ToolResult
from dspex.protocols.lm import Message
from dspex.testing.scripted import ScriptedScope

PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 40
ADAPTER = ChatAdapter()


def read(type_: Any, value: Any) -> Any:
    return pydantic.TypeAdapter(type_).validate_python(value)


class TestMedia:
    @pytest.mark.parametrize(
        ("data", "media_type"),
        [
            (PNG, "image/png"),
            (b"\xff\xd8\xff\xe0", "image/jpeg"),
            (b"GIF89a", "image/gif"),
            (b"RIFF1234WEBP", "image/webp"),
            (b"RIFF1234WAVE", "audio/wav"),
            (b"ID3\x03", "audio/mpeg"),
            (b"OggS", "audio/ogg"),
            (b"%PDF-1.7", "application/pdf"),
        ],
    )
    def test_the_first_bytes_tell_the_type(self, data: bytes, media_type: str) -> None:
        assert File.from_bytes(data).media_type == media_type

    def test_a_file_is_known_by_its_bytes_or_its_suffix(self, tmp_path: Path) -> None:
        (tmp_path / "lies.jpg").write_bytes(PNG)
        (tmp_path / "notes.md").write_text("# notes")

        assert Image.from_file(tmp_path / "lies.jpg").media_type == "image/png"
        assert Image.from_bytes(PNG).media_type == "image/png"
        notes = File.from_file(tmp_path / "notes.md")
        assert (notes.media_type, notes.name) == ("text/markdown", "notes.md")

    def test_what_tells_no_type_needs_one(self) -> None:
        with pytest.raises(ValueError, match="give media_type="):
            Image.from_bytes(b"abc")
        assert Image.from_bytes(b"abc", media_type="image/x").data == b"abc"

    @pytest.mark.parametrize("address", ["cat.png", "/etc/passwd", "file:///etc/passwd", "data:image/png,abc", ""])
    def test_only_addresses_are_addresses(self, address: str) -> None:
        """Text of a user's or a model's never makes the program read a local file."""
        with pytest.raises(ValueError, match=r"use Image\.from_file"):
            Image.from_url(address)
        with pytest.raises(pydantic.ValidationError):
            read(Image, address)

    def test_a_data_address_becomes_its_bytes(self) -> None:
        address = "data:image/png;base64," + base64.b64encode(PNG).decode()

        assert Image.from_url(address) == Image.from_bytes(PNG) == read(Image, address)
        assert Image.from_bytes(PNG).data_url == address

    def test_they_are_the_protocols_parts(self) -> None:
        assert isinstance(Image.from_bytes(PNG), ImagePart)
        assert isinstance(Audio.from_url("https://x.y/a.wav"), AudioPart)
        assert isinstance(File.from_bytes(b"%PDF-"), FilePart)

    def test_encoding_happens_once(self) -> None:
        image = Image.from_bytes(PNG)

        assert image.base64 is image.base64

    def test_repr_has_no_bytes(self) -> None:
        assert repr(Image.from_bytes(PNG, detail="low")) == "Image(image/png, 48 bytes, detail='low')"
        assert repr(Audio.from_url("https://x.y/a")) == "Audio(https://x.y/a)"

    def test_json_is_an_address_and_keeps_what_else_there_is(self) -> None:
        class Album(pydantic.BaseModel):
            cover: Image
            booklet: File | None = None

        album = Album(cover=Image.from_bytes(PNG, detail="high"), booklet=File.from_bytes(b"%PDF-", name="b.pdf"))

        assert Album.model_validate_json(album.model_dump_json()) == album
        assert Album(cover="https://x.y/c.png").model_dump(mode="json")["cover"] == "https://x.y/c.png"  # type: ignore[arg-type]  # pydantic reads addresses

    def test_they_are_frozen_and_hashable(self) -> None:
        image = Image.from_bytes(PNG)

        with pytest.raises(AttributeError):
            image.detail = "low"  # type: ignore[misc]  # frozen
        assert {image: 1}[copy.copy(image)] == 1

    def test_in_a_model_and_in_any_value_they_become_parts(self) -> None:
        class Page(pydantic.BaseModel):
            text: str
            picture: Image

        image = Image.from_bytes(PNG)
        signature = Signature.from_string("-> a").append("page", InputField(), Page).append("rest", InputField(), Any)

        content = ADAPTER.turn(signature, {"page": Page(text="t", picture=image), "rest": {"x": [image, 1]}}).content

        assert isinstance(content, tuple)
        assert [each if each is image else None for each in content] == [None, image, None, image, None]
        assert [each.text for each in content if isinstance(each, TextPart)][1] == '}\n\n[[ ## rest ## ]]\n{"x":['

    async def test_a_demonstration_shows_its_picture(self) -> None:
        image = Image.from_bytes(PNG)
        scope = ScriptedScope([{"a": "b"}])
        predict = Predict("picture: Image -> a", demos=[{"picture": image, "a": "cat"}])

        await scope.run(predict, picture="https://x.y/z.png")

        messages = scope.asked[0].request.messages
        assert [len(each.content) for each in messages if isinstance(each.content, tuple)] == [2, 3]
        assert image in messages[1].content

    async def test_a_wrong_picture_is_refused_before_anything_is_sent(self) -> None:
        with pytest.raises(MissingInput, match=r"picture is a str, expected Image .*use Image\.from_file"):
            await ScriptedScope().run(Predict("picture: Image -> a"), picture="cat.png")

    def test_a_saved_demonstration_has_its_picture(self) -> None:
        predict = Predict("picture: Image -> a", demos=[{"picture": Image.from_bytes(PNG), "a": "cat"}])

        loaded = Predict("picture: Image -> a").load_state(predict.dump_state())

        assert loaded.demos[0]["picture"] == Image.from_bytes(PNG)


class TestCode:
    def test_the_language_is_part_of_the_type(self) -> None:
        code: Any = Code  # people without a type checker leave Literal away
        python = code["python"]

        assert python is Code[Literal["python"]]
        assert python.language == "python"
        assert issubclass(python, str)

    @pytest.mark.parametrize("language", ["", "a b", 3, "a\nb"])
    def test_what_is_no_language_is_refused(self, language: Any) -> None:
        code: Any = Code

        with pytest.raises(TypeError, match="expected a language"):
            code[language]

    @pytest.mark.parametrize(
        ("text", "code"),
        [
            ("```python\nx = 1\n```", "x = 1"),
            ("```\n\n  x\n\n```", "\n  x\n"),
            ("Here it is:\n\n```python\nx = 1\n```\n\nIt works.", "x = 1"),
            ("````md\n```\nx\n```\n````", "```\nx\n```"),
            ("x = 1", "x = 1"),
            ("```python\n```", ""),
        ],
    )
    def test_the_code_inside_the_fence_is_read(self, text: str, code: str) -> None:
        assert Code.from_text(text) == code

    def test_half_a_block_shows_its_code(self) -> None:
        assert Code.so_far("```python\nx = ") == "x = "
        assert Code.so_far("```pyth") == ""

    def test_what_may_be_the_closing_fence_is_no_code(self) -> None:
        answer = "```python\nx = '`'\n```"

        assert [Code.so_far(answer[:end]) for end in range(len(answer) - 3, len(answer) + 1)] == [
            "x = '`'\n",
            *["x = '`'"] * 3,
        ]

    def test_a_string_signature_knows_languages(self) -> None:
        signature = Signature.from_string("q -> code: Code['python'], more: list[Code['c++']]")

        assert signature.fields["code"].annotation is Code[Literal["python"]]
        assert "code: dspex.Code['python']" in render_class(signature)

    def test_the_prompt_asks_for_a_block(self) -> None:
        system = ADAPTER.prefix(Signature.from_string("q -> code: Code['python']"))[0].text

        assert "python code in a fenced block" in system


class TestOwnTypes:
    def test_a_type_that_reads_nothing_is_an_input_only(self) -> None:
        class Sketch(FieldType):
            def to_text(self) -> str:
                return "a sketch"

        signature = Signature.from_string("s: Sketch -> a", types={"Sketch": Sketch})

        assert "a sketch" in ADAPTER.turn(signature, {"s": Sketch()}).text
        with pytest.raises(ValueError, match="Sketch cannot be read from text"):
            Sketch.from_text("x")

    def test_parts_of_its_own(self) -> None:
        class Captioned(FieldType):
            def to_parts(self) -> Any:
                return TextPart("A cat: "), Image.from_bytes(PNG)

        signature = Signature.from_string("s: Captioned -> a", types={"Captioned": Captioned})

        content = ADAPTER.turn(signature, {"s": Captioned()}).content

        assert isinstance(content, tuple)
        assert isinstance(content[0], TextPart)
        assert content[0].text == "[[ ## s ## ]]\nA cat: "
        assert content[1] == Image.from_bytes(PNG)

    def test_a_type_of_the_callers_module_goes_before_ours(self) -> None:
        signature = Signature.from_string("q -> a: Reasoning", types={"Reasoning": int})

        assert signature.fields["a"].annotation is int


class TestHistory:
    def test_turns_are_mappings_predictions_or_messages(self) -> None:
        history = History([{"q": 1}, Prediction(q=2, a=3), Message("user", "x")])

        assert history.messages == ({"q": 1}, {"q": 2, "a": 3}, Message("user", "x"))
        with pytest.raises(TypeError, match="a turn of a History"):
            History([3])

    def test_it_never_changes(self) -> None:
        history = History()

        assert len(history.with_turn({"q": 1}, {"q": 2})) == 2
        assert len(history) == 0

    def test_json_there_and_back(self) -> None:
        adapter = pydantic.TypeAdapter(History)
        history = History([{"q": 1}, Message("user", "x")])

        assert adapter.validate_json(adapter.dump_json(history)) == history

    def test_messages_of_parts_there_and_back(self) -> None:
        adapter = pydantic.TypeAdapter(History)
        call = ToolCall("c1", "search", {"q": [1]}, '{"q": [1]}', {"signature": "s"})
        image = ImagePart("image/png", b"\x89\xff", detail="low")
        turns = [
            Message("user", (TextPart("x"), image, FilePart("", url="https://x.org/f", name="f")), "5m"),
            Message(
                "assistant",
                (ReasoningPart("t", "anthropic", {"k": 1}), call, ToolCall("c2", "s", None, "{")),
            ),
            Message("tool", (ToolResult("c1", "search", "found"), ToolResult("c2", "s", (TextPart("y"), image), True))),
        ]

        history = History(turns)
        assert adapter.validate_json(adapter.dump_json(history)) == history
        assert adapter.validate_json(json.dumps(adapter.dump_python(history, mode="json"))).messages == tuple(turns)
        for broken in ({"type": "image", "media_type": "x", "data": "?"}, {"type": "text"}, {"type": "tool_call"}):
            with pytest.raises(ValueError, match="cannot be read"):
                adapter.validate_python([{"role": "user", "content": [broken]}])

    async def test_what_is_no_history_is_refused(self) -> None:
        with pytest.raises(MissingInput, match="expected a History, or a list of turns"):
            await ScriptedScope().run(Predict("h: History -> a"), h=3)
        with pytest.raises(MissingInput, match="each turn must be"):
            await ScriptedScope().run(Predict("h: History -> a"), h=[3])


class TestCallsAndSources:
    @pytest.mark.parametrize(
        "given",
        [
            [{"name": "s", "args": {"q": 1}}],
            {"tool_calls": [{"name": "s", "args": {"q": 1}}]},
            {"name": "s", "arguments": {"q": 1}},
            [ToolCall("call_1", "s", {"q": 1})],
        ],
    )
    def test_calls_are_read_from_what_models_write(self, given: Any) -> None:
        assert read(ToolCalls, given) == ToolCalls([("s", {"q": 1})])

    @pytest.mark.parametrize("given", [3, [3], [{"args": {}}], [{"name": "s", "args": [1]}], {"calls": []}])
    def test_what_is_no_call_is_refused(self, given: Any) -> None:
        with pytest.raises(pydantic.ValidationError):
            read(ToolCalls, given)

    @pytest.mark.parametrize("given", [3, [3], [{"text": 3}], [{"text": "x", "start": "1"}]])
    def test_what_is_no_source_is_refused(self, given: Any) -> None:
        with pytest.raises(pydantic.ValidationError):
            read(Citations, given)

    def test_reasoning_is_text(self) -> None:
        assert read(Reasoning, "so") == Reasoning("so") == "so"


def test_a_constraint_on_a_field_type_is_refused() -> None:
    with pytest.raises(SignatureError):
        Signature.from_string("-> a").append("n", OutputField(ge=1), Image)
