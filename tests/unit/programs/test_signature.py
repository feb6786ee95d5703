"""Signatures: what a class statement compiles to, what it refuses, and how its records behave."""

from __future__ import annotations

import copy
import enum
import inspect
import pickle
import sys
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pydantic
import pytest

from dspex.errors import OutputNotSet, ProgramError, SignatureError
from dspex.programs import ChainOfThought, InputField, OutputField, Prediction, Signature, details, render_class
from dspex.programs.fields import MISSING
from dspex.protocols.retrieval import Passage
from dspex.testing.scripted import ScriptedScope


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


class QA(Signature):
    """
    Answer the question.

    Be brief.
    """

    question: str = InputField(desc="as typed")
    k: int = InputField(default=3, ge=1)
    answer: str = OutputField(desc="a short phrase")


class TestDeclaration:
    def test_the_docstring_is_the_instructions(self) -> None:
        assert QA.instructions == "Answer the question.\n\nBe brief."

    def test_without_a_docstring_the_instructions_name_the_fields(self) -> None:
        class Sum(Signature):
            a: int = InputField()
            b: int = InputField()
            total: int = OutputField()

        assert Sum.instructions == "Using `a` and `b`, work out `total`."

    def test_fields_know_their_type_side_and_description(self) -> None:
        assert list(QA.input_fields) == ["question", "k"]
        assert list(QA.output_fields) == ["answer"]
        assert QA.input_fields["k"].annotation is int
        assert QA.input_fields["k"].constraints == (("ge", 1),)
        assert QA.output_fields["answer"].desc == "a short phrase"

    def test_field_views_are_read_only(self) -> None:
        with pytest.raises(TypeError):
            QA.input_fields["x"] = QA.input_fields["k"]  # type: ignore[index]  # that is the point

    def test_types_are_found_in_the_function_around_the_class(self) -> None:
        @dataclass
        class Local:
            x: int

        class Uses(Signature):
            local: Local = InputField()
            many: list["Local"] = OutputField()  # noqa: UP037 - a forward reference inside a type

        assert Uses.fields["local"].annotation is Local
        assert Uses.fields["many"].annotation == list[Local]

    def test_a_subclass_adds_fields_and_keeps_instructions(self) -> None:
        class Rated(QA):
            score: float = OutputField(ge=0, le=1)

        assert list(Rated.fields) == ["question", "k", "answer", "score"]
        assert Rated.instructions == QA.instructions
        assert Rated(question="q").k == 3

    def test_a_subclass_may_redeclare_a_field(self) -> None:
        class Typed(QA):
            answer: int = OutputField()  # type: ignore[assignment]  # another type on purpose

        assert Typed.output_fields["answer"].annotation is int
        assert "answer" not in Typed.__dict__

    def test_class_variables_and_methods_are_no_fields(self) -> None:
        class Extra(Signature):
            version: ClassVar[int] = 2
            text: str = InputField()
            out: str = OutputField()

            def shout(self) -> str:
                return self.text.upper()

        assert list(Extra.fields) == ["text", "out"]
        assert Extra(text="a").shout() == "A"

    @pytest.mark.parametrize("name", ["instructions", "append", "fields", "to_dict", "self", "cls", "mro", "name"])
    def test_no_field_name_is_reserved(self, name: str) -> None:
        signature = Signature.from_string(f"{name} -> answer", "Do it.")

        record = signature(**{name: "v"})

        assert getattr(record, name) == "v"
        assert signature.instructions == "Do it."
        assert list(signature.append("more", OutputField()).fields) == [name, "answer", "more"]
        assert repr(record) == f"{signature.__name__}({name}='v')"

    def test_a_class_of_the_same_fields_costs_what_a_slotted_class_costs(self) -> None:
        class Hand:
            __slots__ = ("answer", "details", "k", "question")

        assert sys.getsizeof(QA(question="q")) == sys.getsizeof(Hand())
        assert not hasattr(QA(question="q"), "__dict__")

    def test_the_constructor_has_the_signature_a_person_would_write(self) -> None:
        assert str(inspect.signature(QA)) == "(*, question: str, k: int = 3) -> None"


