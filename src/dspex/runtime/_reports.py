"""A supervisor's reports about its children to the log and telemetry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspex._guard import text_of
from dspex.errors import StartFailed
from dspex.runtime._log import get_logger
from dspex.runtime._sentences import nth, path_of, why

if TYPE_CHECKING:
    from dspex.runtime._children import Child
    from dspex.runtime._exit import ExitReason
    from dspex.runtime._process import Process
    from dspex.runtime._restart import RestartWindow

__all__ = ["report_giving_up", "report_restart", "report_start_failure"]

_log = get_logger("supervisor")


def report_restart(supervisor: Process, child: Child, reason: ExitReason, window: RestartWindow) -> None:
    """Say that a child has ended and is started again; ``window`` is what counts its restarts."""
    times = child.count_restart(supervisor.runtime.clock.now(), window.period)
    if _log.heard:
        _log.warning(
            "restarting",
            says="{path} restarting ({nth} time in {seconds} s): {why}",
            path=f"{path_of(supervisor)}/{child.id}",
            nth=nth(times),
            seconds=f"{window.period:g}",
            why=why(reason),
            supervisor=supervisor.label,
            child=child.id,
            reason=text_of(reason),
        )
    telemetry = supervisor.runtime.telemetry
    if telemetry.active:
        metadata = {"supervisor": supervisor.label, "child": child.id, "reason": reason}
        telemetry.emit("dspex.child.restart", {"restarts": child.restarts}, metadata)
    for tell in tuple(supervisor.runtime.restart_watchers):
        tell(f"{path_of(supervisor)}/{child.id}")


def report_start_failure(supervisor: Process, child: Child, failure: object) -> None:
    """Say that a start, of which nobody else is told, has failed."""
    failures = child.backoff.failures if child.backoff is not None else 1
    _log.error(
        "start failed",
        says="{path} failed to start ({nth} time running): {why}",
        path=f"{path_of(supervisor)}/{child.id}",
        nth=nth(failures),
        why=why(failure.reason if type(failure) is StartFailed else failure),
        supervisor=supervisor.label,
        child=child.id,
        reason=text_of(failure),
    )
    telemetry = supervisor.runtime.telemetry
    if telemetry.active:
        metadata = {"supervisor": supervisor.label, "child": child.id, "reason": failure}
        telemetry.emit("dspex.child.start_failed", {"failures": failures}, metadata)


def report_giving_up(supervisor: Process, child: Child, window: RestartWindow) -> None:
    """Say that ``child`` has ended once too often."""
    if _log.heard:
        _log.error(
            "too many restarts: supervisor gives up",
            says="{path} gives up: more than {allowed} restarts in {seconds} s, the last of {child}: {why}",
            path=path_of(supervisor),
            allowed=window.intensity,
            seconds=f"{window.period:g}",
            why=why(child.last_exit),
            supervisor=supervisor.label,
            child=child.id,
        )
    telemetry = supervisor.runtime.telemetry
    if telemetry.active:
        metadata = {"supervisor": supervisor.label, "child": child.id}
        telemetry.emit("dspex.supervisor.gave_up", {"restarts": child.restarts}, metadata)
