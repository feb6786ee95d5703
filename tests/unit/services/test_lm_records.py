"""Records of models as values: copied freely, pickled only where no key would travel along."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from dspex.protocols.model import LM, LMPool, Secret
from dspex.testing import ScriptedLM

PLAIN = LM("openai/m", api_base="http://localhost:1/v1", capabilities={"tools": True}, temperature=0.5, top_k=3)
KEYED = LM("openai/m", api_key="sk-1234567890")


@pytest.mark.parametrize("record", [PLAIN, KEYED, LMPool((PLAIN, KEYED, "judge"), weights=(1.0, 2.0, 0.0))])
def test_a_record_s_copy_is_the_record(record: LM | LMPool) -> None:
    """It is frozen: there is nothing that a second one could be for."""
    assert copy.copy(record) == record
    assert copy.deepcopy([record]) == [record]


def test_a_record_without_a_key_is_pickled() -> None:
    """For executors in other processes, which read keys from their own environment."""
    pool = LMPool((PLAIN, "judge"), hedge_after=0.5)

    assert pickle.loads(pickle.dumps(PLAIN)) == PLAIN
    assert pickle.loads(pickle.dumps(pool)) == pool


@pytest.mark.parametrize("value", [KEYED, Secret("sk-1234567890"), LMPool((KEYED,))])
def test_a_key_is_never_pickled(value: object) -> None:
    """A pickle is a file in the making; the message says what to do and not what the key is."""
    with pytest.raises(TypeError, match="leave out api_key") as caught:
        pickle.dumps(value)

    assert "sk-" not in str(caught.value)


def test_a_model_that_answers_by_itself_is_not_pickled() -> None:
    """It is code and state, no record; copies are the same model."""
    lm = ScriptedLM(["a"])

    assert copy.copy(lm) is copy.deepcopy(lm) is lm
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(lm)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"temperature": "hot"}, "temperature='hot': expected a number"),
        ({"temperature": True}, "expected a number"),
        ({"n": 0}, "n=0: expected how many answers, 1 or more"),
        ({"max_tokens": 1.5}, "expected a whole number"),
        ({"stop": [1]}, "expected a text or several"),
        ({"temprature": 0.5}, "did you mean temperature"),
        ({"max_token": 5}, "did you mean max_tokens"),
        ({"maxtokens": 5}, "did you mean max_tokens"),
        ({"Temperature": 1.0}, "did you mean temperature"),
        ({"tempreature": 1.0}, "did you mean temperature"),
        ({"logprobss": 1}, "did you mean logprobs"),
        ({"base_url": "http://localhost"}, "no parameter of a model: a server's address is api_base="),
        ({"num_retries": 8}, r"attempts are App\(limits="),
    ],
)
def test_parameters_that_cannot_be_are_refused_before_anything_is_sent(params: dict[str, Any], message: str) -> None:
    """The provider's own are as open as its JSON; a slip in one of ours is no parameter of its own."""
    with pytest.raises(ValueError, match=message):
        LM("openai/m", **params)


def test_the_providers_own_parameters_are_passed_on() -> None:
    """Also one that looks like a slip, where it is given as what it is."""
    lm = LM("openai/m", top_k=3, min_tokens=1, reasoning_effort="low", max_completion_tokens=9, temperature=None)
    odd = LM("openai/m", extra={"max_token": 5})

    assert lm.params.extra == {"top_k": 3, "min_tokens": 1, "reasoning_effort": "low", "max_completion_tokens": 9}
    assert odd.params.extra == {"max_token": 5}


def test_a_pool_of_a_list_is_that_of_a_tuple() -> None:
    """It is a key of tables, so it keeps no list; a text is no list of members."""
    members: Any = [PLAIN, "judge"]
    weights: Any = [1.0, 2.0]

    pool = LMPool(members, weights)

    assert pool == LMPool((PLAIN, "judge"), (1.0, 2.0))
    assert hash(pool) == hash(LMPool((PLAIN, "judge"), (1.0, 2.0)))
    for alone in ("openai/m", PLAIN):
        with pytest.raises(ValueError, match="as a tuple or a list"):
            LMPool(alone)  # type: ignore[arg-type]  # on purpose