class TestRefusals:
    @pytest.mark.parametrize("name", ["_hidden", "__x"])
    def test_a_leading_underscore(self, name: str) -> None:
        with pytest.raises(SignatureError, match="leading underscore"):
            QA.append(name, OutputField())

    @pytest.mark.parametrize("name", ["class", "a b", "1a", ""])
    def test_what_is_no_name(self, name: str) -> None:
        with pytest.raises(SignatureError, match="cannot be a field"):
            QA.append(name, OutputField())

    def test_a_missing_annotation(self) -> None:
        with pytest.raises(SignatureError, match=r"Bare\.question has no annotation"):

            class Bare(Signature):
                question = InputField()

    def test_a_field_that_is_neither_input_nor_output(self) -> None:
        with pytest.raises(SignatureError, match=r"Stray\.k is neither input nor output"):

            class Stray(Signature):
                k: int = 3

    def test_a_type_that_cannot_be_resolved(self) -> None:
        with pytest.raises(SignatureError, match=r"Late\.item: the type 'Nowhere'"):

            class Late(Signature):
                item: Nowhere = InputField()  # type: ignore[name-defined]  # noqa: F821

    def test_a_type_that_cannot_be_checked(self) -> None:
        class Opaque: ...

        with pytest.raises(SignatureError, match=r"Bad\.item: Opaque is not a type whose values can be checked"):

            class Bad(Signature):
                item: Opaque = InputField()

    def test_constraints_that_do_not_fit_the_type(self) -> None:
        with pytest.raises(SignatureError, match=r"Bad\.n"):

            class Bad(Signature):
                n: int = InputField(max_length=3)

    def test_a_default_of_another_type(self) -> None:
        with pytest.raises(SignatureError, match="its default does not fit"):

            class Bad(Signature):
                n: int = InputField(default="many")

    def test_a_shared_mutable_default(self) -> None:
        with pytest.raises(SignatureError, match="default_factory=list"):
            InputField(default=[])

    def test_two_defaults(self) -> None:
        with pytest.raises(SignatureError, match="not both"):
            OutputField(default=1, default_factory=int)

    def test_the_base_has_no_fields(self) -> None:
        with pytest.raises(SignatureError, match="from_string"):
            Signature()

    def test_signature_errors_are_value_errors_too(self) -> None:
        assert issubclass(SignatureError, ValueError)
        assert issubclass(SignatureError, ProgramError)


class TestRecords:
    def test_inputs_are_required_by_name(self) -> None:
        with pytest.raises(TypeError, match="question"):
            QA()  # type: ignore[call-arg]  # that is the point

    def test_a_default_factory_makes_a_fresh_value_each_time(self) -> None:
        class Tags(Signature):
            text: str = InputField()
            tags: list[str] = InputField(default_factory=list)
            out: str = OutputField()

        first, second = Tags(text="a"), Tags(text="a")
        first.tags.append("x")

        assert second.tags == []
        assert Tags(text="a", tags=["y"]).tags == ["y"]

    def test_an_output_that_was_not_set_says_so(self) -> None:
        with pytest.raises(OutputNotSet, match=r"QA\.answer is an output and has not been set"):
            _ = QA(question="q").answer

    def test_an_unknown_attribute_is_an_attribute_error(self) -> None:
        with pytest.raises(AttributeError, match="no field 'anwser'"):
            _ = QA(question="q").anwser  # type: ignore[attr-defined]  # that is the point

    def test_records_with_equal_fields_are_equal(self) -> None:
        assert QA(question="q") == QA(question="q")
        assert QA(question="q") != QA(question="p")
        assert QA(question="q") != "q"

    def test_a_set_output_counts(self) -> None:
        answered = QA(question="q")
        answered.answer = "a"

        assert answered != QA(question="q")

    def test_rewording_keeps_records_comparable(self) -> None:
        assert QA.with_instructions("Other.")(question="q") == QA(question="q")

    def test_records_of_other_signatures_differ(self) -> None:
        assert Signature.from_string("a -> b")(a="x") != Signature.from_string("a -> c")(a="x")

    def test_records_are_mutable_and_so_not_hashable(self) -> None:
        with pytest.raises(TypeError):
            hash(QA(question="q"))

    def test_to_dict_holds_what_is_set(self) -> None:
        record = QA(question="q")
        assert record.to_dict() == {"question": "q", "k": 3}
        record.answer = "a"
        assert record.to_dict() == {"question": "q", "k": 3, "answer": "a"}

    def test_repr_shows_what_is_set(self) -> None:
        assert repr(QA(question="q")) == "QA(question='q', k=3)"

    def test_copies_are_equal_and_independent(self) -> None:
        record = QA(question="q")
        for twin in (copy.copy(record), copy.deepcopy(record), pickle.loads(pickle.dumps(record))):
            assert twin == record
            twin.answer = "a"
            assert twin != record

    def test_predictions_hold_any_fields(self) -> None:
        prediction = Prediction(answer="Ada", score=3)

        assert prediction.answer == "Ada"
        assert prediction.to_dict() == {"answer": "Ada", "score": 3}
        assert prediction == Prediction(answer="Ada", score=3)
        assert prediction != Prediction(answer="Ada")
        assert repr(prediction) == "Prediction(answer='Ada', score=3)"
        with pytest.raises(AttributeError, match="no field 'other'"):
            _ = prediction.other


