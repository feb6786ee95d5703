"""Kills one actor after the other, as a crash would."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle

from dspex.app._app import App

__all__ = ["kill_in_turn", "targets"]


def targets(app: App) -> list[str]:
    """Return the names of the cache's, the retrievers' and the model clients' actors, whichever this App has."""
    names = []
    for room in app.tree().children:
        if room.label == "cache":
            names.append(room.label)
        elif room.label == "retrievers":
            names += [f"{room.label}/{client.label}" for client in room.children if client.label == "default"]
        elif room.label == "lm":
            names += [
                f"{room.label}/{account.label}/{client.label}"
                for account in room.children
                for client in account.children
                if client.label != "transport"
            ]
    return names


async def kill_in_turn(app: App, every: float, killed: Callable[[str], object]) -> None:
    """
    Kill one of the targets every few seconds, until cancelled.

    Args:
        app: The App whose actors die.
        every: Seconds between two kills.
        killed: Told the name before each kill.
    """
    runtime = app.running_tree().runtime
    for name in cycle(targets(app)):
        await runtime.sleep(every)
        ref = runtime.whereis(name)
        if ref is not None:
            killed(name)
            ref.kill()
