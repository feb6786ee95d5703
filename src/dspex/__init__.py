"""
Language-model programs that run as supervised actors.

The names that are used every week are here. The module behind a name is imported when the name is first used, so that
``import dspex`` itself does no I/O, reads no environment and loads no third-party package. Everything else has a room:
``dspex.lm``, ``dspex.programs``, ``dspex.evaluation``, ``dspex.optimizers``, ``dspex.runtime``, ``dspex.testing``. The
errors are in ``dspex.errors``, and each of them is found here, too.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from dspex._names import lazy

if TYPE_CHECKING:
    from dspex import errors as errors
    from dspex import evaluation as evaluation
    from dspex import lm as lm
    from dspex import optimizers as optimizers
    from dspex import programs as programs
    from dspex import retrieval as retrieval
    from dspex import runtime as runtime
    from dspex.app._app import App as App
    from dspex.app._tool_servers import mcp_tools as mcp_tools
    from dspex.app.dashboard.mount import mount_dashboard as mount_dashboard
    from dspex.app.dashboard.options import Dashboard as Dashboard
    from dspex.app.otel.options import OpenTelemetry as OpenTelemetry
    from dspex.errors import *  # noqa: F403 - the whole tree of errors is public
    from dspex.evaluation import Report as Report
    from dspex.evaluation import Score as Score
    from dspex.evaluation import exact_match as exact_match
    from dspex.evaluation import f1 as f1
    from dspex.optimizers import BootstrapFewShot as BootstrapFewShot
    from dspex.optimizers import Job as Job
    from dspex.optimizers import JobEvent as JobEvent
    from dspex.optimizers import LabeledFewShot as LabeledFewShot
    from dspex.programs import KNN as KNN
    from dspex.programs import Adapter as Adapter
    from dspex.programs import Audio as Audio
    from dspex.programs import BestOfN as BestOfN
    from dspex.programs import ChainOfThought as ChainOfThought
    from dspex.programs import ChatAdapter as ChatAdapter
    from dspex.programs import Citations as Citations
    from dspex.programs import Code as Code
    from dspex.programs import Details as Details
    from dspex.programs import Embed as Embed
    from dspex.programs import Ensemble as Ensemble
    from dspex.programs import Example as Example
    from dspex.programs import FieldType as FieldType
    from dspex.programs import File as File
    from dspex.programs import History as History
    from dspex.programs import Image as Image
    from dspex.programs import InputField as InputField
    from dspex.programs import JSONAdapter as JSONAdapter
    from dspex.programs import Module as Module
    from dspex.programs import MontyInterpreter as MontyInterpreter
    from dspex.programs import MultiChainComparison as MultiChainComparison
    from dspex.programs import OutputField as OutputField
    from dspex.programs import Parallel as Parallel
    from dspex.programs import Predict as Predict
    from dspex.programs import Prediction as Prediction
    from dspex.programs import ProgramOfThought as ProgramOfThought
    from dspex.programs import ReAct as ReAct
    from dspex.programs import Reasoning as Reasoning
    from dspex.programs import Refine as Refine
    from dspex.programs import Retrieve as Retrieve
    from dspex.programs import Retry as Retry
    from dspex.programs import Run as Run
    from dspex.programs import Signature as Signature
    from dspex.programs import Tool as Tool
    from dspex.programs import ToolAdapter as ToolAdapter
    from dspex.programs import ToolCalls as ToolCalls
    from dspex.programs import Trajectory as Trajectory
    from dspex.programs import XMLAdapter as XMLAdapter
    from dspex.programs import call_tools as call_tools
    from dspex.programs import details as details
    from dspex.programs import majority as majority
    from dspex.programs import tool as tool
    from dspex.protocols.executor import Failed as Failed
    from dspex.protocols.executor import Ok as Ok
    from dspex.protocols.model import LM as LM
    from dspex.protocols.model import LMPool as LMPool
    from dspex.protocols.money import Budget as Budget
    from dspex.protocols.money import Price as Price
    from dspex.protocols.retrieval import Passage as Passage
    from dspex.protocols.scope import Delta as Delta
    from dspex.protocols.scope import Reset as Reset
    from dspex.requests import Request as Request
    from dspex.services.cache.sqlite import SqliteCache as SqliteCache
    from dspex.services.lm.limits import ClientLimits as ClientLimits
    from dspex.services.lm.retry import RetryPolicy as RetryPolicy
    from dspex.services.lm.transport import Timeouts as Timeouts
    from dspex.services.retrieval.sqlite_index import SqliteIndex as SqliteIndex
    from dspex.services.shared.address import Shared as Shared

_SUBMODULES = frozenset(("errors", "evaluation", "lm", "optimizers", "programs", "runtime"))
"""Rooms whose names are public: ``dspex.lm.Provider`` needs no import of its own."""

__version__ = "0.1.0"


_load, _names = lazy("dspex", globals())


if not TYPE_CHECKING:  # or a checker would take every name for one of ours

    def __getattr__(name: str) -> object:
        try:
            return _load(name)
        except AttributeError as error:
            if name in _SUBMODULES:
                return importlib.import_module(f"dspex.{name}")
            if name[:1].isupper() and name in (errors := importlib.import_module("dspex.errors")).__all__:
                return getattr(errors, name)
            said = importlib.import_module("dspex._elsewhere").where(name, __dir__())
            raise AttributeError(f"{error}: {said}" if said else str(error), name=name) from None


def __dir__() -> list[str]:
    return sorted({*_names(), *_SUBMODULES, *importlib.import_module("dspex.errors").__all__})
