"""Records of models as values: copied freely, pickled only where no key would travel along."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from dspex.optimizers.fingerprint import fingerprint_lms
from dspex.protocols.cache import cache_key
from dspex.protocols.lm import LMRequest, Message
from dspex.protocols.model import LM, LMPool, Secret
from dspex.testing import ScriptedLM

PLAIN = LM(
    "openai/m", api_base="http://localhost:1/v1", capabilities={"tools": True}, temperature=0.5, extra_body={"top_k": 3}
)
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
        ({"base_url": "http://localhost"}, "not a parameter of a model: a server's address is api_base="),
        ({"num_retries": 8}, r"attempts are App\(limits="),
        ({"apibase": "http://localhost"}, "did you mean api_base="),
        ({"timeout": 3}, r"waits are App\(timeouts="),
        ({"dedline": 3}, r"did you mean deadline= \(a request's time is app.options"),
        ({"extra_headers": {"a": "b"}}, "request headers are headers="),
        ({"header": {"a": "b"}}, "did you mean headers="),
        ({"extra": {"a": "b"}}, "own parameters are extra_body="),
        ({"top_k": 3}, r"the provider's own parameters are extra_body=\{'top_k': \.\.\.\}"),
        ({"extra_body": [1]}, "expected a mapping of names to JSON values"),
        ({"extra_body": {1: 2}}, "expected a mapping of names to JSON values"),
    ],
)
def test_parameters_that_cannot_be_are_refused_before_anything_is_sent(params: dict[str, Any], message: str) -> None:
    """The provider's own parameters have a place of their own, so that a slip is never sent to it."""
    with pytest.raises(ValueError, match=message):
        LM("openai/m", **params)


def test_an_unknown_argument_does_not_show_its_value() -> None:
    """It may be a key under a wrong name."""
    given: Any = {"apikey": "sk-1234567890"}
    with pytest.raises(ValueError, match="did you mean api_key=") as caught:
        LM("openai/m", **given)

    assert "sk-1" not in str(caught.value)


def test_the_providers_own_parameters_are_passed_on() -> None:
    """Changes join what is there."""
    lm = LM("openai/m", extra_body={"top_k": 3, "max_token": 5}, temperature=None)

    assert lm.params.extra_body == {"top_k": 3, "max_token": 5}
    assert lm.params.merged({"extra_body": {"top_k": 4}}).extra_body == {"top_k": 4, "max_token": 5}
    assert lm.params.merged({"extra_body": None}).extra_body == lm.params.extra_body


class TestHeaders:
    def test_names_are_shown_and_values_are_not(self) -> None:
        lm = LM("openai/m", headers={"X-Tenant": "t-4711"})

        assert list(lm.headers) == ["x-tenant"]
        assert "t-4711" not in f"{lm!r} {lm.headers!r} {lm}"
        assert "x-tenant" in repr(lm)

    def test_records_with_other_headers_are_other_records(self) -> None:
        one, same, other = (LM("openai/m", headers={"x-a": "1", "x-b": each}) for each in "112")

        assert one == same
        assert hash(one) == hash(same)
        assert one != other
        assert one == LM("openai/m", headers={"x-b": "1", "x-a": "1"})

    def test_they_are_never_pickled(self) -> None:
        with pytest.raises(TypeError, match="leave out api_key and headers"):
            pickle.dumps(LM("openai/m", headers={"x-tenant": "t"}))

    @pytest.mark.parametrize(
        ("headers", "message"),
        [
            ({"x tenant": "t"}, "cannot be the name of a header"),
            ({"": "t"}, "cannot be the name of a header"),
            ({1: "t"}, "cannot be the name of a header"),
            ({"x-a": "t", "X-A": "u"}, "x-a is given twice"),
            ({"Host": "t-4711"}, "host is set by dspex itself"),
            ({"content-length": "t-4711"}, "set by dspex itself"),
            ({"idempotency-key": "t-4711"}, "set by dspex itself"),
            ({"x-tenant": "t-4711\r\nx-evil: 1"}, "the value of x-tenant must be text"),
            ({"x-tenant": " t-4711"}, "without spaces at its ends"),
            ({"x-tenant": "Grüße-t-4711"}, "printable ASCII"),
            ({"x-tenant": 4711}, "the value of x-tenant must be text"),
        ],
    )
    def test_what_cannot_be_sent_is_refused_early(self, headers: Any, message: str) -> None:
        with pytest.raises(ValueError, match=message) as caught:
            LM("openai/m", headers=headers)

        assert "t-4711" not in str(caught.value)

    def test_a_flag_decides_the_answer_and_a_credential_does_not(self) -> None:
        """As with API keys: a new token must not empty the cache."""

        def key(**headers: str) -> str:
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            return cache_key(LM("openai/m", headers=given), LMRequest((Message("user", "q"),)))

        assert key(x_beta="1") != key(x_beta="2")
        assert key() != key(x_beta="1")
        assert key(x_gateway_token="1") == key(x_gateway_token="2")
        assert fingerprint_lms({"a": LM("openai/m", headers={"x-beta": "1"})}) != fingerprint_lms({"a": LM("openai/m")})


def test_a_pool_of_a_list_is_that_of_a_tuple() -> None:
    """It is a key of tables, so it keeps no list; a text is not a list of members."""
    members: Any = [PLAIN, "judge"]
    weights: Any = [1.0, 2.0]

    pool = LMPool(members, weights)

    assert pool == LMPool((PLAIN, "judge"), (1.0, 2.0))
    assert hash(pool) == hash(LMPool((PLAIN, "judge"), (1.0, 2.0)))
    for alone in ("openai/m", PLAIN):
        with pytest.raises(ValueError, match="as a tuple or a list"):
            LMPool(alone)  # type: ignore[arg-type]  # on purpose
