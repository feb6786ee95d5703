"""Structured reports that stay silent, and cost next to nothing, until the host application configures logging."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Final

from dspex._guard import contained
from dspex.runtime._sentences import SAYS, sentence

if TYPE_CHECKING:
    from structlog.stdlib import BoundLogger
    from structlog.typing import EventDict

__all__ = ["RoomLogger", "get_logger", "heard", "prepare"]

_RESERVED: Final = frozenset(vars(logging.makeLogRecord({}))) - {"exc_info", "stack_info"} | {"message", "asctime"}
"""The fields that every log record has: an extra field by one of these names would be an error."""


def heard(logger: logging.Logger) -> bool:
    """Say whether anybody but a NullHandler would get a record of ``logger``, whatever its level."""
    each: logging.Logger | None = logger
    while each is not None:
        if any(type(handler) is not logging.NullHandler for handler in each.handlers):
            return True
        each = each.parent if each.propagate else None
    return False


class RoomLogger:
    """
    A structured logger that makes no record which nobody would hear, and never raises.

    Reports are made where processes die, and a log handler is code of the application's: its failure goes to stderr,
    as ``logging.raiseExceptions`` says. structlog is loaded for the first report that somebody hears.
    """

    __slots__ = ("_logger", "_writer")

    def __init__(self, logger: logging.Logger, writer: BoundLogger | None = None) -> None:
        self._logger = logger
        self._writer = writer

    @property
    def heard(self) -> bool:
        """True when somebody listens: without listeners, facts that cost time to find out are not looked for."""
        return heard(self._logger)

    def bind(self, **fields: object) -> RoomLogger:
        """Return a logger whose records have these fields as well."""
        return RoomLogger(self._logger, self._structured().bind(**fields))

    def debug(self, event: str, *args: object, **fields: object) -> None:
        """Report what only somebody who looks for a fault wants to know."""
        self._report("debug", event, args, fields)

    def info(self, event: str, *args: object, **fields: object) -> None:
        """Report what happened in good order."""
        self._report("info", event, args, fields)

    def warning(self, event: str, *args: object, **fields: object) -> None:
        """Report what went wrong and was dealt with."""
        self._report("warning", event, args, fields)

    def error(self, event: str, *args: object, **fields: object) -> None:
        """Report a failure."""
        self._report("error", event, args, fields)

    def critical(self, event: str, *args: object, **fields: object) -> None:
        """Report a failure that the application may not survive."""
        self._report("critical", event, args, fields)

    def exception(self, event: str, *args: object, **fields: object) -> None:
        """Report the exception that is being handled."""
        self._report("error", event, args, {"exc_info": True, **fields})

    def _report(self, level: str, event: str, args: tuple[object, ...], fields: dict[str, object]) -> None:
        if heard(self._logger):
            try:
                getattr(self._structured(), level)(event, *args, **fields)
            except BaseException as error:  # noqa: BLE001 - a report must not stop what it reports
                contained(error)
                _print(error)

    def _structured(self) -> BoundLogger:
        if self._writer is None:
            import structlog  # a tenth of a second, which nobody pays who listens to nothing

            lazy = structlog.wrap_logger(
                self._logger,
                processors=[structlog.stdlib.filter_by_level, _rename_reserved, _as_record],
                wrapper_class=structlog.stdlib.BoundLogger,
                context_class=dict,
            )
            self._writer = lazy.bind()  # once: the lazy one would bind for every record
        assert self._writer is not None
        return self._writer


def get_logger(room: str) -> RoomLogger:
    """
    Return a structured logger over the standard library's ``dspex.<room>``.

    ``log.warning("restarting", says="{path} restarting: {reason}", path=..., reason=...)`` makes a record whose
    message is that sentence, its fields put in, each in one line and not too long. The record has the fields as they
    are, and the first argument as ``event``, which is also the message where there is no ``says``.

    structlog's own configuration is the application's affair: it is neither read nor changed here.
    """
    root = logging.getLogger("dspex")
    if not root.handlers:
        root.addHandler(logging.NullHandler())  # a library says nothing until somebody listens
    return RoomLogger(logging.getLogger(f"dspex.{room}"))


def prepare() -> None:
    """Load structlog where somebody listens: no report has to wait for it, and hold the loop meanwhile."""
    if heard(logging.getLogger("dspex")):
        import structlog  # noqa: F401 - see above


def _print(failure: BaseException) -> None:
    """Show why a record was lost where the standard library shows it."""
    if logging.raiseExceptions and sys.stderr is not None:
        try:
            traceback.print_exception(failure, file=sys.stderr)
        except BaseException as error:  # noqa: BLE001 - stderr may be closed, or anything
            contained(error)


def _as_record(logger: logging.Logger, method: str, event: EventDict) -> EventDict:
    """Return the arguments of the standard library's logger: the sentence, and beside it the fields."""
    name = event["event"]
    event["event"] = sentence(name, event)
    event.pop(SAYS, None)
    import structlog  # it calls this, so it is loaded

    arguments = structlog.stdlib.render_to_log_kwargs(logger, method, event)
    arguments["extra"]["event"] = name
    return arguments


def _rename_reserved(_: object, __: str, event: MutableMapping[str, object]) -> MutableMapping[str, object]:
    for name in _RESERVED & event.keys():
        event[f"{name}_"] = event.pop(name)
    return event
