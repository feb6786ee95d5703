"""What a supervisor tells the log and telemetry of its children."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspex.runtime._log import get_logger

if TYPE_CHECKING:
    from dspex.runtime._children import Child
    from dspex.runtime._exit import ExitReason
    from dspex.runtime._process import Process

__all__ = ["report_giving_up", "report_restart", "report_start_failure"]

_log = get_logger("supervisor")


def report_restart(supervisor: Process, child: Child, reason: ExitReason) -> None:
    """Say that a child has ended and is started again."""
    if _log.heard:
        _log.warning("restarting", supervisor=supervisor.label, child=child.id, reason=str(reason))
    telemetry = supervisor.runtime.telemetry
    if telemetry.active:
        metadata = {"supervisor": supervisor.label, "child": child.id, "reason": reason}
        telemetry.emit("dspex.child.restart", {"restarts": child.restarts}, metadata)


def report_start_failure(supervisor: Process, child: Child, failure: object) -> None:
    """Say that a start, of which nobody else is told, has failed."""
    _log.error("start failed", supervisor=supervisor.label, child=child.id, reason=str(failure))
    telemetry = supervisor.runtime.telemetry
    if telemetry.active:
        failures = child.backoff.failures if child.backoff is not None else 1
        metadata = {"supervisor": supervisor.label, "child": child.id, "reason": failure}
        telemetry.emit("dspex.child.start_failed", {"failures": failures}, metadata)


def report_giving_up(supervisor: Process, child: Child) -> None:
    """Say that ``child`` has ended once too often."""
    _log.error("too many restarts: supervisor gives up", supervisor=supervisor.label, child=child.id)
    telemetry = supervisor.runtime.telemetry
    if telemetry.active:
        metadata = {"supervisor": supervisor.label, "child": child.id}
        telemetry.emit("dspex.supervisor.gave_up", {"restarts": child.restarts}, metadata)
