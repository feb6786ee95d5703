"""A minute against any model or server: which forms it can write, what its server really does, and how fast it is."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, get_args

from dspex.errors import DspexError, ResponseUnparsable
from dspex.programs import AdapterName, Module, Predict, Signature, details
from dspex.protocols.lm import JsonSchema, LMRequest, Message
from dspex.protocols.model import LM, LMParams
from dspex.protocols.scope import LMResult, current_scope
from dspex.protocols.text_shapes import Grammar, TextChoice
from dspex.services.lm.context_length import ask_context_length

if TYPE_CHECKING:
    from dspex.app._view import AppView

__all__ = ["Probe", "probe"]

_SENTENCES: Final = ("The cat sleeps on the old mat.", "Der Hund schläft.", "Il pleut beaucoup aujourd'hui à Lyon.")
_SCHEMA: Final = JsonSchema(
    "probe",
    {
        "type": "object",
        "properties": {"harbour": {"type": "string", "enum": ["Oslo", "Porto"]}, "depth": {"type": "integer"}},
        "required": ["harbour", "depth"],
        "additionalProperties": False,
    },
)
_CITY: Final = TextChoice(("Oslo", "Porto"))
_CODE: Final = Grammar('root ::= [0-9] [0-9] [0-9] "-" [0-9] [0-9]')
_POEM: Final = "Write four lines of a poem about the sea. Write nothing but the poem."
_DRAW: Final = "Invent a word that nobody has used before. Write the word only."
_LONG: Final = "Here is a list of words.\n" + "\n".join(f"{number}. lantern" for number in range(120))
_AT_ONCE: Final = 4
_FASTER: Final = 1.3
"""So many times the tokens of one call in the same time show that calls run side by side."""


@dataclass(frozen=True, slots=True)
class Probe:
    """
    The findings about a model at a server; None where it could not be found out.

    Attributes:
        lm: The model that was asked.
        forms: Of each adapter, how many of the answers were read at the first turn, as a share.
        enforces_schema: True when an answer that was asked to be a poem fits the schema that was sent along.
        enforces_choices: True when such an answer is one of the two words that it was held to.
        enforces_grammar: True when it is a number of the form that a grammar says.
        context_length: Tokens of prompt and answer together that a server of the user's own has room for.
        told_usage: True when the server counts tokens.
        keeps_seed: True when the same seed draws the same answer twice, where another draws another.
        keeps_prefix: True when the server read the beginning of a prompt that it had seen from its cache.
        tokens_per_second: Of one answer, waiting for its beginning included.
        tokens_at_once: Of four answers together.
        errors: The reasons why something could not be found out.
    """

    lm: LM
    forms: Mapping[str, float]
    enforces_schema: bool | None = None
    enforces_choices: bool | None = None
    enforces_grammar: bool | None = None
    context_length: int | None = None
    told_usage: bool | None = None
    keeps_seed: bool | None = None
    keeps_prefix: bool | None = None
    tokens_per_second: float | None = None
    tokens_at_once: float | None = None
    errors: Mapping[str, str] = field(default_factory=dict)

    @property
    def runs_side_by_side(self) -> bool | None:
        """True when four calls at once give clearly more tokens a second than one."""
        if self.tokens_per_second is None or self.tokens_at_once is None:
            return None
        return self.tokens_at_once >= _FASTER * self.tokens_per_second

    @property
    def adapter(self) -> str:
        """The form that was read most often; of several the first by ``AdapterName``, such as ``auto``."""
        found: str = max(get_args(AdapterName), key=lambda name: self.forms.get(name, 0.0))
        return found

    @property
    def line(self) -> str:
        """The line of Python to use."""
        at = f", api_base={self.lm.api_base!r}" if self.lm.api_base is not None else ""
        found = {
            "json_schema": self.enforces_schema,
            "choices": self.enforces_choices,
            "grammar": self.enforces_grammar,
        }
        missing = {name: False for name, enforced in found.items() if enforced is False}
        wrong = f", capabilities={missing!r}" if missing else ""
        return f"dspex.App(dspex.LM({self.lm.model!r}{at}{wrong}), adapter={self.adapter!r})"

    def render(self) -> str:
        """Return the findings as lines of text."""
        words: dict[bool | None, str] = {True: "yes", False: "no", None: "not known"}
        lines = [f"{self.lm.model}"]
        lines += [f"  reads {name} at the first turn: {100 * share:.0f} %" for name, share in self.forms.items()]
        lines += [
            f"  {what}: {words[found]}"
            for what, found in (
                ("enforces a JSON schema", self.enforces_schema),
                ("enforces choices", self.enforces_choices),
                ("enforces a grammar", self.enforces_grammar),
                ("counts tokens", self.told_usage),
                ("keeps a seed", self.keeps_seed),
                ("keeps the beginning of a prompt", self.keeps_prefix),
                ("answers side by side", self.runs_side_by_side),
            )
        ]
        if self.context_length is not None:
            lines.append(f"  room for tokens: {self.context_length:,}")
        if self.tokens_per_second is not None:
            together = f", {self.tokens_at_once:.0f} for four at once" if self.tokens_at_once is not None else ""
            lines.append(f"  tokens a second: {self.tokens_per_second:.0f}{together}")
        lines += [f"  not found out, {what}: {why}" for what, why in self.errors.items()]
        return "\n".join([*lines, "", self.line])


async def probe(app: AppView, lm: LM) -> Probe:
    """
    Ask a model about thirty short questions, past the App's cache, and return the findings.

    Raises:
        LMError: The model cannot be asked at all.
    Cancellation: the running calls are cancelled and their sockets closed.
    """
    view = app.options(cache="bypass")
    errors: dict[str, str] = {}
    said = await view.run(_Say(lm), _POEM)  # what is wrong with the model or its address is raised here
    usage = said.response.usage
    told = usage.output_tokens > 0 and not usage.estimated_tokens
    found: dict[str, bool | float | None] = {}
    for what, look in (
        ("enforces_schema", _enforces_schema),
        ("enforces_choices", _enforces_choices),
        ("enforces_grammar", _enforces_grammar),
        ("keeps_seed", _keeps_seed),
        ("keeps_prefix", _keeps_prefix),
        ("tokens_at_once", _tokens_at_once),
    ):
        try:
            found[what] = await look(view, lm)
        except DspexError as error:
            errors[what] = str(error)
    forms = {name: await _reads(view, lm, name) for name in get_args(AdapterName)}
    speed = usage.output_tokens / said.duration if told and said.duration > 0 else None
    at_once = found.get("tokens_at_once")
    return Probe(
        lm,
        forms,
        enforces_schema=_maybe(found.get("enforces_schema")),
        enforces_choices=_maybe(found.get("enforces_choices")),
        enforces_grammar=_maybe(found.get("enforces_grammar")),
        context_length=await ask_context_length(lm),
        told_usage=told,
        keeps_seed=_maybe(found.get("keeps_seed")),
        keeps_prefix=_maybe(found.get("keeps_prefix")),
        tokens_per_second=speed,
        tokens_at_once=float(at_once) if told and at_once is not None else None,
        errors=errors,
    )


def _maybe(found: bool | float | None) -> bool | None:
    return None if found is None else bool(found)


Form = JsonSchema | TextChoice | Grammar


class _Say(Module):
    """One call without an adapter between."""

    def __init__(self, lm: LM, params: LMParams | None = None, output: Form | None = None) -> None:
        self._lm = lm
        self._request = LMRequest((), params or LMParams(max_tokens=80, temperature=0.0), output=output)

    async def forward(self, text: str) -> LMResult:
        asked = LMRequest((Message("user", text),), self._request.params, output=self._request.output)
        return await current_scope.get().complete(asked, lm=self._lm, step="probe")


class _Able(Module):
    """Looks a capability up."""

    def __init__(self, lm: LM) -> None:
        self._lm = lm

    async def forward(self, ability: str) -> bool:
        return bool(getattr(current_scope.get().capabilities(self._lm), ability))


def _text(result: LMResult) -> str:
    completions = result.response.completions
    return completions[0].text.strip() if completions else ""


async def _enforces_schema(app: AppView, lm: LM) -> bool:
    """Ask for what the schema does not allow."""
    text = _text(await app.run(_Say(lm, output=_SCHEMA), _POEM))
    try:
        found = json.loads(text)
    except ValueError:
        return False
    return (
        isinstance(found, dict)
        and found.keys() == {"harbour", "depth"}
        and found["harbour"] in ("Oslo", "Porto")
        and type(found["depth"]) is int
    )


async def _enforces_choices(app: AppView, lm: LM) -> bool | None:
    """Ask for what is not one of the choices; None where the server is not known to take any."""
    if not await app.run(_Able(lm), "choices"):
        return None
    return _text(await app.run(_Say(lm, output=_CITY), _POEM)) in _CITY.texts


async def _enforces_grammar(app: AppView, lm: LM) -> bool | None:
    if not await app.run(_Able(lm), "grammar"):
        return None
    return re.fullmatch(r"\d{3}-\d{2}", _text(await app.run(_Say(lm, output=_CODE), _POEM))) is not None


async def _keeps_seed(app: AppView, lm: LM) -> bool | None:
    """Draw three words, two of them with one seed; None where all are equal: nothing is drawn at all."""
    seven, eight = (LMParams(max_tokens=24, temperature=1.5, seed=seed) for seed in (7, 8))
    first, again, other = [_text(await app.run(_Say(lm, each), _DRAW)) for each in (seven, seven, eight)]
    return None if first == again == other else first == again


async def _keeps_prefix(app: AppView, lm: LM) -> bool:
    params = LMParams(max_tokens=4, temperature=0.0)
    await app.run(_Say(lm, params), f"{_LONG}\n\nHow many words are there?")
    again = await app.run(_Say(lm, params), f"{_LONG}\n\nWhich word is it?")
    return again.response.usage.cached_tokens > 0


async def _tokens_at_once(app: AppView, lm: LM) -> float | None:
    texts = (f"{_POEM} Its title is {number}." for number in range(_AT_ONCE))
    results = await asyncio.gather(*(app.run(_Say(lm), each) for each in texts))
    seconds = max(each.duration for each in results)
    return sum(each.response.usage.output_tokens for each in results) / seconds if seconds > 0 else None


async def _reads(app: AppView, lm: LM, name: AdapterName) -> float:
    """Return the share of answers that are read at the first turn in this form; an error of the model is none."""
    signature = Signature.from_string("sentence -> language, words: int, is_question: bool")
    ask = Predict(signature, lm=lm, adapter=name, max_tokens=160, temperature=0.0, repair_turns=0)
    read = 0
    for sentence in _SENTENCES:
        try:
            read += len(details(await app.run(ask, sentence=sentence)).results) == 1
        except ResponseUnparsable:
            continue
        except DspexError:
            break
    return read / len(_SENTENCES)
