"""Structured reports that stay silent, and cost next to nothing, until the host application configures logging."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any, Final, cast

import structlog

from dspex._guard import contained
from dspex.runtime._sentences import SAYS, sentence

__all__ = ["RoomLogger", "get_logger", "heard"]

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


class RoomLogger(structlog.stdlib.BoundLogger):
    """
    A structured logger that makes no record which nobody would hear, and never raises.

    Reports are made where processes die, and a log handler is code of the application's: its failure goes to stderr,
    as ``logging.raiseExceptions`` says.
    """

    @property
    def heard(self) -> bool:
        """True when somebody listens: without listeners, facts that cost time to find out are not looked for."""
        return heard(self._logger)

    def _proxy_to_logger(
        self, method_name: str, event: str | None = None, *event_args: str, **event_kw: object
    ) -> object:
        if heard(self._logger):
            try:
                return super()._proxy_to_logger(method_name, event, *event_args, **event_kw)
            except BaseException as error:  # noqa: BLE001 - a report must not stop what it reports
                contained(error)
                _print(error)
        return None


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
    logger = logging.getLogger(f"dspex.{room}")
    lazy = structlog.wrap_logger(
        logger,
        processors=[structlog.stdlib.filter_by_level, _rename_reserved, _as_record],
        wrapper_class=RoomLogger,
        context_class=dict,
    )
    return cast("RoomLogger", lazy.bind())  # once: the lazy one would bind for every record


def _print(failure: BaseException) -> None:
    """Show why a record was lost where the standard library shows it."""
    if logging.raiseExceptions and sys.stderr is not None:
        try:
            traceback.print_exception(failure, file=sys.stderr)
        except BaseException as error:  # noqa: BLE001 - stderr may be closed, or anything
            contained(error)


def _as_record(logger: logging.Logger, method: str, event: MutableMapping[str, Any]) -> Any:
    """Return the arguments of the standard library's logger: the sentence, and beside it the fields."""
    name = event["event"]
    event["event"] = sentence(name, event)
    event.pop(SAYS, None)
    arguments = structlog.stdlib.render_to_log_kwargs(logger, method, event)
    arguments["extra"]["event"] = name
    return arguments


def _rename_reserved(_: object, __: str, event: MutableMapping[str, object]) -> MutableMapping[str, object]:
    for name in _RESERVED & event.keys():
        event[f"{name}_"] = event.pop(name)
    return event
