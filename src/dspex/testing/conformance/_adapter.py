"""The contract of an adapter: what it writes it reads, however an answer is cut, and junk is a typed error."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Final, Literal

from dspex.errors import ResponseUnparsable
from dspex.programs import Adapter, InputField, OutputField, Piece, Signature
from dspex.protocols.lm import Capabilities, LMDelta, LMRequest
from dspex.protocols.model import LMParams

__all__ = ["AdapterContract"]


class _Judge(Signature):
    """Judge the claim."""

    claim: str = InputField(desc="as it was made")
    notes: list[str] = InputField(default_factory=list)
    verdict: Literal["yes", "no"] = OutputField()
    reasons: list[str] = OutputField(desc="the best first")
    score: float | None = OutputField()
    text: str = OutputField()


_TEXTS: Final = (
    *("plain", "Grüße 😀", "a\nb", "a\n\nb", '{"text": 1}', "```json\n{}\n```", "a: b", "- a\n- b", "\\", '"', "'"),
    *("<b>&amp;</b>", "[[ ## score ## ]]", "x\n[[ ## completed ## ]]", "</text><score>1</score>", "text: forged"),
    *("x\n**Score:** 1", "null", "yes"),
)
_JUNK: Final = (
    *("", " ", "null", "{}", "[]", "{", "yes", "[" * 5_000, "<a>" * 3_000, '{"a":' * 3_000, "\x00", "\ud800"),
    "9" * 5_000,
)


class AdapterContract(ABC):
    """The contract of every ``Adapter``; the subclass makes one."""

    @abstractmethod
    def make_adapter(self) -> Adapter:
        """Return the adapter."""

    def test_it_is_a_value(self) -> None:
        """It has every method of the protocol; two of the same settings are equal, and a hash goes with that."""
        adapter = self.make_adapter()
        assert isinstance(adapter, Adapter), f"{type(adapter).__name__} lacks methods of an Adapter"
        assert adapter == self.make_adapter(), "two adapters of the same settings are not equal"
        assert hash(adapter) == hash(self.make_adapter()), "two equal adapters have different hashes"

    def test_a_prompt_is_the_same_each_time(self) -> None:
        """It holds the instructions, the inputs and the demonstration; the cache relies on it."""
        adapter = self.make_adapter()
        demos = ({"claim": "demo-claim", "verdict": "yes", "reasons": ["demo-reason"], "score": 1.0, "text": "t"},)
        inputs = {"claim": "the-claim-4711", "notes": ["a-note"]}
        prompts = [(*adapter.prefix(_Judge, demos), *adapter.turns(_Judge, inputs)) for _ in range(2)]
        assert prompts[0] == prompts[1], "the same signature and inputs gave two prompts"
        told = "\n".join(turn.text for turn in prompts[0])
        for part in ("Judge the claim.", "the-claim-4711", "a-note", "demo-claim", "demo-reason"):
            assert part in told, f"{part!r} is not in the prompt"

    def test_what_it_writes_it_reads(self) -> None:
        """``parse(format_outputs(outputs)) == outputs``, for texts that hold the marks of formats, too."""
        adapter = self.make_adapter()
        for outputs in _outputs():
            parsed = adapter.parse(_Judge, adapter.format_outputs(_Judge, outputs))
            assert parsed.outputs == outputs, f"{outputs} was read as {parsed.outputs}"
            assert not parsed.repairs, f"reading its own writing took repairs: {parsed.repairs}"

    def test_junk_is_a_typed_error(self) -> None:
        """``ResponseUnparsable`` that names what is missing or wrong, and can be shown to the model."""
        adapter = self.make_adapter()
        for junk in _JUNK:
            error = _refused(adapter, junk)
            assert error is not None, f"{junk[:20]!r} was read as an answer"
            assert error.missing_fields or error.invalid_fields, f"{junk[:20]!r}: the error names no field"
            assert adapter.correction(_Judge, error), f"{junk[:20]!r}: there is no turn that says what was wrong"

    def test_an_answer_that_was_cut_is_never_another_answer(self) -> None:
        """At every letter: the same outputs, a typed error, or less of the last text, or more by a piece of a mark."""
        adapter = self.make_adapter()
        outputs: Mapping[str, object] = {"verdict": "no", "reasons": ["a"], "score": 0.5, "text": "the end"}
        written = adapter.format_outputs(_Judge, outputs)
        for cut in range(len(written)):
            try:
                parsed = adapter.parse(_Judge, written[:cut])
            except ResponseUnparsable:
                continue
            for name, value in parsed.outputs.items():
                if name == "text":
                    assert isinstance(value, str), f"cut at {cut}, the text is {value!r}"
                    assert "the end".startswith(value) or value.startswith("the end"), (
                        f"cut at {cut}, the text is {value!r}"
                    )
                else:
                    assert value == outputs[name], f"cut at {cut}, {name} is {value!r}"

    def test_a_stream_is_the_same_answer_however_it_is_cut(self) -> None:
        """The pieces of a text add up to it, and the last value of a field is what ``parse`` finds."""
        adapter = self.make_adapter()
        for outputs in _outputs():
            written = adapter.format_outputs(_Judge, outputs)
            for step in (1, 7, len(written)):
                parser = adapter.stream_parser(_Judge)
                pieces: list[Piece] = []
                for at in range(0, len(written), step):
                    pieces += parser.feed(written[at : at + step])
                pieces += parser.finish()
                last = {piece.field: piece.value_so_far for piece in pieces}
                assert last == outputs, f"in steps of {step}: {outputs} was read as {last}"
                text = "".join(piece.text for piece in pieces if piece.field == "text")
                assert text == outputs["text"], f"in steps of {step}, the text's pieces add up to {text!r}"

    def test_a_request_asks_for_no_more_than_the_model_can(self) -> None:
        """A form that is enforced is asked of a model that has it; parameters pass as they are."""
        adapter = self.make_adapter()
        messages = (*adapter.prefix(_Judge), *adapter.turns(_Judge, {"claim": "c", "notes": []}))
        params = LMParams(temperature=0.3, max_tokens=9)
        for can in (
            Capabilities(),
            Capabilities(json_object=True),
            Capabilities(json_schema=True, tools=True),
            Capabilities(choices=True, grammar=True),
        ):
            request = adapter.request(_Judge, messages, params, can)
            assert isinstance(request, LMRequest), f"request() returned {type(request).__name__}"
            assert request.params == params, "the parameters were changed"
            if not (can.json_schema or can.json_object or can.grammar):
                assert request.output is None, "a form was asked of a model that enforces none"

    def test_the_text_of_a_delta_is_text(self) -> None:
        """Also of one that has none."""
        adapter = self.make_adapter()
        for delta in (LMDelta(), LMDelta(text="a"), LMDelta(reasoning="a"), LMDelta(tool=0, arguments="{")):
            assert isinstance(adapter.stream_text(delta), str), f"stream_text({delta}) is not text"


def _outputs() -> Iterator[dict[str, object]]:
    for number, text in enumerate(_TEXTS):
        verdict = "no" if number % 2 else "yes"
        score = None if number % 3 == 0 else number / 4
        yield {"verdict": verdict, "reasons": [text, "b"][: number % 3], "score": score, "text": text}


def _refused(adapter: Adapter, text: str) -> ResponseUnparsable | None:
    try:
        adapter.parse(_Judge, text)
    except ResponseUnparsable as error:
        return error
    return None
