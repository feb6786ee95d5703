"""The LM room's door: finds or starts the tree of a model, and runs attempts in the caller's own step."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial

from dspex._clock import Clock
from dspex.errors import (
    ActorExited,
    ChildError,
    ConfigError,
    InternalError,
    NoSuchActor,
    RequestRejected,
)
from dspex.protocols.forms import FormMemory
from dspex.protocols.lm import Attempt, AttemptLog, Capabilities, EmbedRequest, EmbedResponse, LMRequest, LMResponse
from dspex.protocols.local import LocalLM
from dspex.protocols.model import LM, LMChoice, LMPool, Secret
from dspex.protocols.scope import OnDelta
from dspex.protocols.wire import Provider
from dspex.runtime import (
    Backoff,
    ChildSpec,
    Runtime,
    Supervisor,
    SupervisorRef,
)
from dspex.services.lm.client import LMClient
from dspex.services.lm.estimate import BYTES_PER_TOKEN, TokenEstimate, estimate
from dspex.services.lm.keyed_endpoint import EMBEDDING, LM_SUPERVISOR, KeyedEndpoint
from dspex.services.lm.lease_book import BookFacts
from dspex.services.lm.limits import LimitsBook
from dspex.services.lm.local_call import LocalCall
from dspex.services.lm.logical_call import LogicalCall
from dspex.services.lm.pool_call import PoolCall, PoolState
from dspex.services.lm.pool_policy import order_of
from dspex.services.lm.providers import PROVIDERS, resolve_endpoint
from dspex.services.lm.refused_forms import RefusedForms
from dspex.services.lm.side_by_side import ask_each, gather, parts_of, side_by_side
from dspex.services.lm.slices import ModelShare
from dspex.services.lm.transport import Transport
from dspex.services.lm.transport_server import TransportServer
from dspex.services.lm.wires.embeddings import join, split
from dspex.services.shared.cells import Cells

__all__ = ["LMGateway", "refuse_local"]

TELL_NO_LIMITS = frozenset({"llamacpp", "lmstudio", "ollama", "vllm"})
"""Servers of one's own: they answer slower rather than with 429, so how much they can take is read from latencies."""


