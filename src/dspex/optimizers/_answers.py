"""Keys of answers in a journal, and answers read back from it."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from dspex.errors import InternalError
from dspex.optimizers.fingerprint import digest
from dspex.optimizers.plans import Answer, Ask, Embed, Embedded, Evaluation, Run, Train, Trained, Write, Written
from dspex.programs import Signature
from dspex.protocols.json_values import Json
from dspex.protocols.money import Spending

__all__ = ["answer_of", "evaluation_of", "key_of", "plain_spending", "run_prefix", "spending_of"]


def run_prefix(ask: Run) -> str:
    """Return the beginning of the keys of a Run's answers: it depends on what is run, not on who asks."""
    how = str(ask.rollout) if ask.temperature is None else f"{ask.rollout}@{ask.temperature:g}"
    return f"run/{ask.candidate.key}/{how}{'' if ask.scored else '!'}"


def key_of(ask: Ask, place: Sequence[int]) -> str:
    """
    Return the key of another ask's answer: where it is asked, and a hash of what is asked.

    Embedding and training are known by their content alone: a training must never be submitted twice.
    """
    if isinstance(ask, Write):
        asked = [_described(ask.signature), dict(ask.inputs), ask.rollout, ask.temperature, repr(ask.lm)]
        return f"write/{'/'.join(map(str, place))}/{digest(asked)[:12]}"
    if isinstance(ask, Embed):
        return f"embed/{digest([ask.texts, repr(ask.lm)])[:20]}"
    if isinstance(ask, Train):
        lm = ask.lm if isinstance(ask.lm, str) else repr(ask.lm)
        return f"train/{digest([lm, ask.data, ask.options])[:20]}"
    raise InternalError(f"{type(ask).__name__} has no key of its own")


def _described(signature: type[Signature] | str) -> object:
    if isinstance(signature, str):
        return signature
    fields = [[each.name, each.role, each.desc] for each in signature.fields.values()]
    return [signature.__name__, signature.instructions, fields]


def spending_of(data: Json) -> Spending:
    """Return what a recorded answer has cost."""
    spent = data.get("spent", {})
    usd = Decimal(spent.get("usd", "0"))
    return Spending(usd, spent.get("tokens", 0), spent.get("calls", 0), spent.get("unpriced", 0))


def plain_spending(spent: Spending) -> dict[str, object]:
    """Return an amount as JSON values."""
    return {"usd": str(spent.usd), "tokens": spent.tokens, "calls": spent.calls, "unpriced": spent.unpriced}


def evaluation_of(data: Json, row: int, *, trace: bool) -> Evaluation:
    """Read a recorded run."""
    calls = tuple((path, values) for path, values in data.get("_trace", ())) if trace else ()
    return Evaluation(row, data["score"], data.get("feedback", ""), data["error"], calls, spending_of(data))


def answer_of(ask: Ask, data: Json) -> Answer:
    """Read another recorded answer."""
    error, spent = data["error"], spending_of(data)
    if isinstance(ask, Write):
        return Written(data["outputs"], error, spent)
    if isinstance(ask, Embed):
        return Embedded(tuple(tuple(each) for each in data["_vectors"]), error, spent)
    if isinstance(ask, Train):
        return Trained(data["model"], error, spent)
    raise InternalError(f"{type(ask).__name__} has no answer of its own")
