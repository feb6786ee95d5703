"""The LM room's door: finds or starts the tree of a model, and runs attempts in the caller's own step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dspex.errors import (
    ActorExited,
    CallTimeout,
    ChildError,
    ConfigError,
    DeadlineExceeded,
    InternalError,
    LMError,
    NoSuchActor,
    TransportFailed,
)
from dspex.protocols.lm import LM, Attempt, AttemptLog, LMRequest, LMResponse, Secret
from dspex.runtime import (
    Backoff,
    ChildSpec,
    Runtime,
    Supervisor,
    SupervisorRef,
    current_process,
)
from dspex.services.lm.channel import Channel
from dspex.services.lm.client import Acquire, ClientLimits, LMClient, Settle
from dspex.services.lm.leases import Lease, LeaseTable
from dspex.services.lm.policy import Raise, RetryAfter
from dspex.services.lm.providers import Endpoint, resolve_endpoint
from dspex.services.lm.transport import Transport
from dspex.services.lm.transport_server import GetChannel, TransportServer

__all__ = ["LM_SUPERVISOR", "LMGateway"]

LM_SUPERVISOR = "lm"
"""The name under which the room's supervisor is registered."""


@dataclass(slots=True)
class _Account:
    """One (provider, endpoint, key): what its supervisor is built from, and the data that survives restarts."""

    id: str
    endpoint: Endpoint
    key: Secret | None
    table: LeaseTable = field(default_factory=LeaseTable)
    models: set[str] = field(default_factory=set)

    @property
    def transport_name(self) -> str:
        return f"{LM_SUPERVISOR}/{self.id}/transport"

    def client_name(self, model: str) -> str:
        return f"{LM_SUPERVISOR}/{self.id}/{model}"


