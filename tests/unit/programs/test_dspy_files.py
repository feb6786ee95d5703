"""
Files that DSPy 3.4.1 wrote are loaded as they are, and written again as they were.

``tests/integration/test_dspy_peer.py`` holds them to what DSPy writes.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

import dspex
from tests.support.peer import GOLDEN, filled
from tests.support.peer_programs import SHAPES, Address, Color, Person

NAMES = sorted(path.stem for path in GOLDEN.glob("*.json") if path.stem != "with_lm")


def content(path: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    del state["metadata"]
    return state


@pytest.mark.parametrize("name", NAMES)
def test_file_is_loaded_and_written_as_it_was(name: str, tmp_path: Path) -> None:
    """Paths, instructions, descriptions and demonstrations; what was learnt reaches the prompt's parts."""
    loaded = SHAPES[name].make(dspex).load(GOLDEN / f"{name}.json")
    loaded.save(tmp_path / "again.json")

    expected = content(GOLDEN / f"{name}.json")
    if name == "prefixes":
        expected["signature"]["fields"][3]["prefix"] = "Final Answer:"  # the one thing that no prompt shows
    assert content(tmp_path / "again.json") == expected
    state, own = loaded.dump_state(), filled(SHAPES[name]).dump_state()
    for path, change in SHAPES[name].changes.items():
        assert state[path]["demos"] == own[path]["demos"]
        if change.instructions is not None:
            assert loaded.predictors()[path].signature.instructions == change.instructions


def test_values_of_demonstrations_have_their_types_again() -> None:
    """JSON knows no records and no enums; the signature does."""
    people = SHAPES["models"].make(dspex).load(GOLDEN / "models.json").demos[0]["people"]
    assert people == [Person(name="Ada", addresses=[Address(street="S", number=1)])]
    assert SHAPES["enums"].make(dspex).load(GOLDEN / "enums.json").demos[0]["color"] is Color.BLUE


def test_what_is_left_behind_is_reported(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """Nothing is dropped in silence, and nothing that is the default is worth a word."""
    with caplog.at_level(logging.WARNING, "dspex.programs"):
        model = SHAPES["chain"].make(dspex).load(GOLDEN / "with_lm.json").predictors()["predict"].lm
        assert caplog.messages == []
        SHAPES["prefixes"].make(dspex).load(GOLDEN / "prefixes.json")
        state = json.loads((GOLDEN / "with_lm.json").read_text())
        state["predict"] |= {"traces": [1]}
        state["predict"]["lm"] |= {"cache": False, "model_type": "responses", "use_developer_role": True}
        (tmp_path / "more.json").write_text(json.dumps(state))
        SHAPES["chain"].make(dspex).load(tmp_path / "more.json")
    assert model == dspex.LM("openai/gpt-4o-mini", temperature=0.2, max_tokens=100)
    assert caplog.messages == [
        "self.signature: not carried over: the prefix of final_answer, which no prompt shows",
        "predict.lm: not carried over: cache, model_type, use_developer_role",
        "predict: not carried over: traces",
    ]


def test_own_words_stand_apart_from_what_dspy_reads(tmp_path: Path) -> None:
    """DSPy hands what it finds in `config` and `lm` to the provider: repair turns would be refused there."""
    lm = dspex.LM("openai/x", temperature=0.5, reasoning="low", extra_body={"user": "me"})
    program = dspex.Predict("q -> a").with_lm(lm).with_config(seed=1, repair_turns=0, logprobs=2).with_adapter("json")
    program.save(tmp_path / "p.json")

    state = content(tmp_path / "p.json")
    assert state["lm"] == {"model": "openai/x", "temperature": 0.5}
    assert state["config"] == {"seed": 1}
    assert state["dspex"] == {
        "lm": {"reasoning": "low", "extra_body": {"user": "me"}},
        "config": {"logprobs": 2},
        "repair_turns": 0,
        "adapter": "json",
    }
    loaded = dspex.Predict("q -> a").load(tmp_path / "p.json")
    assert (loaded.lm, loaded.params, loaded.repair_turns) == (lm, program.params, 0)
    assert loaded.adapter == dspex.JSONAdapter()


@pytest.mark.parametrize(
    "lm", ["judge", dspex.LMPool(("judge", dspex.LM("openai/x", extra_body={"user": "me"})), (1.0, 2.0))]
)
def test_models_that_dspy_has_no_word_for(lm: str | dspex.LMPool, tmp_path: Path) -> None:
    """It sees none, and takes its default."""
    dspex.Predict("q -> a").with_lm(lm).save(tmp_path / "p.json")
    assert content(tmp_path / "p.json")["lm"] is None
    assert dspex.Predict("q -> a").load(tmp_path / "p.json").lm == lm


def test_files_of_releases_before_are_loaded() -> None:
    """They had a bare predictor below `self`, and everything in `config`."""
    state = dspex.Predict("q -> a").dump_state()
    state["self"] |= {"config": {"repair_turns": 0, "adapter": "xml", "extra": {"user": "me"}}}
    state["self"]["lm"] = {"model": "openai/x", "extra": {"user": "me"}}
    loaded = dspex.Predict("q -> a").load_state(state)
    assert (loaded.repair_turns, loaded.adapter) == (0, dspex.XMLAdapter())
    assert loaded.lm == dspex.LM("openai/x", extra_body={"user": "me"})
