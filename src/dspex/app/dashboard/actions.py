"""The few things that whoever looks may do, with the token: cancel, restart, suspend, and steer a job."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, TypeVar

from dspex.errors import ConfigError
from dspex.indexing import IndexJob
from dspex.optimizers.steering import steer_from
from dspex.requests import Request
from dspex.runtime import ActorRef, SupervisorRef, TaskSupervisorRef, WorkerThread

if TYPE_CHECKING:
    from dspex.app._tree import AppTree

__all__ = ["DASHBOARD", "NotThere", "act", "in_a_thread"]

R = TypeVar("R")

DASHBOARD: Final = "dashboard"
"""The name under which the page's own actor is registered."""

PATIENCE: Final = 2.0
"""Seconds that an actor has to take note of a suspension: it may be busy."""


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
        more: The arguments of ``steer``: ``hint``, ``drop`` and ``add``.

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
        await _job(tree, whom, how, more)
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


async def _job(tree: AppTree, job_id: str, how: str, more: Mapping[str, object]) -> None:
    job = tree.job_service.handle(job_id) or tree.index_service.handle(job_id)
    if job is None:
        raise NotThere(f"there is no job {job_id[:100]}")
    if how == "pause":
        job.pause()
    elif how == "resume":
        job.resume()
    elif how == "cancel":
        job.cancel()
    elif how == "steer":
        if isinstance(job, IndexJob):
            raise ConfigError(f"job {job_id} makes an index: nothing in it can be steered")
        if job.status in ("finished", "failed", "cancelled"):
            raise ConfigError(f"job {job_id} is {job.status}: nothing in it can be steered")
        said = await in_a_thread(steer_from, more, tree.job_service.table.jobs[job_id].spec.path)
        job.steer(hint=said.hint, add=said.add, drop=said.drop)
    else:
        raise ConfigError(f"nobody can {how} jobs")


async def in_a_thread(function: Callable[..., R], *arguments: object) -> R:
    """Call what reads a journal, in a thread; raises what it raises. Cancellation: its result is dropped."""
    worker = WorkerThread("dspex-dashboard")
    try:
        return await worker.run(function, *arguments)
    finally:
        await worker.aclose()
