"""Saved programs: what is kept, what never is, and what a bad file cannot do."""

from __future__ import annotations

import contextlib
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from dspex.errors import StateError
from dspex.programs import ChainOfThought, Example, InputField, Module, OutputField, Predict, Signature
from dspex.programs._state import _prefix
from dspex.programs.adapters._choose import choose_adapter
from dspex.protocols.model import LM
from dspex.protocols.retrieval import Passage


class QA(Signature):
    """Answer."""

    passages: list[Passage] = InputField()
    question: str = InputField(desc="as typed")
    answer: int = OutputField()


class RAG(Module):
    def __init__(self) -> None:
        self.answer = ChainOfThought(QA)
        self.steps = [Predict("question -> answer")]

    async def forward(self, question: str) -> None: ...


DEMO = Example(passages=[Passage("t", "T")], question="q", reasoning="r", answer=3, augmented=True)

SAVED_ELSEWHERE: dict[str, Any] = {
    "answer.predict": {
        "traces": [],
        "train": [],
        "demos": [{"question": "q", "reasoning": "r", "answer": "3", "augmented": True}],
        "signature": {
            "instructions": "Be brief.",
            "fields": [
                {"prefix": "Passages:", "description": "${passages}"},
                {"prefix": "Question:", "description": "what they ask"},
                {"prefix": "Reasoning:", "description": "${reasoning}"},
                {"prefix": "Answer:", "description": "${answer}"},
            ],
        },
        "lm": {
            "_dspy_lm_class": "dspy.clients.lm.LM",
            "model": "openai/gpt-4o-mini",
            "model_type": "chat",
            "cache": True,
            "num_retries": 3,
            "temperature": 0.2,
            "max_tokens": None,
            "finetuning_model": None,
            "launch_kwargs": {},
            "train_kwargs": {},
            "use_developer_role": True,
        },
    },
    "steps[0]": {
        "demos": [],
        "signature": {
            "instructions": "Go.",
            "fields": [
                {"prefix": "Question:", "description": "${question}"},
                {"prefix": "Answer:", "description": "a"},
            ],
        },
        "lm": None,
    },
    "metadata": {"dependency_versions": {"python": "3.12", "dspy": "3.4.1", "cloudpickle": "3.1"}},
}


def without_messages(program: Module) -> list[tuple[Any, ...]]:
    return [
        (path, each.signature.instructions, [*each.signature.fields.values()], each.demos, each.lm, each.params)
        for path, each in program.predictors().items()
    ]


class TestRoundTrip:
    def test_a_saved_program_is_loaded_as_it_was(self, tmp_path: Path) -> None:
        lm = LM("openai/gpt-5-mini", temperature=0.5, stop=["x"])
        program = RAG().with_lm(lm).with_config(temperature=1.0, seed=7, repair_turns=2)
        program = program.with_demos({"answer.predict": [DEMO]})
        program = program.replace({"steps[0]": program.predictors()["steps[0]"].with_instructions("Be brief.")})

        program.save(tmp_path / "rag.json")
        loaded = RAG().load(tmp_path / "rag.json")

        assert without_messages(loaded) == without_messages(program)
        assert loaded.steps[0].repair_turns == 2
        assert type(loaded) is RAG

    @pytest.mark.parametrize("lm", [None, "judge", "openai/gpt-5-mini"])
    def test_models_by_name(self, lm: str | None) -> None:
        loaded = RAG().load_state(RAG().with_lm(lm).dump_state())

        found = loaded.steps[0].lm
        assert found == (LM(lm) if lm and "/" in lm else lm)

    def test_a_model_s_record_is_kept_whole(self, tmp_path: Path) -> None:
        """Capabilities and effort of thinking are kept as well: loading must not make another model of it."""
        lm = LM(
            "openai/m",
            capabilities={"json_schema": True, "tools": False},
            reasoning="high",
            logprobs=3,
            parallel_tool_calls=False,
            stop=("x",),
            extra_body={"top_k": 1},
        )
        Predict("question -> answer", lm=lm).save(tmp_path / "p.json")

        assert Predict("question -> answer").load(tmp_path / "p.json").lm == lm

    def test_the_original_is_untouched(self) -> None:
        program = RAG()
        before = without_messages(program)

        program.load_state(SAVED_ELSEWHERE)

        assert without_messages(program) == before

    def test_a_bare_predictor(self, tmp_path: Path) -> None:
        predict = Predict(QA).with_instructions("Be brief.")
        predict.save(tmp_path / "p.json")

        assert Predict(QA).load(tmp_path / "p.json").signature.instructions == "Be brief."


