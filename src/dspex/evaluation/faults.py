"""The one at fault in an error: the provider, the row itself, bad luck, or the caller. Pure functions of the error."""

from __future__ import annotations

from dspex.errors import (
    ActorExited,
    AppClosed,
    AuthFailed,
    BudgetExceeded,
    ConfigError,
    DeadlineExceeded,
    JobBusy,
    LMError,
    MissingExtra,
    NoSuchActor,
    OptimizationError,
    Overloaded,
    PermissionDenied,
    QuotaExhausted,
    RequestKilled,
    ResponseInvalid,
    RetrievalError,
    ServiceUnavailable,
    StepCrashed,
)

__all__ = ["is_accident", "is_callers", "is_hopeless", "is_outage", "is_setup"]


def is_outage(error: Exception) -> bool:
    """True when the provider, not the program, is at fault, and waiting is all there is to do."""
    if isinstance(error, LMError):
        return error.is_retryable and not isinstance(error, ResponseInvalid)
    return isinstance(error, (ServiceUnavailable, Overloaded))


def is_accident(error: Exception) -> bool:
    """True when the same row may well succeed the next time, but may also be the cause."""
    accidents = (ActorExited, NoSuchActor, DeadlineExceeded, RequestKilled, ResponseInvalid, RetrievalError)
    return isinstance(error, (*accidents, StepCrashed))


def is_hopeless(error: Exception) -> bool:
    """True when no row can succeed until somebody does something about it."""
    if isinstance(error, PermissionDenied):  # what one row may not ask, another may
        return False
    return is_callers(error) or isinstance(error, (AuthFailed, BudgetExceeded, QuotaExhausted))


def is_setup(error: Exception) -> bool:
    """True when no row can succeed as things are set up, and each would only say so again: a key, a model, an extra."""
    return is_callers(error) or (isinstance(error, AuthFailed) and not isinstance(error, PermissionDenied))


def is_callers(error: Exception) -> bool:
    """True when the caller set something up that cannot work for any row: this is never the outcome of one row."""
    return isinstance(error, (ConfigError, MissingExtra, AppClosed, JobBusy)) or type(error) is OptimizationError
