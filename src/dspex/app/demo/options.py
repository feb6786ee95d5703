"""The options of the demo."""

from __future__ import annotations

from dataclasses import dataclass

from dspex.errors import ConfigError

__all__ = ["DemoOptions", "Sizes"]


@dataclass(frozen=True, slots=True)
class Sizes:
    """Numbers of questions: asked, learned from and scored on, and at the same time."""

    ask: int
    train: int
    dev: int
    at_once: int

    @property
    def questions(self) -> int:
        """All of them; the sets are disjoint."""
        return self.ask + self.train + self.dev


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """
    The flags of ``dspex demo``.

    Attributes:
        lm: ``provider/model``; None has the simulator answer.
        api_base: The server of ``lm``, where it is not the provider's own.
        questions: The number to ask; None asks 300 of the simulator and 40 of a real model.
        chaos: True when actors are killed; None kills them only where no real model is paid for the retries.
        seed: The same seed draws the same questions and gives the same scores.
        port: The simulator's port; 0 takes a free one.
        yes: True to go ahead without asking.
        watch: True to show it on a page as well.
    """

    lm: str | None = None
    api_base: str | None = None
    questions: int | None = None
    chaos: bool | None = None
    seed: int = 0
    port: int = 0
    yes: bool = False
    watch: bool = False

    def __post_init__(self) -> None:
        if self.questions is not None and self.questions < 1:
            raise ConfigError(f"--questions {self.questions}: at least 1 is needed")
        if not 0 <= self.port <= 65_535:
            raise ConfigError(f"--port {self.port}: a port is a number from 0 to 65535")
        if self.api_base is not None and self.lm is None:
            raise ConfigError("--api-base needs a model too: --lm openai/<model> --api-base http://…/v1")
        if self.port and self.lm is not None:
            raise ConfigError("--port is the simulator's, and --lm leaves the simulator out")

    @property
    def simulated(self) -> bool:
        """True when the simulator answers."""
        return self.lm is None

    @property
    def kills(self) -> bool:
        """True when actors are killed while they work."""
        return self.simulated if self.chaos is None else self.chaos

    @property
    def sizes(self) -> Sizes:
        """A real model is asked little: it costs money and takes its time."""
        if self.simulated:
            return Sizes(ask=self.questions or 300, train=60, dev=200, at_once=48)
        asked = self.questions or 40
        return Sizes(ask=asked, train=min(asked, 20), dev=asked, at_once=16)