class TestEdits:
    def test_no_edit_changes_the_original(self) -> None:
        before = dict(QA.fields)

        QA.with_instructions("x")
        QA.append("a", OutputField())
        QA.prepend("b", InputField())
        QA.delete("k")
        QA.with_updated_fields("k", desc="how many")

        assert dict(QA.fields) == before
        assert QA.instructions.startswith("Answer")

    def test_fields_are_inserted_on_their_side(self) -> None:
        signature = QA.prepend("first", InputField()).append("last", OutputField(), int).insert(1, "mid", InputField())

        assert list(signature.fields) == ["first", "mid", "question", "k", "answer", "last"]
        assert signature.fields["last"].annotation is int

    def test_edited_records_are_still_of_the_class(self) -> None:
        assert isinstance(QA.append("hint", OutputField())(question="q"), QA)
        assert isinstance(QA.with_instructions("x")(question="q"), QA)

    def test_delete_takes_a_field_away(self) -> None:
        assert list(QA.delete("k").fields) == ["question", "answer"]
        with pytest.raises(SignatureError, match="no field 'nope'"):
            QA.delete("nope")

    def test_made_instructions_follow_the_fields(self) -> None:
        signature = Signature.from_string("a -> b").append("c", OutputField())

        assert signature.instructions == "Using `a`, work out `b` and `c`."

    def test_a_field_may_change_its_type_description_and_bounds(self) -> None:
        signature = QA.with_updated_fields("k", float, desc="how many", le=5)

        field = signature.fields["k"]
        assert (field.annotation, field.desc, field.constraints) == (float, "how many", (("ge", 1), ("le", 5)))
        assert field.default == 3

    def test_bounds_can_be_taken_away_and_unknown_ones_are_refused(self) -> None:
        assert QA.with_updated_fields("k", ge=None).fields["k"].constraints == ()
        with pytest.raises(SignatureError, match="least: a field takes desc, default, default_factory, gt, ge"):
            QA.with_updated_fields("k", least=1)

    def test_what_is_inserted_and_deleted_again_leaves_the_same_signature(self) -> None:
        assert QA.append("more", OutputField(), list[int]).delete("more").equals(QA)
        assert QA.prepend("more", InputField()).delete("more").equals(QA)

    def test_instructions_are_appended_as_a_paragraph(self) -> None:
        more = QA.append_instructions("Be brief.")

        assert more.instructions == f"{QA.instructions}\n\nBe brief."
        assert dict(more.fields) == dict(QA.fields)

    def test_a_taken_name_is_refused(self) -> None:
        with pytest.raises(SignatureError, match="already has a field 'k'"):
            QA.append("k", OutputField())

    def test_only_fields_can_be_inserted(self) -> None:
        with pytest.raises(SignatureError, match=r"expected InputField\(\) or OutputField\(\)"):
            QA.append("x", "str")

    def test_equality_is_of_instructions_and_fields(self) -> None:
        assert QA.equals(QA.with_instructions(QA.instructions))
        assert not QA.equals(QA.with_instructions("x"))
        assert not QA.equals(QA.with_updated_fields("k", desc="x"))
        assert not QA.equals("QA")

    def test_class_level_names_cannot_be_assigned(self) -> None:
        with pytest.raises(AttributeError):
            QA.instructions = "x"  # type: ignore[misc]  # that is the point
        with pytest.raises(AttributeError):
            QA.append = None  # type: ignore[assignment,method-assign]  # that is the point