class TestShape:
    def test_it_is_the_shape_others_read(self) -> None:
        state = RAG().with_demos({"answer.predict": [DEMO]}).dump_state()

        assert list(state) == ["answer.predict", "steps[0]", "metadata"]
        assert state["answer.predict"] == {
            "traces": [],
            "train": [],
            "demos": [
                {
                    "passages": [{"text": "t", "title": "T", "score": 0.0, "id": "", "metadata": {}}],
                    "question": "q",
                    "reasoning": "r",
                    "answer": 3,
                    "augmented": True,
                }
            ],
            "signature": {
                "instructions": "Answer.",
                "fields": [
                    {"prefix": "Passages:", "description": "${passages}"},
                    {"prefix": "Question:", "description": "as typed"},
                    {"prefix": "Reasoning:", "description": "think step by step towards the other fields"},
                    {"prefix": "Answer:", "description": "${answer}"},
                ],
            },
            "lm": None,
        }
        assert state["metadata"]["dspex"] == {"schema": 1}

    @pytest.mark.parametrize(
        ("name", "prefix"),
        [
            ("question", "Question:"),
            ("long_question", "Long Question:"),
            ("text2number", "Text 2 Number:"),
            ("HTMLParser", "HTML Parser:"),
            ("someName", "Some Name:"),
        ],
    )
    def test_labels_of_fields(self, name: str, prefix: str) -> None:
        assert _prefix(name) == prefix

    def test_keys_are_never_saved(self, tmp_path: Path) -> None:
        body = {"user": "me", "auth_token": "sk-hidden"}
        lm = LM("openai/x", api_key="sk-hidden", headers={"X-Tenant": "sk-hidden"}, extra_body=body)

        RAG().with_lm(lm).with_config(extra_body={"api_key": "sk-hidden"}).save(tmp_path / "rag.json")

        text = (tmp_path / "rag.json").read_text()
        assert "sk-hidden" not in text
        assert '"user": "me"' in text


