"""The few things that whoever looks may do, with the token: cancel, restart, suspend, and steer a job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from dspex.errors import ConfigError
from dspex.requests import Request
from dspex.runtime import ActorRef, SupervisorRef, TaskSupervisorRef

if TYPE_CHECKING:
    from dspex.app._tree import AppTree

__all__ = ["DASHBOARD", "NotThere", "act"]

DASHBOARD: Final = "dashboard"
"""The name under which the page's own actor is registered."""

PATIENCE: Final = 2.0
"""Seconds that an actor has to take note of a suspension: it may be busy."""

HINT: Final = 2_000
"""Characters of a hint to a job."""


class NotThere(Exception):
    """The thing to act on has gone, or was never there."""


async def act(tree: AppTree, what: str, whom: str, how: str, more: Mapping[str, object]) -> None:
    """
    Do one thing.

    Args:
        tree: The running App.
        what: ``requests``, ``actors`` or ``jobs``.
        whom: A request's id, an actor's pid, or a job's id.
        how: ``cancel``; ``restart``, ``suspend``, ``resume``; ``pause``, ``resume``, ``cancel``, ``steer``.
        more: The arguments of ``steer``: ``hint`` and ``drop``.

    Raises:
        NotThere: It has gone.
        ConfigError: That cannot be done to it.
        CallTimeout, ActorExited: An actor was too busy to take note, or ended.
    """
    if what == "requests" and how == "cancel":
        live = tree.runner.live.get(whom)
        if live is None:
            raise NotThere(f"request {whom} has ended")
        Request(live).cancel()
    elif what == "actors" and how in ("restart", "suspend", "resume"):
        await _actor(tree, whom, how)
    elif what == "jobs":
        _job(tree, whom, how, more)
    else:
        raise ConfigError(f"nobody can {how} {what}")


async def _actor(tree: AppTree, pid: str, how: str) -> None:
    process = tree.runtime.processes.get(int(pid)) if pid.isdecimal() and len(pid) < 16 else None
    ref = process.ref if process is not None and process.alive else None
    if not isinstance(ref, ActorRef) or process is None:
        raise NotThere(f"there is no actor {pid[:16]}")
    if process.parent is None or ref.label == DASHBOARD:
        raise ConfigError("the App itself and its page are left alone")
    if how == "restart":
        ref.kill()  # as a crash would: its supervisor starts it again, and whoever waits for it is told
    elif isinstance(ref, (SupervisorRef, TaskSupervisorRef)):
        raise ConfigError(f"{ref.label} is a supervisor: while it is suspended, nothing below it would be restarted")
    elif how == "suspend":
        await ref.suspend(timeout=PATIENCE)
    else:
        await ref.resume(timeout=PATIENCE)


def _job(tree: AppTree, job_id: str, how: str, more: Mapping[str, object]) -> None:
    job = tree.job_service.handle(job_id)
    if job is None:
        raise NotThere(f"there is no job {job_id[:100]}")
    if how == "pause":
        job.pause()
    elif how == "resume":
        job.resume()
    elif how == "cancel":
        job.cancel()
    elif how == "steer":
        hint, drop = more.get("hint", ""), more.get("drop", "")
        if not isinstance(hint, str) or not isinstance(drop, str) or len(hint) > HINT or len(drop) > HINT:
            raise ConfigError(f"hint and drop are texts of up to {HINT} characters")
        job.steer(hint=hint, drop=drop)
    else:
        raise ConfigError(f"nobody can {how} jobs")