class TestPydantic:
    class Envelope(pydantic.BaseModel):
        qa: QA

    def test_a_record_is_written_as_its_fields(self) -> None:
        record = QA(question="q")
        record.answer = "a"

        assert self.Envelope(qa=record).model_dump(mode="json") == {"qa": {"question": "q", "k": 3, "answer": "a"}}

    def test_details_are_never_written(self) -> None:
        async def ask() -> Any:
            return await ScriptedScope([{"reasoning": "r", "answer": "a"}]).run(ChainOfThought(QA), question="q")

        import asyncio

        prediction = asyncio.run(ask())

        assert details(prediction).reasoning == "r"
        assert pydantic.TypeAdapter(QA).dump_json(prediction) == b'{"question":"q","k":3,"answer":"a"}'

    def test_a_mapping_becomes_a_record(self) -> None:
        envelope = self.Envelope.model_validate_json('{"qa": {"question": "q", "answer": "a"}}')

        assert type(envelope.qa) is QA
        assert envelope.qa.to_dict() == {"question": "q", "k": 3, "answer": "a"}

    def test_wrong_fields_are_a_validation_error(self) -> None:
        with pytest.raises(pydantic.ValidationError):
            self.Envelope.model_validate({"qa": {"question": 1, "answer": "a", "k": 0}})

    @pytest.mark.parametrize("mode", ["validation", "serialization"])
    def test_the_json_schema_names_the_fields(self, mode: Literal["validation", "serialization"]) -> None:
        schema = pydantic.TypeAdapter(QA).json_schema(mode=mode)

        assert list(schema["properties"]) == ["question", "k", "answer"]
        assert schema["properties"]["answer"]["description"] == "a short phrase"

    def test_predictions_are_any_object(self) -> None:
        adapter = pydantic.TypeAdapter(Prediction)

        assert adapter.dump_python(Prediction(a=1)) == {"a": 1}
        assert adapter.validate_python({"a": 1}) == Prediction(a=1)