class TestFromElsewhere:
    def test_a_file_of_dspy_is_loaded(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        (tmp_path / "p.json").write_text(json.dumps(SAVED_ELSEWHERE))

        with caplog.at_level(logging.WARNING, "dspex.programs"):
            loaded = RAG().load(tmp_path / "p.json")

        answer = loaded.answer.predict
        assert answer.signature.instructions == "Be brief."
        assert answer.signature.fields["question"].desc == "what they ask"
        assert answer.signature.fields["reasoning"].desc == ""
        assert answer.lm == LM("openai/gpt-4o-mini", temperature=0.2)
        assert answer.demos[0]["answer"] == 3
        assert caplog.messages == ["answer.predict.lm: not carried over: use_developer_role"]

    def test_a_server_address_needs_consent(self) -> None:
        state = json.loads(json.dumps(SAVED_ELSEWHERE))
        state["answer.predict"]["lm"]["api_base"] = "http://evil"

        with pytest.raises(StateError, match="allow_api_base=True"):
            RAG().load_state(state)

        lm = RAG().load_state(state, allow_api_base=True).answer.predict.lm
        assert isinstance(lm, LM)
        assert lm.api_base == "http://evil"


def damaged(path: str, value: Any) -> dict[str, Any]:
    """Return the state with one part exchanged; ``path`` is keys joined by slashes."""
    state: Any = json.loads(json.dumps(SAVED_ELSEWHERE))
    *keys, last = path.split("/")
    part = state
    for key in keys:
        part = part[int(key) if key.isdigit() else key]
    part[int(last) if last.isdigit() else last] = value
    whole: dict[str, Any] = state
    return whole


class TestDamage:
    @pytest.mark.parametrize("junk", [3, None, "x", [], [1], True, 1e400, {"a": 1}, {"x": {"y": {}}}])
    @pytest.mark.parametrize(
        "path",
        [
            "answer.predict",
            "answer.predict/demos",
            "answer.predict/demos/0",
            "answer.predict/signature",
            "answer.predict/signature/instructions",
            "answer.predict/signature/fields",
            "answer.predict/signature/fields/1",
            "answer.predict/signature/fields/1/description",
            "answer.predict/lm",
            "answer.predict/lm/model",
            "answer.predict/lm/temperature",
            "answer.predict/lm/stop",
            "answer.predict/lm/extra_body",
            "answer.predict/config",
            "metadata",
            "metadata/dspex",
        ],
    )
    def test_no_junk_raises_anything_but_a_state_error(self, path: str, junk: Any) -> None:
        program = RAG()
        before = without_messages(program)

        with contextlib.suppress(StateError):  # some junk is not damage: a list of no demonstrations, say
            program.load_state(damaged(path, junk))

        assert without_messages(program) == before

    @pytest.mark.parametrize(
        ("path", "junk", "message"),
        [
            ("answer.predict/signature/fields", [], "saved with 0 fields, this signature has 4"),
            ("answer.predict/config", {"temprature": 1}, "unknown parameters"),
            ("answer.predict/config", {"extra": {"api_key": "x"}}, "extra_body cannot be"),
            ("answer.predict/lm/temperature", "hot", "temperature cannot be 'hot'"),
            ("answer.predict/lm/model", "nothing", "not 'provider/model'"),
            ("metadata/dspex", {"schema": 99}, "upgrade dspex"),
            ("more", {}, r"it lacks \[\] and has \['more'\]"),
        ],
    )
    def test_the_message_says_where_and_what(self, path: str, junk: Any, message: str) -> None:
        with pytest.raises(StateError, match=message):
            RAG().load_state(damaged(path, junk))

    @pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b"3", b"[]", b"\x80\x04\x95."])
    def test_a_file_that_is_no_state(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "bad.json").write_bytes(content)

        with pytest.raises(StateError):
            RAG().load(tmp_path / "bad.json")

    def test_a_huge_file_is_refused_unread(self, tmp_path: Path) -> None:
        with (tmp_path / "huge.json").open("wb") as file:
            file.truncate(2**30)

        with pytest.raises(StateError, match="larger than"):
            RAG().load(tmp_path / "huge.json")

    def test_a_missing_file_is_an_os_error(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            RAG().load(tmp_path / "none.json")

    def test_a_failed_save_leaves_the_old_file_and_no_other(self, tmp_path: Path) -> None:
        path = tmp_path / "rag.json"
        path.write_text("old")

        with pytest.raises(StateError, match=r"demonstration 0 of .*: question: a object has no JSON form"):
            RAG().with_demos([{"question": object(), "answer": "a"}]).save(path)

        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]

    def test_half_a_surrogate_pair_is_saved_and_loaded(self, tmp_path: Path) -> None:
        RAG().with_demos([{"question": "\ud800ä", "answer": "a"}]).save(tmp_path / "rag.json")

        assert RAG().load(tmp_path / "rag.json").predictors()["answer.predict"].demos[0]["question"] == "\ud800ä"


@pytest.mark.parametrize(
    ("saved_as", "asked_as"), [("chat", "auto"), ("auto", "chat"), ("auto", "json"), (None, "auto")]
)
def test_demonstrations_are_shown_in_whichever_form_asks(tmp_path: Path, saved_as: Any, asked_as: Any) -> None:
    """A file holds values, not texts: it loads into a program of another form, and keeps the adapter it names."""
    path = tmp_path / "qa.json"
    saved = ChainOfThought("question -> answer: int", demos=[{"question": "q", "reasoning": "r", "answer": 3}])
    (saved.with_adapter(saved_as) if saved_as else saved).save(path)

    loaded = ChainOfThought("question -> answer: int", adapter=asked_as).load(path)
    asks = loaded.predict
    assert (asks.adapter.name if asks.adapter is not None else None) == (saved_as or asked_as)
    assert dict(asks.demos[0])["answer"] == 3
    other = choose_adapter(asked_as)
    assert other is not None
    shown = [each.text for each in asks.prefix_of(other, asks.signature)]
    assert shown[-1] == other.format_outputs(asks.signature, {"reasoning": "r", "answer": 3})
