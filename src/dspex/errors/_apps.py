"""Errors in how an App was set up or used."""

from __future__ import annotations

from collections.abc import Sequence

from dspex.errors._base import DspexError

__all__ = [
    "AppAlreadyRunning",
    "AppError",
    "AppNotRunning",
    "ConfigError",
    "LeakedTasks",
    "MissingExtra",
    "WrongLoop",
    "WrongProcess",
]


class AppError(DspexError):
    """The App was configured or used wrongly."""


class ConfigError(AppError, ValueError):
    """An argument of the App, of the command line or of the environment is wrong; the message says what to give."""


class MissingExtra(AppError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, extra: str, needed_for: str) -> None:
        self.extra = extra
        super().__init__(f"{needed_for} needs an optional dependency: pip install 'dspex[{extra}]'")


class AppNotRunning(AppError, RuntimeError):
    """The App was used before it was started or after it was closed."""

    def __init__(self) -> None:
        super().__init__(
            "the App is not running: use it inside `async with app:` (or after `await app.start()`); "
            "in code that is not async inside `with app.sync() as app:` (or after `open()`)"
        )


class AppAlreadyRunning(AppError, RuntimeError):
    """The App was entered while it runs."""

    def __init__(self) -> None:
        super().__init__("the App is already running; one App can be entered once at a time")


class WrongLoop(AppError, RuntimeError):
    """The App, or an actor, was used from another event loop or thread than its own, or after its loop had ended."""

    def __init__(self) -> None:
        super().__init__(
            "this belongs to another event loop, or to one that has ended; from another thread use call_from_thread()"
        )


class WrongProcess(AppError, RuntimeError):
    """The App was started before this process was forked, and runs in the other one: a fork has none of its threads."""

    def __init__(self, started_in: int) -> None:
        self.started_in = started_in
        super().__init__(
            f"the App was started in process {started_in}, from which this one was forked: it does not run here; "
            f"start an App after the fork"
        )


class LeakedTasks(AppError):
    """Code swallowed its cancellation and outlived its process; it is fenced, and listed here with its stacks."""

    def __init__(self, stacks: Sequence[str]) -> None:
        self.stacks = tuple(stacks)
        super().__init__(f"{len(self.stacks)} task(s) ignored cancellation:\n" + "\n".join(self.stacks))
