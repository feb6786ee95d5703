"""Actors and supervisors for asyncio, with the semantics of Erlang/OTP. Knows nothing of language models."""

from dspex.errors import (
    ActorError,
    ActorExited,
    AlreadyRegistered,
    AppAlreadyRunning,
    AppNotRunning,
    CallCycle,
    CallTimeout,
    ChildError,
    DeadlineExceeded,
    InternalError,
    LeakedTasks,
    MailboxFull,
    NoSuchActor,
    NotRegistered,
    OsProcessFailed,
    RuntimeClosed,
    ServiceUnavailable,
    SpecError,
    StartFailed,
    UnknownMessage,
    WrongLoop,
)
from dspex.runtime._actor import Actor
from dspex.runtime._actor_loop import BadReturn
from dspex.runtime._actor_process import ActorProcess
from dspex.runtime._application import Application
from dspex.runtime._child_spec import (
    AutoShutdown,
    Backoff,
    ChildSpec,
    Restart,
    RestartLimit,
    RestartStrategy,
    ShutdownPolicy,
)
from dspex.runtime._children import ChildCounts, ChildInfo
from dspex.runtime._context import calling_process, current_process
from dspex.runtime._dynamic_supervisor import DynamicSupervisor, DynamicSupervisorRef
from dspex.runtime._exit import (
    KILL,
    KILLED,
    NO_PROCESS,
    NORMAL,
    SHUTDOWN,
    Crashed,
    ExitReason,
    Kill,
    Killed,
    NoProcess,
    Normal,
    Other,
    Shutdown,
    is_abnormal,
)
from dspex.runtime._groups import GroupChange, Groups
from dspex.runtime._inspect import TreeNode, tree
from dspex.runtime._library_actor import LibraryActor
from dspex.runtime._log import get_logger
from dspex.runtime._messages import Call, Down, Exit, From, IdleTimeout
from dspex.runtime._next import Continue, Idle, Ignore, Next, NoReply, Reply, Started, Stop
from dspex.runtime._os_process import GetOsProcess, OsProcess, OsProcessInfo
from dspex.runtime._partition_supervisor import PartitionSupervisor, PartitionSupervisorRef
from dspex.runtime._priority import PriorityRef
from dspex.runtime._process import Process
from dspex.runtime._ref import ActorRef, NamedRef, ProcessRef
from dspex.runtime._registry import Entry, Registered, Registration, Registry, Unregistered
from dspex.runtime._run import run
from dspex.runtime._runtime import Runtime
from dspex.runtime._supervisor import Supervisor
from dspex.runtime._supervisor_ref import NamedSupervisorRef, SupervisorRef
from dspex.runtime._system import Statistics, TraceEvent, TraceHook, set_label
from dspex.runtime._task_handle import OnTimeout, Returned, TaskHandle, TaskOutcome, await_many, yield_many
from dspex.runtime._task_process import TaskProcess
from dspex.runtime._task_stream import TIMED_OUT, StreamOptions, TaskResult, TaskStream
from dspex.runtime._task_supervisor import TaskSupervisor, TaskSupervisorRef
from dspex.runtime._thread_pool import ThreadPool
from dspex.runtime._timers import Timer
from dspex.runtime._via import Via
from dspex.runtime._watchdog import Watchdog
from dspex.runtime._worker import WorkerThread

__all__ = [
    "KILL",
    "KILLED",
    "NORMAL",
    "NO_PROCESS",
    "SHUTDOWN",
    "TIMED_OUT",
    "Actor",
    "ActorError",
    "ActorExited",
    "ActorProcess",
    "ActorRef",
    "AlreadyRegistered",
    "AppAlreadyRunning",
    "AppNotRunning",
    "Application",
    "AutoShutdown",
    "Backoff",
    "BadReturn",
    "Call",
    "CallCycle",
    "CallTimeout",
    "ChildCounts",
    "ChildError",
    "ChildInfo",
    "ChildSpec",
    "Continue",
    "Crashed",
    "DeadlineExceeded",
    "Down",
    "DynamicSupervisor",
    "DynamicSupervisorRef",
    "Entry",
    "Exit",
    "ExitReason",
    "From",
    "GetOsProcess",
    "GroupChange",
    "Groups",
    "Idle",
    "IdleTimeout",
    "Ignore",
    "InternalError",
    "Kill",
    "Killed",
    "LeakedTasks",
    "LibraryActor",
    "MailboxFull",
    "NamedRef",
    "NamedSupervisorRef",
    "Next",
    "NoProcess",
    "NoReply",
    "NoSuchActor",
    "Normal",
    "NotRegistered",
    "OnTimeout",
    "OsProcess",
    "OsProcessFailed",
    "OsProcessInfo",
    "Other",
    "PartitionSupervisor",
    "PartitionSupervisorRef",
    "PriorityRef",
    "Process",
    "ProcessRef",
    "Registered",
    "Registration",
    "Registry",
    "Reply",
    "Restart",
    "RestartLimit",
    "RestartStrategy",
    "Returned",
    "Runtime",
    "RuntimeClosed",
    "ServiceUnavailable",
    "Shutdown",
    "ShutdownPolicy",
    "SpecError",
    "StartFailed",
    "Started",
    "Statistics",
    "Stop",
    "StreamOptions",
    "Supervisor",
    "SupervisorRef",
    "TaskHandle",
    "TaskOutcome",
    "TaskProcess",
    "TaskResult",
    "TaskStream",
    "TaskSupervisor",
    "TaskSupervisorRef",
    "ThreadPool",
    "Timer",
    "TraceEvent",
    "TraceHook",
    "TreeNode",
    "UnknownMessage",
    "Unregistered",
    "Via",
    "Watchdog",
    "WorkerThread",
    "WrongLoop",
    "await_many",
    "calling_process",
    "current_process",
    "get_logger",
    "is_abnormal",
    "run",
    "set_label",
    "tree",
    "yield_many",
]
