"""The model that answers: the simulator in a process of its own, or a real model that has answered once already."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from dspex.app._app import App
from dspex.app.demo.options import DemoOptions
from dspex.errors import ConfigError, ResponseUnparsable
from dspex.programs import Predict
from dspex.protocols.model import LM
from dspex.protocols.money import Price
from dspex.services.lm.limits import ClientLimits
from dspex.services.lm.retry import RetryPolicy
from dspex.services.lm.transport import Timeouts
from dspex.simulator import FaultPlan, Latency, SimulatorProcess, SimulatorStartFailed

__all__ = [
    "INVENTED",
    "PATIENCE_REAL",
    "PATIENCE_SIMULATED",
    "PRICES",
    "DemoProvider",
    "check_model",
    "check_port",
    "open_provider",
]

PATIENCE_SIMULATED: Final = Timeouts(connect=2.0, read=3.0)
"""The simulator answers within two seconds or hangs for good: three of silence mean that it hangs."""

PATIENCE_REAL: Final = Timeouts(connect=5.0, read=60.0)

_HOST: Final = "127.0.0.1"
_FIRST_CALL: Final = 30.0


def stormy(seed: int) -> FaultPlan:
    """Answer within a second or so, and fail one call in five."""
    return FaultPlan(
        seed=seed,
        latency=Latency(median=1.1, p95=1.9),
        rate_429=0.05,
        retry_after=0.2,
        rate_500=0.06,
        rate_reset=0.04,
        rate_truncate=0.04,
        rate_hang=0.01,
    )


PRICES: Final = {"openai/rules-1": Price(1, 5)}
"""The prices of the simulated model, which are invented: nobody is paid."""

INVENTED: Final = (
    "The model is simulated and its prices are invented: $1 for a million tokens in, $5 for a million out. "
    "Nobody is paid."
)

CALM: Final = FaultPlan(latency=Latency(median=0.01))
"""Answer at once, and never fail."""


class DemoProvider:
    """
    The model of the demo.

    Attributes:
        lm: Its record.
        simulator: The process behind it; None for a real model.
    """

    def __init__(self, lm: LM, simulator: SimulatorProcess | None) -> None:
        self.lm = lm
        self.simulator = simulator

    async def calm(self) -> None:
        """Have the simulator fail no more."""
        if self.simulator is not None:
            await self.simulator.set_faults(CALM)

    async def met(self) -> str:
        """Tell what the simulator did to the requests, by its own count; nothing of a real model."""
        if self.simulator is None:
            return ""
        counts = dict((await self.simulator.stats()).requests)
        told = ("429", "500", "reset", "truncate", "hang")
        return ", ".join(f"{counts[kind]}x {kind}" for kind in told if counts.get(kind))


def real_model(options: DemoOptions) -> LM:
    """
    Return the record that the flags name.

    Raises:
        ConfigError: The name is not ``provider/model``.
    """
    assert options.lm is not None
    try:
        return LM(options.lm, api_base=options.api_base)
    except ValueError as error:
        raise ConfigError(f"--lm: {error}") from error


async def check_model(options: DemoOptions) -> None:
    """
    Ask a real model one question, once, so that a wrong key or address is known before anything else is done.

    Raises:
        ConfigError: The provider is unknown or the address is none.
        LMError, DeadlineExceeded: The model does not answer.
    """
    limits = ClientLimits(retry=RetryPolicy(max_attempts=1))
    patience = Timeouts(connect=PATIENCE_REAL.connect, read=_FIRST_CALL)
    app = App(real_model(options), cache=None, limits=limits, timeouts=patience, deadline=_FIRST_CALL)
    try:
        async with app:
            await app.run(Predict("question -> answer", repair_turns=0), question="Which language is this for?")
    except ResponseUnparsable:
        pass  # it answers: how well is what the demo finds out


def check_port(port: int) -> None:
    """
    See whether the simulator can have its port.

    Raises:
        ConfigError: It is taken, or not for this user.
    """
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((_HOST, port))
    except OSError as error:
        raise ConfigError(f"--port {port}: the simulator cannot listen there: {error.strerror}") from error


@asynccontextmanager
async def open_provider(options: DemoOptions) -> AsyncIterator[DemoProvider]:
    """
    Have a model to ask: starts the simulator where no real one is named.

    Raises:
        ConfigError: The simulator cannot start.
    """
    if not options.simulated:
        yield DemoProvider(real_model(options), None)
        return
    simulator = SimulatorProcess(host=_HOST, port=options.port, faults=stormy(options.seed))
    try:
        await simulator.__aenter__()
    except SimulatorStartFailed as error:
        raise ConfigError(str(error)) from error
    try:
        yield DemoProvider(LM("openai/rules-1", api_base=simulator.url, api_key="none"), simulator)
    finally:
        await simulator.__aexit__(None, None, None)
