"""The predictor: one signature put to one model, its answer parsed, repaired where possible, and recorded."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Generic, Self, Unpack, cast, overload

from typing_extensions import ParamSpec, TypeVar

from dspex.errors import MissingInput, NotInRequest, SignatureError
from dspex.programs._compile import Plan
from dspex.programs._paths import clone
from dspex.programs._predict_call import PredictCall
from dspex.programs._quotes import quoting_outputs, without_places
from dspex.programs.adapters._adapter import Adapter
from dspex.programs.adapters._choose import DEFAULT_ADAPTER, AdapterChoice, choose_adapter
from dspex.programs.details import Details, tell_call
from dspex.programs.fields import AnyRecord
from dspex.programs.inputs import InputSpec
from dspex.programs.module import Demo, Module
from dspex.programs.prediction import Prediction
from dspex.programs.signature import Signature, build, plan_of, signature_of, values_of
from dspex.protocols.lm import Message
from dspex.protocols.model import LM, LMChoice, LMParams, LMPool
from dspex.protocols.params import PredictorConfig
from dspex.protocols.scope import Scope, current_scope

__all__ = ["Predict"]

S = TypeVar("S", default=Any)
"""The return type of a predictor; ``Predict`` alone is any predictor."""
P = ParamSpec("P", default=...)

_ARGUMENTS = ("adapter", "demos", "lm", "repair_turns")


class Predict(Module, Generic[S, P]):
    """
    Ask a model for a signature's outputs: ``answer = await self.answer(question=question)``.

    Args:
        signature: A Signature class, or a string such as ``"question -> answer: bool"``.
        lm: A record, a name of the App's, or None for the App's default.
        demos: Demonstrations: field values by name.
        adapter: The adapter: ``auto``, ``chat``, ``json``, ``xml``, ``tool``, or an Adapter such as
            ``JSONAdapter()``; None for the App's, which is ``auto`` if nothing is said.
        config: Sampling parameters (``temperature=0.7``; the provider's own in ``extra_body={…}``), and
            ``repair_turns``: how often the model may be shown its own unreadable answer and asked again (default 1).
            With 0 the first answer is the last word: the adapter's fallback is not tried either.

    Raises:
        SignatureError: The string is not a signature, or there is nothing to ask for.
        ValueError: There is no such adapter, ``repair_turns`` is not a count, or a parameter cannot be what its name
            says.
        TypeError: A demonstration is not a mapping, or ``lm`` is not a model.
    """

    is_predictor: ClassVar[bool] = True

    signature: type[Signature]
    """The instructions for the model; optimizers exchange them."""
    demos: tuple[Demo, ...]
    lm: LMChoice
    adapter: Adapter | None
    """The adapter; None for the App's."""
    params: LMParams
    repair_turns: int
    _declared: type[object]
    _prefix: tuple[Message, ...]
    _other_prefix: tuple[Adapter, type[Signature], tuple[Message, ...]] | None
    _lineage: tuple[weakref.ref[Predict], ...]

    @overload
    def __init__(
        self: Predict[Prediction, ...],
        signature: str,
        *,
        lm: LMChoice = None,
        demos: Sequence[Demo] = (),
        adapter: AdapterChoice = None,
        **config: Unpack[PredictorConfig],
    ) -> None: ...

    @overload
    def __init__(
        self,
        signature: Callable[P, S],
        *,
        lm: LMChoice = None,
        demos: Sequence[Demo] = (),
        adapter: AdapterChoice = None,
        **config: Unpack[PredictorConfig],
    ) -> None: ...

    def __init__(
        self,
        signature: object,
        *,
        lm: LMChoice = None,
        demos: Sequence[Demo] = (),
        adapter: AdapterChoice = None,
        **config: Unpack[PredictorConfig],
    ) -> None:
        self.lm = _a_model(lm)
        self.params, self.repair_turns = _configured(LMParams(), 1, config)
        self._lineage = ()
        self._other_prefix = None
        self.signature = _checked(signature_of(signature))
        self._declared = self.signature
        self.demos = _shown(demos)
        self.adapter = choose_adapter(adapter)
        self._prefix = (self.adapter or DEFAULT_ADAPTER).prefix(self.signature, self.demos)

    # --- changed copies ---------------------------------------------------------------------------------------

    def with_lm(self, lm: LMChoice) -> Self:
        """Return a predictor that asks ``lm``: a record, a name of the App's, or None for its default."""
        return self._changed(lm=_a_model(lm))

    def with_demos(self, demos: Sequence[Demo] | Mapping[str, Sequence[Demo]]) -> Self:
        """Return a predictor that shows these demonstrations and no others."""
        if isinstance(demos, Mapping):
            if demos.keys() - {"self"}:
                raise LookupError(f"a predictor has only the path 'self', not {', '.join(demos)}")
            demos = demos.get("self", self.demos)
        shown = _shown(demos)
        prefix = (self.adapter or DEFAULT_ADAPTER).prefix(self.signature, shown)
        return self._changed(demos=shown, _prefix=prefix)

    def with_adapter(self, adapter: AdapterChoice) -> Self:
        """
        Return a predictor that puts its signature to the model in another format.

        Raises:
            ValueError: There is no such adapter.
        """
        chosen = choose_adapter(adapter)
        prefix = (chosen or DEFAULT_ADAPTER).prefix(self.signature, self.demos)
        return self._changed(adapter=chosen, _prefix=prefix)

    def with_config(self, **config: Unpack[PredictorConfig]) -> Self:
        """Return a predictor that samples with these parameters (``temperature=0.7``, ``n=3``, ``repair_turns=0``)."""
        params, repair_turns = _configured(self.params, self.repair_turns, config)
        return self._changed(params=params, repair_turns=repair_turns)

    def with_signature(self, signature: type[Signature]) -> Self:
        """
        Return a predictor that asks for ``signature`` and still returns records of its own class.

        Outputs that the class does not declare are kept in ``details(prediction).extras``.

        Raises:
            SignatureError: Inputs or outputs of the class are missing from ``signature``.
        """
        wanted, offered = plan_of(self._declared), plan_of(signature)
        for name, field in wanted.fields.items():
            if name not in offered.fields or offered.fields[name].role != field.role:
                raise SignatureError(f"{offered.name} lacks the {field.role} {name!r} of {wanted.name}")
        prefix = (self.adapter or DEFAULT_ADAPTER).prefix(signature, self.demos)
        return self._changed(signature=signature, _prefix=prefix)

    def with_instructions(self, instructions: str) -> Self:
        """Return a predictor that asks for the same fields in other words."""
        return self.with_signature(self.signature.with_instructions(instructions))

    def _changed(self, **attributes: object) -> Self:
        """Clone with changes, and remember from whom: traces find the path of a predictor made inside ``forward``."""
        alive = [each for each in self._lineage if each() is not None]
        lineage = (weakref.ref(self), *alive)
        return clone(self, {**vars(self), **attributes, "_lineage": lineage, "_other_prefix": None})

    @property
    def _origin(self) -> Predict | None:
        """The nearest living predictor that this one was made from."""
        return next((found for each in self._lineage if (found := each()) is not None), None)

    def input_spec(self) -> InputSpec:
        """Return the inputs that ``forward`` takes, as ``Module.input_spec``."""
        return self.signature._plan_.input_spec

    def __repr__(self) -> str:
        return f"Predict({self.signature.__name__}, lm={self.lm!r}, {len(self.demos)} demos)"

    # --- asking -----------------------------------------------------------------------------------------------

    async def forward(self, *args: P.args, **kwargs: P.kwargs) -> S:
        """
        Ask the model and return its answer as a record, with ``details`` attached.

        Raises:
            MissingInput: Inputs are missing, unknown or of another type; nothing was sent.
            ResponseUnparsable: The answer gives no outputs, after all repair turns and the adapter's fallback.
            StreamInterrupted: The answer broke off, or cannot be read, after a piece of it was handed to a stream.
            LMError: The provider's last word.
        Cancellation: the running call is cancelled and its socket closed.
        """
        scope = current_scope.get(None)
        plan = self.signature._plan_
        if scope is None:
            raise NotInRequest(f"Predict({plan.name})")
        if args:
            raise MissingInput(plan.name, unexpected=[f"{len(args)} by position: give inputs by name"])
        path = scope.path_of(self) or plan.name
        telemetry = scope.telemetry
        if telemetry is None or not telemetry.active:
            return await self._answer(scope, plan, path, kwargs)
        about = {"predictor": path, "signature": plan.name}
        with telemetry.within("dspex.predictor", about, kwargs) as span:
            found = await self._answer(scope, plan, path, kwargs)
            made: Details = found._details_  # type: ignore[attr-defined]  # the hidden slot of records
            tell_call(span, made)
            span.outputs = found
            return found

    async def _answer(self, scope: Scope, plan: Plan, path: str, given: Mapping[str, object]) -> S:
        inputs = plan.check_inputs(given, plan.name)
        adapter = self.adapter or scope.adapter or DEFAULT_ADAPTER
        asked = await PredictCall(self, adapter, scope, path, inputs).run()
        prediction: S = self._predict(inputs, asked, scope, path)
        scope.record(self, inputs, without_places(plan, asked.answers[0][1].outputs))
        return prediction

    def prefix_of(self, adapter: Adapter, signature: type[Signature]) -> tuple[Message, ...]:
        """Return what stands before the turns: made once for its own adapter and signature, and for the last other."""
        if signature is self.signature and adapter is (self.adapter or DEFAULT_ADAPTER):
            return self._prefix
        other = self._other_prefix
        if other is None or other[0] is not adapter or other[1] is not signature:
            other = adapter, signature, adapter.prefix(signature, self.demos)
            vars(self)["_other_prefix"] = other  # a memo, whoever shares the predictor
        return other[2]

    def _predict(self, inputs: Mapping[str, object], asked: PredictCall, scope: Scope, path: str) -> AnyRecord:
        """Make records of the declared class; what it does not declare goes to the details."""
        declared = self.signature._plan_.fields if self._declared is self.signature else plan_of(self._declared).fields
        own_inputs = inputs
        if not inputs.keys() <= declared.keys():
            own_inputs = {name: value for name, value in inputs.items() if name in declared}
        results, repairs, turns = tuple(asked.results), tuple(asked.repairs), tuple(asked.told_turns)
        prompts = tuple(asked.prompts) if len(asked.prompts) > 1 else ()
        records: list[AnyRecord] = []
        for completion, (outputs, *_) in asked.answers:
            own, extras = outputs, {}
            if not outputs.keys() <= declared.keys():
                own = {name: value for name, value in outputs.items() if name in declared}
                extras = {name: value for name, value in outputs.items() if name not in declared}
            tools = asked.request.tools
            found = Details(
                path, asked.messages, results, repairs, (), extras, completion, tools, scope, None, prompts, turns
            )
            records.append(build(self._declared, {**own_inputs, **own}, found))
        if len(records) > 1:
            first: Details = records[0]._details_
            every = (build(self._declared, values_of(records[0]), first), *records[1:])
            records[0]._details_ = replace(first, completions=every)
        return records[0]


def _checked(signature: object) -> type[Signature]:
    plan = plan_of(signature)
    if not plan.outputs:
        raise SignatureError(f"{plan.name} has no outputs: there is nothing to ask for")
    quoting_outputs(plan)
    return cast("type[Signature]", signature)


def _a_model(lm: LMChoice) -> LMChoice:
    if lm is None or isinstance(lm, (str, LM, LMPool)):
        return lm
    raise TypeError(f"lm={lm!r:.60}: expected a name, an LM or an LMPool")


def _shown(demos: Sequence[Demo]) -> tuple[Demo, ...]:
    shown = tuple(demos)
    for number, each in enumerate(shown):
        if not isinstance(each, Mapping):
            raise TypeError(f"demos[{number}] is {each!r:.60}: a demonstration is field values by name")
    return shown


def _configured(params: LMParams, repair_turns: int, config: Mapping[str, object]) -> tuple[LMParams, int]:
    changes = dict(config)
    turns = changes.pop("repair_turns", repair_turns)
    if not isinstance(turns, int) or turns < 0:
        raise ValueError(f"repair_turns={turns!r}: expected how often to ask again, 0 or more")
    return (params.merged(changes, beside=_ARGUMENTS) if changes else params), turns