class TestStrings:
    def test_types_of_all_kinds(self) -> None:
        signature = Signature.from_string(
            "question, n: int, tags: list[str] | None, at: dict[str, tuple[int, ...]], p: list[Passage] -> "
            "answer: Literal['yes', \"no\"], note: Optional[str], pick: typing.Any"
        )

        assert {name: field.annotation for name, field in signature.fields.items()} == {
            "question": str,
            "n": int,
            "tags": list[str] | None,
            "at": dict[str, tuple[int, ...]],
            "p": list[Passage],
            "answer": Literal["yes", "no"],
            "note": str | None,
            "pick": Any,
        }

    def test_the_class_is_named_for_its_fields(self) -> None:
        assert Signature.from_string("question, best_k -> answer").__name__ == "AnswerFromQuestionBestK"

    def test_names_of_the_callers_module_are_types(self) -> None:
        assert Signature.from_string("text -> mood: Mood").fields["mood"].annotation is Mood

    def test_given_types_win(self) -> None:
        signature = Signature.from_string("text -> mood: Mood", types={"Mood": int})

        assert signature.fields["mood"].annotation is int

    def test_an_arrow_inside_a_choice_is_no_arrow(self) -> None:
        signature = Signature.from_string("a: Literal['x->y'] -> b: Literal['<-', '->']")

        assert signature.fields["b"].annotation == Literal["<-", "->"]

    def test_the_same_text_is_the_same_class_where_no_module_decides(self) -> None:
        assert Signature.from_string("a -> b: int") is Signature.from_string("a -> b: int")
        assert Signature.from_string("a -> b: Mood") is not Signature.from_string("a -> b: Mood")

    def test_equal_types_keep_the_order_they_were_written_in(self) -> None:
        """Fields of texts seen before are reused; by text, for ``int | str == str | int`` and ``1 == True``."""
        for shown in ("int | str", "str | int", "list[int | str]", "list[str | int]", "Literal[1]", "Literal[True]"):
            for name in ("first", "second"):
                field = Signature.from_string(f"{name}: {shown} -> out: {shown}").fields[name]

                assert (field.name, field.role, field.type_text) == (name, "input", shown)

    @pytest.mark.parametrize(
        "text",
        [
            "-> out{}",
            " a{} ,b :str\n,c: list[ str ]-> out{} ",
            "a{}: dict[str, tuple[int, ...]], b: int|None -> out{}: typing.Any, note: Optional[list[float]]",
            "a{}: list[list[list[int]]] -> out{}: 'int'",
            "a{}: Literal['x, y: z'], b -> out{}: Passage",
            "a{}, -> out{}: int,",
            "ä{} -> out{}",
        ],
    )
    def test_a_text_seen_before_means_the_same(self, text: str) -> None:
        """Read in whole (a type of the caller's own makes sure of that), or put together from known fields."""
        for number in range(3):
            spec = text.format(number, number)

            assert Signature.from_string(spec).equals(Signature.from_string(spec, types={"Other": int}))

    @pytest.mark.parametrize("wrong", ["class", "_a", "b", "out"])
    def test_a_name_is_refused_whatever_is_known_of_its_type(self, wrong: str) -> None:
        Signature.from_string("fine: int, b: int -> out: int")
        with pytest.raises(SignatureError):
            Signature.from_string(f"{wrong}: int, b: int -> out: int")

    def test_a_types_name_of_the_callers_is_not_remembered(self) -> None:
        with pytest.raises(SignatureError, match="'Unknown'"):
            Signature.from_string("a: Unknown -> b")
        Signature.from_string("a: Unknown -> b", types={"Unknown": int, "str": bytes})
        with pytest.raises(SignatureError, match="'Unknown'"):
            Signature.from_string("other: Unknown -> b")
        assert Signature.from_string("text_of_mood: str, m: Mood -> b").fields["text_of_mood"].annotation is str

    def test_records_of_string_signatures_are_predictions(self) -> None:
        assert isinstance(Signature.from_string("a -> b")(a="x"), Prediction)

    @pytest.mark.parametrize(
        ("text", "problem", "column"),
        [
            ("a, b", "no arrow", 4),
            ("a -> b -> c", "2 arrows", 7),
            ("a b -> c", "expected `name`", 2),
            ("a -> ", "no output", 5),
            ("a -> a", "both input and output", 5),
            ("a, a -> b", "appears twice", 3),
            ("a -> b: Foo", "'Foo' is not known", 5),
            ("a -> b: list[Foo]", "'Foo' is not known", 5),
            ("a -> class", "Python's own", 5),
            ("a = 1 -> b", "no default values", 0),
            ("a: str, *b -> c", "expected `name`", 8),
            ("a -> b: print()", "is not a type", 5),
            ("a -> b: [int]", "is not a type", 5),
            ("a -> b: int[str]", "is not a type", 5),
            ("ä, ö: Foo -> b", "'Foo' is not known", 3),
        ],
    )
    def test_an_error_points_at_the_part(self, text: str, problem: str, column: int) -> None:
        with pytest.raises(SignatureError) as caught:
            Signature.from_string(text)

        message, shown, caret = str(caught.value).split("\n")
        assert problem in message
        assert shown == f"  {text}"
        assert caret.index("^") == column + 2

    def test_nothing_in_the_text_is_evaluated(self) -> None:
        with pytest.raises(SignatureError):
            Signature.from_string("a -> b: __import__('os').system('true')")
        with pytest.raises(SignatureError):
            Signature.from_string("a -> b: int.__class__")

    def test_it_can_be_printed_as_the_class_to_paste(self) -> None:
        signature = Signature.from_string("q, at: list[Passage] -> a: Literal['x', 'y'] | None", 'Say "x".')

        assert render_class(signature) == (
            "from typing import Literal\n\n"
            "import dspex\n\n\n"
            "class AFromQAt(dspex.Signature):\n"
            '    """Say "x"."""\n\n'
            "    q: str = dspex.InputField()\n"
            "    at: list[dspex.Passage] = dspex.InputField()\n"
            "    a: Literal['x', 'y'] | None = dspex.OutputField()\n"
        )

    def test_a_printed_class_compiles_to_the_same_signature(self) -> None:
        class Rich(Signature):
            """
            Two lines of
            "instructions" with \\ and a quote at the end "
            """

            a: int = InputField(default=3, desc="it's", ge=1)
            b: list[str] = OutputField(default_factory=list, max_length=2)

        import types

        namespace: dict[str, Any] = {"__name__": __name__}
        dspex = types.SimpleNamespace(Signature=Signature, InputField=InputField, OutputField=OutputField)
        exec(render_class(Rich).replace("import dspex", ""), namespace | {"dspex": dspex}, namespace)

        assert namespace["Rich"].equals(Rich)


def test_the_missing_marker_is_falsy_and_named() -> None:
    assert not MISSING
    assert repr(MISSING) == "<missing>"