class LMGateway:
    """
    Implements ``protocols.LMService`` over the supervised tree of the LM room.

    Args:
        lms: Model records by name; ``"default"`` answers for ``None``.
        keys: Reads the key of an environment variable's name (the App's configuration does).
        limits: Which hold for which model.
        open_transport: Makes a transport on a clock.
        providers: Those that models may name.
        cells: The store in which the limits are of all processes together; None where they are this process's own.
        holder: The name of this process there, which no other has, ever.

    Raises:
        ConfigError: A model names an unknown provider or a bad address.
    """

    def __init__(
        self,
        lms: Mapping[str, LM | LMPool],
        *,
        keys: Callable[[str], Secret | None],
        limits: LimitsBook,
        open_transport: Callable[[Clock], Transport],
        providers: Mapping[str, Provider] = PROVIDERS,
        cells: Cells | None = None,
        holder: str = "",
    ) -> None:
        self._cells = cells
        self._holder = holder
        self._lms = dict(lms)
        self._providers = providers
        self._keys = keys
        self._limits = limits
        self._open_transport = open_transport
        self._endpoints: dict[tuple[str, str, str, frozenset[tuple[str, Secret]]], KeyedEndpoint] = {}
        self._refused_forms = RefusedForms()
        self._known_abilities: dict[LM, Capabilities] = {}
        """The capabilities of each record by its wire, without what its server refused."""
        self._runtime: Runtime | None = None
        self._targets: dict[LM, tuple[KeyedEndpoint, str]] = {}
        self._in_tree: set[LM] = set()
        """Records whose client was started: others may be known already, by their capabilities alone."""
        self._embedding: set[LM] = set()
        """Records whose client for embeddings was started."""
        self._pools: dict[LMPool, PoolState] = {}
        for lm in self._lms.values():
            for member in self.members(lm):
                if isinstance(lm, LMPool):
                    refuse_local(member)
                if not isinstance(member, LocalLM):
                    self._target(member)
                    self._in_tree.add(member)

    # --- the tree -------------------------------------------------------------------------------------------

    def spec(self, runtime: Runtime) -> ChildSpec:
        """Return the child spec of the room's supervisor; a restart finds every model asked for so far."""
        self._runtime = runtime
        return ChildSpec(LM_SUPERVISOR, self._supervisor, kind="supervisor", name=LM_SUPERVISOR)

    def _supervisor(self) -> Supervisor:
        return Supervisor([self._keyed_spec(each) for each in self._endpoints.values()], backoff=Backoff())

    def _keyed_spec(self, keyed: KeyedEndpoint) -> ChildSpec:
        name = f"{LM_SUPERVISOR}/{keyed.id}"
        return ChildSpec(keyed.id, self._keyed_supervisor, (keyed,), kind="supervisor", name=name)

    def _keyed_supervisor(self, keyed: KeyedEndpoint) -> Supervisor:
        arguments = (keyed.endpoint, keyed.key, keyed.table, self._open_transport)
        transport = ChildSpec("transport", TransportServer, arguments, name=keyed.transport_name)
        clients = [self._client_spec(keyed, model) for model in sorted(keyed.models)]
        return Supervisor([transport, *clients], backoff=Backoff())

    def _client_spec(self, keyed: KeyedEndpoint, model: str) -> ChildSpec:
        provider = keyed.endpoint.provider
        limits = self._limits.of(provider, model.removesuffix(EMBEDDING))
        follow = limits.follow_latency if limits.follow_latency is not None else provider in TELL_NO_LIMITS
        if self._cells is not None and model not in keyed.table.shares:
            cell = f"limits/{limits.share}" if limits.share is not None else keyed.cell_name(model)
            keyed.table.shares[model] = ModelShare(cell, f"{self._holder}/{keyed.id}/{model}")
        arguments = (model, keyed.table, limits, follow, self._cells)
        return ChildSpec(model, LMClient, arguments, name=keyed.client_name(model))

    def facts(self, now: float) -> list[tuple[str, str, BookFacts | None]]:
        """Return for each client its name, ``provider/model`` and its state; None while it is being restarted."""
        return [
            (f"{keyed.id}/{model}", f"{keyed.endpoint.provider}/{model}", book.facts(now) if book is not None else None)
            for keyed in self._endpoints.values()
            for model in sorted(keyed.models | set(keyed.table.books))
            for book in (keyed.table.books.get(model),)
        ]

    # --- finding --------------------------------------------------------------------------------------------

    def resolve(self, lm: LMChoice) -> LM | LMPool:
        """
        Return the record for a name, a ``provider/model`` string, a record or the default.

        Raises:
            ConfigError: No model of that name is configured.
        """
        if isinstance(lm, (LM, LMPool)):
            return lm
        found = self._lms.get("default" if lm is None else lm)
        if found is not None:
            return found
        if lm is not None and "/" in lm:
            return LM(lm)
        known = ", ".join(sorted(self._lms)) or "none"
        what = "default language model" if lm is None else f"language model named {lm!r}"
        raise ConfigError(f"the App has no {what} (configured: {known}); give App(lm='openai/…') or App(lms={{…}})")

    def members(self, lm: LM | LMPool) -> list[LM]:
        """Return the records that may answer, the preferred one first; pools inside pools are unfolded."""
        if isinstance(lm, LM):
            return [lm]
        return [member for each in lm.members for member in self.members(self.resolve(each))]

    def forms(self, lm: LMChoice) -> FormMemory | None:
        """Return what the model showed about forms of answers; None for a pool, and for a model in this process."""
        model = self.resolve(lm)
        if isinstance(model, (LMPool, LocalLM)):
            return None
        keyed, name = self._target(model)
        known = keyed.table.forms.get(name)  # every call asks
        if known is None:
            known = keyed.table.forms[name] = FormMemory()
        return known

    def capabilities(self, lm: LMChoice) -> Capabilities:
        """Return what the model can do; for a pool, what all of its members can do."""
        model = self.resolve(lm)
        if isinstance(model, LM):  # every call asks
            return self._abilities(model)
        known = [self._abilities(member) for member in self.members(model)]
        common = {name: all(getattr(each, name) for each in known) for name in Capabilities.__dataclass_fields__}
        return Capabilities(**common)

    def effort(self, lm: LMChoice) -> str | None:
        """Return the effort of thinking that the record has; for a pool, what holds whoever answers."""
        model = self.resolve(lm)
        if isinstance(model, LM):  # every call asks
            return model.params.reasoning
        named = [member.params.reasoning for member in self.members(model)]
        return "none" if "none" in named else None if None in named else named[0]

    def _abilities(self, lm: LM) -> Capabilities:
        if isinstance(lm, LocalLM):
            return Capabilities(**lm.capabilities)
        known = self._known_abilities.get(lm)
        if known is None:  # a table is looked through once for each record: every call asks
            known = self._known_abilities[lm] = self._target(lm)[0].endpoint.wire.capabilities(lm)
        return self._refused_forms.able(lm, known) if self._refused_forms.size else known

    def endpoint_of(self, lm: LM) -> KeyedEndpoint:
        """Return where a model is asked and with which key; raises ``ConfigError`` as ``resolve_endpoint``."""
        return self._target(lm)[0]

    def _target(self, lm: LM) -> tuple[KeyedEndpoint, str]:
        """Return the keyed endpoint and the model of a record, noting both for the tree."""
        known = self._targets.get(lm)
        if known is not None:
            return known
        endpoint = resolve_endpoint(lm, self._providers, self._keys)
        kept = filter(None, map(self._keys, endpoint.key_env))
        key = lm.api_key if lm.api_key is not None else next(kept, None)
        fingerprint = key.fingerprint if key is not None else "no-key"
        index = (endpoint.provider, endpoint.base_url, fingerprint, frozenset(endpoint.headers.items()))
        keyed = self._endpoints.get(index)
        if keyed is None:
            same = sum(each[0] == endpoint.provider for each in self._endpoints)
            name = f"{endpoint.provider}-{fingerprint}" + (f"-{same + 1}" if same else "")
            keyed = self._endpoints[index] = KeyedEndpoint(name, endpoint, key)
        keyed.models.add(lm.model_name)
        self._targets[lm] = (keyed, lm.model_name)
        return keyed, lm.model_name

    async def _ensure(self, keyed: KeyedEndpoint, model: str, runtime: Runtime) -> None:
        """Start the supervisor or client of a model that the App was not started with."""
        for parent, spec in (
            (LM_SUPERVISOR, self._keyed_spec(keyed)),
            (f"{LM_SUPERVISOR}/{keyed.id}", self._client_spec(keyed, model)),
        ):
            ref = await runtime.wait_name(parent, 5.0)
            assert isinstance(ref, SupervisorRef)
            try:
                await ref.start_child(spec)
            except ChildError:
                continue  # it is there, or being restarted
            except (ActorExited, NoSuchActor):
                return  # its successor finds the model in our data

    # --- one logical call -----------------------------------------------------------------------------------

    async def complete(
        self,
        lm: LMChoice,
        request: LMRequest,
        log: AttemptLog,
        deadline: float,
        *,
        priority: int = 0,
        on_delta: OnDelta | None = None,
    ) -> LMResponse:
        """Answer ``request`` as ``protocols.LMService.complete`` says."""
        runtime = self._started()
        if log.response is not None:  # a predecessor of this step had it before it died
            if on_delta is not None:
                await log.tell_rest(on_delta)
            return log.response
        model = lm if isinstance(lm, (LM, LMPool)) else self.resolve(lm)
        if isinstance(model, LM) and not isinstance(model, LocalLM) and model not in self._in_tree:
            await self._at(model, runtime)
        if request.params.n > 1 and not self.capabilities(model).many:
            ask = partial(self._ask, model, deadline, priority, runtime)
            told = partial(log.tell, on_delta) if on_delta is not None else None
            response = await ask_each(runtime, ask, request, log, told)
        else:
            while True:
                known = self._refused_forms.size
                try:
                    response = await self._ask(model, deadline, priority, runtime, request, log, on_delta)
                    break
                except RequestRejected as error:
                    if log.delivered or not self._learns(model, request, error, known, runtime):
                        raise
        if response.withheld and runtime.telemetry.active:
            facts = {"lm": log.lm.model if log.lm is not None else "", "call": log.idempotency_key}
            runtime.telemetry.emit("dspex.lm.withheld", {"count": response.withheld}, facts)
        return response

    def _learns(
        self, model: LM | LMPool, request: LMRequest, error: RequestRejected, known: int, runtime: Runtime
    ) -> bool:
        """
        True when the same question in another form may be answered, because of what this refusal says.

        ``known`` is what had been learned when the question was sent: another call may have heard the same meanwhile.
        """
        asked = next((each.lm for each in reversed(error.attempts) if isinstance(each, Attempt)), "")
        lm = next((each for each in self.members(model) if each.model == asked), None)
        if lm is None or isinstance(lm, LocalLM):
            return False
        wire = self._target(lm)[0].endpoint.wire
        refused = self._refused_forms.learn(lm, wire, request, error)
        if refused is None:
            return error.parameter in ("response_format", "max_tokens") and self._refused_forms.size > known
        if runtime.telemetry.active:
            runtime.telemetry.emit("dspex.lm.weaker", {}, {"lm": lm.model, "refused": refused})
        return refused != "tools"

    def _ask(
        self,
        model: LM | LMPool,
        deadline: float,
        priority: int,
        runtime: Runtime,
        request: LMRequest,
        log: AttemptLog,
        on_delta: OnDelta | None,
    ) -> Awaitable[LMResponse]:
        """Return one logical call, ready to be awaited, at a model whose part of the tree is there, or at a pool."""
        if on_delta is not None:
            on_delta = partial(log.tell, on_delta)
        if isinstance(model, LM):
            log.lm = model
            if isinstance(model, LocalLM):
                retry = self._limits.of(model.provider, model.model_name).retry
                return LocalCall(runtime, model, request, log, deadline, retry, on_delta).run()
            return self._call(model, request, log, deadline, priority, runtime, on_delta).run()
        state = self._pools.get(model)
        if state is None:
            state = self._pools[model] = PoolState(model)
        members = order_of(model, self.resolve, runtime.random.random)

        async def call(member: LM) -> LogicalCall:
            refuse_local(member)
            params = request.params.over(member.params)
            asked = replace(request, params=params) if params is not request.params else request
            await self._at(member, runtime)
            return self._call(member, asked, log, deadline, priority, runtime, on_delta)

        return PoolCall(runtime, state, members, call, log, deadline).run()

    def _call(
        self,
        lm: LM,
        request: LMRequest,
        log: AttemptLog,
        deadline: float,
        priority: int,
        runtime: Runtime,
        on_delta: OnDelta | None,
    ) -> LogicalCall:
        """Return the attempts of a call at one model."""
        keyed, model = self._target(lm)
        wire = keyed.endpoint.wire
        if self._refused_forms.size:
            wire = self._refused_forms.wire(lm, wire)
            request = self._refused_forms.weaker(lm, wire, request)
        streams = on_delta is not None and wire.capabilities(lm).streaming
        body = wire.encode(model, request, stream=streams)
        expects = estimate(request, body)
        return LogicalCall(
            runtime,
            keyed,
            lm,
            model,
            log,
            deadline,
            body,
            expects,
            priority=priority,
            on_delta=on_delta,
            streams=streams,
        )

    async def _at(self, lm: LM, runtime: Runtime) -> KeyedEndpoint:
        """Return the keyed endpoint of a model, whose part of the tree is there."""
        keyed, model = self._target(lm)
        if lm not in self._in_tree:
            await self._ensure(keyed, model, runtime)
            self._in_tree.add(lm)  # only now: a call that is cancelled before leaves it to the next one
        return keyed

    async def embed(self, lm: LMChoice, request: EmbedRequest, log: AttemptLog, deadline: float) -> EmbedResponse:
        """
        Turn texts into vectors as ``protocols.LMService.embed`` says; a long list is cut into several calls.

        Raises:
            ConfigError: The model is a pool, or its provider makes no embeddings.
        """
        runtime = self._started()
        model = self.resolve(lm)
        if not isinstance(model, LM):
            raise ConfigError("vectors of different models cannot be compared: embed with one LM, not with a pool")
        if isinstance(model, LocalLM):
            raise ConfigError(f"{model!r} answers by itself and makes no vectors")
        endpoint = resolve_endpoint(model, self._providers, self._keys)
        endpoint.embed_url(model.model_name)  # says early that there is none
        wire = endpoint.embeddings
        assert wire is not None
        keyed = await self._at(model, runtime)
        if model not in self._embedding:
            keyed.models.add(keyed.embedder(model.model_name))
            await self._ensure(keyed, keyed.embedder(model.model_name), runtime)
            self._embedding.add(model)
        pieces = split(request, most_texts=wire.most_texts, most_bytes=wire.most_bytes)
        logs = await parts_of(log, len(pieces)) if len(pieces) > 1 else [log]
        calls, name = [], model.model_name
        for piece, each in zip(pieces, logs, strict=False):
            body = wire.encode(name, piece)
            expects = TokenEstimate(max(1, len(body) // BYTES_PER_TOKEN), 0)
            texts = len(piece.texts)
            calls.append(LogicalCall(runtime, keyed, model, name, each, deadline, body, expects, texts=texts))
        if len(calls) == 1:
            vectors: EmbedResponse = await calls[0].run()
            return vectors
        try:
            return join(await side_by_side(runtime, [call.run for call in calls]))
        finally:
            gather(log, logs)

    def _started(self) -> Runtime:
        if self._runtime is None:
            raise InternalError("the LM room was used before it was started")
        return self._runtime


def refuse_local(member: object) -> None:
    """Say that a pool is about endpoints: which of them is busy, paused or broken is not known of a local model."""
    if isinstance(member, LocalLM):
        raise ConfigError(f"{member!r} answers by itself and cannot be a pool's member; give it as lm= or in lms=")
