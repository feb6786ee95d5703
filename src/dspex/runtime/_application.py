"""A tree with a beginning and an end: started in order, drained, stopped in reverse order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from types import TracebackType
from typing import Any, ClassVar, Self, cast

import anyio

from dspex._guard import text_of
from dspex.errors import AppAlreadyRunning, AppNotRunning, CallCycle
from dspex.runtime._actor_process import ActorProcess
from dspex.runtime._child_spec import ChildSpec, RestartStrategy, check_seconds
from dspex.runtime._context import current_process
from dspex.runtime._exit import KILL, NORMAL, SHUTDOWN, ExitReason, Normal
from dspex.runtime._library_actor import LibraryActor
from dspex.runtime._log import get_logger
from dspex.runtime._messages import Exit
from dspex.runtime._next import Next, Stop
from dspex.runtime._runtime import Runtime
from dspex.runtime._sentences import why
from dspex.runtime._supervisor import Supervisor
from dspex.runtime._supervisor_ref import SupervisorRef

__all__ = ["Application"]

_log = get_logger("application")


class Application:
    """
    Children under one supervisor, and what is to be done before and after them (OTP's ``application``).

    ``async with Application(children):`` runs it in a loop of somebody else's and touches no signals; ``run`` owns
    the loop and stops at SIGTERM and SIGINT. Subclasses override ``start``, ``prep_stop`` and ``stop``.

    The order of the end: ``prep_stop``; the children, the last first, each within its own ``shutdown`` (so whoever
    takes in work comes last in ``children``, and drains in its ``terminate``); ``stop``.

    Args:
        children: Specs, in start order.
        name: For reports; the name of the class by default.
        runtime: Where to live; one of its own by default, which ends with it.
        strategy, max_restarts, max_seconds: As for Supervisor.
        hook_timeout: Seconds for ``prep_stop`` and for ``stop``, each; then the hook is killed and the end goes on.
        stop_timeout: Seconds for all children; then who is left is killed.
    """

    def __init__(
        self,
        children: Iterable[ChildSpec] = (),
        *,
        name: str = "",
        runtime: Runtime | None = None,
        strategy: RestartStrategy = RestartStrategy.ONE_FOR_ONE,
        max_restarts: int = 3,
        max_seconds: float = 5.0,
        hook_timeout: float = 10.0,
        stop_timeout: float = 60.0,
    ) -> None:
        check_seconds("hook_timeout", hook_timeout, minimum=0.0)
        check_seconds("stop_timeout", stop_timeout, minimum=0.0)
        self.children = tuple(children)
        self.name = name or type(self).__name__
        self.hook_timeout = hook_timeout
        self.stop_timeout = stop_timeout
        self._supervisor = partial(Supervisor, strategy=strategy, max_restarts=max_restarts, max_seconds=max_seconds)
        self._own_runtime = runtime is None
        self._runtime = runtime
        self._process: ActorProcess | None = None
        self._host: asyncio.Task[object] | None = None  # while the block runs
        self._cancelled: asyncio.Task[object] | None = None  # the host, when an interrupt has cancelled it
        self._interrupt: KeyboardInterrupt | None = None

    # --- for subclasses -------------------------------------------------------------------------------------

    async def start(self) -> object:
        """Acquire what the children need; what this returns is the state, which the other hooks get."""
        return None

    async def prep_stop(self, state: Any) -> Any:
        """Get ready to stop while all children still run; return the state for ``stop``."""
        return state

    async def stop(self, state: Any) -> None:
        """Give back what ``start`` acquired; the children have ended, or did not start."""

    # --- for users ------------------------------------------------------------------------------------------

    @property
    def runtime(self) -> Runtime:
        """The runtime it lives in; AppNotRunning before it was given one."""
        if self._runtime is None:
            raise AppNotRunning
        return self._runtime

    @property
    def supervisor(self) -> SupervisorRef:
        """The top of the tree; AppNotRunning while there is none."""
        supervisor = self._master.supervisor
        if supervisor is None:
            raise AppNotRunning
        return supervisor

    @property
    def failed(self) -> bool:
        """True when the tree has ended by itself, other than normally."""
        return self._master.failed

    async def open(self, runtime: Runtime | None = None) -> None:
        """
        Run ``start``, then start the children in order; return when all are initialised.

        Raises:
            StartFailed: The hook raised, or a child did not start; ``stop`` has run if ``start`` had.
            AppAlreadyRunning: It is open already.
        Cancellation: what was started is killed.
        """
        self._make_runtime(runtime)
        await self._open()

    def _make_runtime(self, runtime: Runtime | None = None) -> None:
        if self._process is not None and not self._process.dead:
            raise AppAlreadyRunning
        if runtime is not None:
            self._runtime, self._own_runtime = runtime, False
        elif self._own_runtime:
            self._runtime = Runtime()
            self._runtime.open()

    async def _open(self) -> None:
        self._process = self.runtime.spawn(_Master(self), label=self.name)
        try:
            outcome = await self.runtime.await_start(self._process, None)
            if outcome is not None:
                raise outcome
        except BaseException:  # whatever it is: undone here, then raised on
            await self.close()
            raise

    def request_stop(self) -> None:
        """Begin to stop, and return at once; from an actor of the tree, too, and while it starts."""
        if self._process is not None:
            self._process.receive_exit(SHUTDOWN, None)
            self._master.stop_starting()

    async def wait(self) -> ExitReason:
        """Return when the tree has ended, for whatever reason, and ``stop`` has run."""
        if self._process is None:
            raise AppNotRunning
        return await self._process.wait_exit(None) or NORMAL

    async def close(self) -> None:
        """
        Stop, and wait for it; fine when it has ended already.

        Raises:
            CallCycle: The caller lives in the tree; it may ``request_stop``.
            LeakedTasks: Code swallowed its cancellation and still runs; of a runtime of its own only.
        Cancellation: who is left is killed; only then the cancellation goes on its way.
        """
        process, caller = self._process, current_process()
        if process is None:
            return
        if caller is not None and process.owns(caller):
            raise CallCycle((caller.label, process.label))
        self.request_stop()
        cancelled: asyncio.CancelledError | None = None
        with anyio.CancelScope(shield=True):
            while not process.dead:
                try:
                    await process.wait_exit(None)
                except asyncio.CancelledError as error:
                    cancelled = error
                    process.receive_exit(KILL, None)
        if self._own_runtime:
            await self.runtime.close()
        if cancelled is not None:
            raise cancelled

    async def __aenter__(self) -> Self:
        self._make_runtime()
        self._interrupt = self._cancelled = None
        self.runtime.on_interrupt = self._interrupted
        try:
            await self._open()
        except BaseException as error:  # whatever it is: undone here, then raised on
            await self._leave()
            if self._interrupt is not None:
                raise self._interrupt from error
            raise
        self._host = asyncio.current_task()
        if self._interrupt is not None:
            await self._leave()
            raise self._interrupt
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._host = None  # from here on, an interrupt finds us on our way out
        if self._cancelled is not None:
            self._cancelled.uncancel()
        try:
            await self._leave()
        finally:
            if self._interrupt is not None:
                raise self._interrupt

    async def _leave(self) -> None:
        self._host = None
        try:
            await self.close()
        finally:
            self.runtime.on_interrupt = None

    def _interrupted(self, error: KeyboardInterrupt) -> None:
        """Leave the block, as Ctrl-C would: an interrupt that hits an actor is meant for the program."""
        if self._interrupt is None:
            self._interrupt = error
            if self._host is not None:
                self._cancelled = self._host
                self._host.cancel()
            else:
                self.request_stop()

    @property
    def _master(self) -> _Master:
        if self._process is None:
            raise AppNotRunning
        return cast("_Master", self._process.actor)


class _Master(LibraryActor):
    """Owns the top supervisor, and runs the hooks around its life."""

    trap_exit: ClassVar[bool] = True
    terminate_timeout: ClassVar[float | None] = None

    def __init__(self, application: Application) -> None:
        self.application = application
        self.state: object = None
        self.supervisor: SupervisorRef | None = None
        self.top: ActorProcess | None = None
        self.began = False
        self.asked_to_stop = False
        self.failed = False

    async def init(self) -> None:
        """Acquire the state, then start the tree."""
        application = self.application
        self.state = await application.start()
        self.began = True
        supervisor = application._supervisor(application.children)
        self.top = self.runtime.spawn(supervisor, label=f"{application.name} supervisor", parent=self._dspex_process)
        failure = await self.runtime.await_start(self.top, None)
        if failure is not None:
            await self._run("stop", application.stop)
            raise failure
        self.supervisor = cast("SupervisorRef", self.top.ref)

    def stop_starting(self) -> None:
        """Give up a start that goes on, in order where there is something to end."""
        self.asked_to_stop = True
        if self._dspex_process.started is None:
            return
        if self.top is not None and self.top.started is not None:
            self.top.receive_exit(SHUTDOWN, self._dspex_process)
        elif not self.began:
            self._dspex_process.receive_exit(KILL, None)

    async def handle_info(self, message: object) -> Next:
        """End with the tree."""
        top = self.supervisor
        if type(message) is Exit and top is not None and top == message.ref and top._process.dead:
            self.failed = not isinstance(message.reason, Normal) and not self.asked_to_stop
            if self.failed:
                _log.error(
                    "application ended by itself",
                    says="the application {application} ended by itself: {why}",
                    application=self.application.name,
                    why=why(message.reason),
                    reason=text_of(message.reason),
                )
            return Stop(message.reason)
        return None

    async def terminate(self, reason: ExitReason) -> None:
        """Carry out the end, in order; a hook that fails is reported and holds nothing up."""
        application, top = self.application, self.supervisor
        if top is not None and top.alive:
            self.state = await self._run("prep_stop", application.prep_stop)
            top._process.receive_exit(SHUTDOWN, self._dspex_process)
            if await top.wait_exit(application.stop_timeout) is None:
                _log.error(
                    "children took too long to stop",
                    says="the children of the application {application} did not stop within {seconds} s and are killed",
                    application=application.name,
                    seconds=application.stop_timeout,
                )
                top.kill()
                await top.wait_exit()
        await self._run("stop", application.stop)

    async def _run(self, name: str, hook: Callable[[object], Awaitable[object]]) -> object:
        """Run a hook as a process of its own; return the state, the old one when the hook failed."""
        task = self.spawn_task(hook, self.state, label=f"{name} of {self.application.name}")
        reason = await task.wait_exit(self.application.hook_timeout)
        if isinstance(reason, Normal):
            return task.result
        if reason is None:
            task.receive_exit(KILL, self._dspex_process)
            await task.wait_exit(None)
        _log.error(
            "hook failed",
            says="the hook {hook} of the application {application} failed: {why}",
            application=self.application.name,
            hook=name,
            why="it took too long" if reason is None else why(reason),
            reason="took too long" if reason is None else text_of(reason),
        )
        return self.state