class LMGateway:
    """
    Implements ``protocols.LMService`` over the supervised tree of the LM room.

    Args:
        lms: Model records by name; ``"default"`` answers for ``None``.
        keys: Reads the key of an environment variable's name (the App's configuration does).
        limits: For every model.
        open_transport: Makes a transport on a clock.

    Raises:
        ConfigError: A model names an unknown provider or a bad address.
    """

    def __init__(
        self,
        lms: Mapping[str, LM],
        *,
        keys: Callable[[str], Secret | None],
        limits: ClientLimits,
        open_transport: Callable[[Any], Transport],
    ) -> None:
        self._lms = dict(lms)
        self._keys = keys
        self._limits = limits
        self._open_transport = open_transport
        self._accounts: dict[tuple[str, str, str], _Account] = {}
        self._runtime: Runtime | None = None
        self._targets: dict[LM, tuple[_Account, str]] = {}
        for lm in self._lms.values():
            self._target(lm)

    # --- the tree -------------------------------------------------------------------------------------------

    def spec(self, runtime: Runtime) -> ChildSpec:
        """Return the child spec of the room's supervisor; a restart finds every model asked for so far."""
        self._runtime = runtime
        return ChildSpec(LM_SUPERVISOR, self._supervisor, kind="supervisor", name=LM_SUPERVISOR)

    def _supervisor(self) -> Supervisor:
        return Supervisor([self._account_spec(each) for each in self._accounts.values()], backoff=Backoff())

    def _account_spec(self, account: _Account) -> ChildSpec:
        name = f"{LM_SUPERVISOR}/{account.id}"
        return ChildSpec(account.id, self._account_supervisor, (account,), kind="supervisor", name=name)

    def _account_supervisor(self, account: _Account) -> Supervisor:
        arguments = (account.endpoint, account.key, account.table, self._open_transport)
        transport = ChildSpec("transport", TransportServer, arguments, name=account.transport_name)
        clients = [self._client_spec(account, model) for model in sorted(account.models)]
        return Supervisor([transport, *clients], backoff=Backoff())

    def _client_spec(self, account: _Account, model: str) -> ChildSpec:
        arguments = (model, account.table, self._limits)
        return ChildSpec(model, LMClient, arguments, name=account.client_name(model))

    # --- finding --------------------------------------------------------------------------------------------

    def resolve(self, lm: str | LM | None) -> LM:
        """
        Return the record for a name, a ``provider/model`` string, a record or the default.

        Raises:
            ConfigError: No model of that name is configured.
        """
        if isinstance(lm, LM):
            return lm
        found = self._lms.get("default" if lm is None else lm)
        if found is not None:
            return found
        if lm is not None and "/" in lm:
            return LM(lm)
        known = ", ".join(sorted(self._lms)) or "none"
        what = "a default language model" if lm is None else f"a language model named {lm!r}"
        raise ConfigError(f"the App has no {what} (configured: {known}); give App(lm='openai/…') or App(lms={{…}})")

    def _target(self, lm: LM) -> tuple[_Account, str]:
        """Return the account and model of a record, noting both for the tree."""
        known = self._targets.get(lm)
        if known is not None:
            return known
        endpoint = resolve_endpoint(lm)
        key = lm.api_key if lm.api_key is not None else self._keys(endpoint.key_env)
        fingerprint = key.fingerprint if key is not None else "no-key"
        index = (endpoint.provider, endpoint.base_url, fingerprint)
        account = self._accounts.get(index)
        if account is None:
            same = sum(each[0] == endpoint.provider for each in self._accounts)
            name = f"{endpoint.provider}-{fingerprint}" + (f"-{same + 1}" if same else "")
            account = self._accounts[index] = _Account(name, endpoint, key)
        account.models.add(lm.model_name)
        self._targets[lm] = (account, lm.model_name)
        return account, lm.model_name

    async def _ensure(self, account: _Account, model: str, runtime: Runtime) -> None:
        """Start the supervisor or client of a model that the App was not started with."""
        for parent, spec in (
            (LM_SUPERVISOR, self._account_spec(account)),
            (f"{LM_SUPERVISOR}/{account.id}", self._client_spec(account, model)),
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

    async def complete(self, lm: str | LM | None, request: LMRequest, log: AttemptLog, deadline: float) -> LMResponse:
        """Answer ``request`` as ``protocols.LMService.complete`` says."""
        runtime = self._runtime
        if runtime is None:
            raise InternalError("the LM room was used before it was started")
        if log.response is not None:
            return log.response
        record = self.resolve(lm)
        new = record not in self._targets
        account, model = self._target(record)
        if new:
            await self._ensure(account, model, runtime)
        call = _LogicalCall(runtime, account, model, log, deadline)
        return await call.run(account.endpoint.wire.encode(model, request))


class _LogicalCall:
    """The attempt loop of one call, in its step's own task: lease, send, settle, until there is an end."""

    __slots__ = ("account", "client", "deadline", "log", "model", "runtime")

    def __init__(self, runtime: Runtime, account: _Account, model: str, log: AttemptLog, deadline: float) -> None:
        self.runtime = runtime
        self.account = account
        self.model = model
        self.log = log
        self.deadline = deadline
        self.client = runtime.named(account.client_name(model))

    async def run(self, body: bytes) -> LMResponse:
        log = self.log
        if log.on_wire:
            self._note_lost_attempt()
        attempt = len(log.attempts)
        while True:
            attempt += 1
            lease = await self._ask(Acquire(_this_process(), attempt, self.deadline))
            if isinstance(lease, Lease):
                channel = await self._channel()
                started = self.runtime.clock.now()
                try:
                    response = await self._send(channel, body, attempt, started)
                except LMError as error:
                    verdict = await self._ask(Settle(lease.id, error, attempt, self.deadline))
                else:
                    self.client.cast(Settle(lease.id, None, attempt, self.deadline))
                    return response
            else:
                verdict = lease
            if isinstance(verdict, Raise):
                verdict.error.attempts = tuple(log.attempts)
                raise verdict.error
            assert isinstance(verdict, RetryAfter)
            why = log.attempts[-1].outcome if log.attempts else "CircuitOpen"
            self._emit("dspex.lm.retry", {"number": attempt, "delay": verdict.delay}, {"error": why})
            await self.runtime.sleep(verdict.delay)

    async def _ask(self, message: object) -> Any:
        """Call the client by name until somebody answers: nothing is lost when it dies with our question."""
        while True:
            left = self.deadline - self.runtime.clock.now()
            try:
                return await self.client.call(message, timeout=max(0.0, left))
            except (ActorExited, NoSuchActor):
                if left <= 0.0:
                    raise DeadlineExceeded(0.0) from None
            except CallTimeout as error:
                raise DeadlineExceeded(0.0) from error

    async def _channel(self) -> Channel:
        """Return the live channel, waiting for the transport's name while it is being restarted."""
        channel = self.account.table.channel
        while channel is None:
            left = max(0.0, self.deadline - self.runtime.clock.now())
            try:
                channel = await self.runtime.named(self.account.transport_name).call(GetChannel(), timeout=left)
            except (ActorExited, NoSuchActor):
                continue
        return channel

    async def _send(self, channel: Channel, body: bytes, attempt: int, started: float) -> LMResponse:
        """Make one attempt and write it down in the tick it ends."""
        log = self.log
        self._emit("dspex.lm.attempt.start", {"number": attempt}, {})
        log.sent += 1
        log.on_wire = True
        try:
            response = await channel.send(
                body, idempotency_key=log.idempotency_key, attempt=attempt, on_resend=self._note_resend
            )
        except LMError as error:
            log.on_wire = False
            self._note(Attempt(attempt, type(error).__name__, self._since(started), error.status, str(error)))
            raise
        except asyncio.CancelledError:
            process, task = current_process(), asyncio.current_task()
            if process is None or not process.alive or task is None:
                raise
            # Our process lives: it was the transport that died and ended the attempt. That is the network's failure.
            task.uncancel()
            log.on_wire = False
            failure = TransportFailed("the transport was restarted under this attempt")
            self._note(Attempt(attempt, "TransportFailed", self._since(started), None, str(failure)))
            raise failure from None
        log.on_wire = False
        log.response = response
        self._note(Attempt(attempt, "ok", self._since(started), 200))
        return response

    def _since(self, started: float) -> float:
        return self.runtime.clock.now() - started

    def _note(self, attempt: Attempt) -> None:
        self.log.attempts.append(attempt)
        if self.runtime.telemetry.active:
            measurements = {"duration": attempt.duration, "number": attempt.number}
            if attempt.outcome == "ok":
                self._emit("dspex.lm.attempt.stop", measurements, {"status": attempt.status})
            else:
                self._emit("dspex.lm.attempt.exception", measurements, {"error": attempt.outcome})

    def _note_resend(self) -> None:
        """Say that an attempt went out twice: its kept-alive connection was closed before a byte of the answer."""
        self.log.sent += 1
        self._emit("dspex.lm.resend", {"number": len(self.log.attempts) + 1}, {})

    def _note_lost_attempt(self) -> None:
        """Write down the attempt that a dead step left on the wire: it may have been charged."""
        log = self.log
        log.on_wire = False
        number = len(log.attempts) + 1
        log.attempts.append(Attempt(number, "killed", 0.0, None, "the step died while this attempt was on the wire"))
        self._emit("dspex.lm.unknown_charge", {"number": number}, {})

    def _emit(self, name: str, measurements: Mapping[str, float], metadata: Mapping[str, Any]) -> None:
        if self.runtime.telemetry.active:
            self.runtime.telemetry.emit(
                name, measurements, {"lm": self.client.name, "call": self.log.idempotency_key, **metadata}
            )


def _this_process() -> Any:
    process = current_process()
    if process is None:
        raise InternalError("an LM call was made outside a step")
    return process.ref
