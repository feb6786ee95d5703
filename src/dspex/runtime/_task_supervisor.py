"""Supervised tasks, and a back-pressured stream of them over many inputs (Elixir's ``Task.Supervisor``)."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal, TypeVar

from dspex.errors import ActorExited, ChildError, NoSuchActor, SpecError
from dspex.runtime._context import current_process
from dspex.runtime._library_actor import LibraryActor
from dspex.runtime._ref import ActorRef
from dspex.runtime._task_handle import OnTimeout, TaskHandle
from dspex.runtime._task_process import TaskProcess
from dspex.runtime._task_stream import StreamOptions, TaskStream

if TYPE_CHECKING:
    from dspex.runtime._actor_process import ActorProcess

__all__ = ["TaskSupervisor", "TaskSupervisorRef"]

T = TypeVar("T")
R = TypeVar("R")


class TaskSupervisorRef(ActorRef):
    """A handle on a task supervisor."""

    __slots__ = ()

    def start(
        self, work: Callable[..., Awaitable[R]], *args: object, label: str = "", context: Context | None = None
    ) -> TaskHandle[R]:
        """
        Start ``work(*args)`` in this tick, owned by the supervisor; its failure is seen by who awaits the handle.

        Args:
            context: Where it runs; by default a clean one, never the caller's.

        Raises:
            NoSuchActor: The supervisor is dead.
            ChildError: ``max_children`` tasks run already.
        """
        return TaskHandle(self.spawn(work, *args, label=label, context=context), current_process())

    def start_link(
        self, work: Callable[..., Awaitable[R]], *args: object, label: str = "", context: Context | None = None
    ) -> TaskHandle[R]:
        """
        Start a task as ``start`` does, linked to the calling process: the abnormal end of one ends the other.

        A calling actor that traps exits gets an ``Exit`` and lives. Outside of every process there is nothing to
        link, and this is ``start``.

        Raises:
            NoSuchActor: The supervisor is dead.
            ChildError: ``max_children`` tasks run already.
            ActorExited: The caller is dying; nothing was started.
        """
        caller = current_process()
        if caller is not None and caller.dead_to_the_world:
            raise ActorExited(caller.label, caller.exit_reason)
        task = self.spawn(work, *args, label=label, context=context)
        if caller is not None:
            caller.link(task)
        return TaskHandle(task, caller)

    def spawn(
        self, work: Callable[..., object], *args: object, label: str = "", context: Context | None = None
    ) -> TaskProcess:
        """
        Start ``work(*args)`` in this tick as a bare process: no handle, no owner but the supervisor.

        Raises:
            NoSuchActor: The supervisor is dead.
            ChildError: ``max_children`` tasks run already.
        """
        process = self._process
        if process.exit_reason is not None:
            raise NoSuchActor(process.label)
        _admit(process, label)
        return process.runtime.spawn_task(process, work, *args, label=label, context=context)

    def stream(
        self,
        work: Callable[[T], Awaitable[R]],
        items: Iterable[T] | AsyncIterable[T],
        *,
        max_concurrency: int,
        ordered: bool = True,
        timeout: float | None = None,
        on_timeout: OnTimeout = OnTimeout.EXIT,
        linked: bool = False,
        context: Context | None = None,
    ) -> TaskStream[T, R]:
        """
        Run ``work`` over ``items``, at most ``max_concurrency`` at a time; results as they are consumed.

        Use it as ``async with ref.stream(...) as results: async for result in results``. A new task is started only
        while fewer than ``max_concurrency`` results wait or run, so memory stays bounded whatever the consumer or
        the head of an ordered stream does. Leaving the block kills what still runs, waits for it, and closes the
        iterator of ``items``.

        An asynchronous ``items`` is read by a task of its own, in a copy of the consumer's context, so that results
        need not wait for inputs. An exception that ``items`` raises is raised to the consumer at once, and so is
        the ChildError of a supervisor that has ``max_children`` tasks already.

        Args:
            ordered: Results come in the order of their inputs, not as they are ready.
            timeout: Seconds for each task.
            on_timeout: The action when a task takes longer. EXIT: CallTimeout is raised to the consumer, at once.
                KILL_TASK: the task is killed and its result says TIMED_OUT.
            linked: A task that crashes ends the consuming process (which, if it traps exits, gets an ``Exit``).
            context: Each task runs in a copy of it; by default in a clean one, never the caller's.

        Raises:
            SpecError: An argument is not valid.
        """
        options = StreamOptions(max_concurrency, ordered, timeout, on_timeout, linked, context)
        return TaskStream(self._process, work, items, options, admit=partial(_admit, self._process, "stream item"))


class TaskSupervisor(LibraryActor):
    """
    Owns tasks: they die with it, it does not die with them.

    Args:
        max_children: Refuse to start more tasks than this while they run (ChildError ``max_children``); the task
            that reads the asynchronous ``items`` of a stream is one of them.

    Raises:
        SpecError: ``max_children`` is not valid.
    """

    kind: ClassVar[Literal["worker", "supervisor"]] = "supervisor"
    trap_exit: ClassVar[bool] = True
    hurried: ClassVar[bool] = True
    ref_class: ClassVar[type[ActorRef]] = TaskSupervisorRef

    def __init__(self, *, max_children: int | None = None) -> None:
        if max_children is not None and (not isinstance(max_children, int) or max_children < 0):
            raise SpecError("max_children", max_children, "None or an int >= 0")
        self.max_children = max_children


def _admit(process: ActorProcess, label: str) -> None:
    """Refuse a task that would be one too many."""
    limit = process.actor.max_children if isinstance(process.actor, TaskSupervisor) else None
    if limit is not None and len(process._children or ()) >= limit:
        raise ChildError(label or "task", "max_children")
