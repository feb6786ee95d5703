"""The programs that ``test_application`` starts: ``application_script.py CASE LOOP``; they say what happens to them."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar

import uvloop

from dspex.runtime import Actor, ActorRef, Application, ChildSpec, ExitReason, Next, Restart, Runtime, run


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class Loud(Application):
    """Says which hook runs, with which state."""

    async def start(self) -> str:
        return "state"

    async def prep_stop(self, state: str) -> str:
        say(f"{self.name}:prep_stop:{state}")
        return "prepared"

    async def stop(self, state: str) -> None:
        say(f"{self.name}:stop:{state}")


class Child(Actor):
    """Says when it ends, and does something once it runs."""

    trap_exit: ClassVar[bool] = True

    def __init__(self, name: str, then: Callable[[Child], Any] | None = None) -> None:
        self.name = name
        self.then = then

    async def init(self) -> None:
        self.own(self.name, lambda name: say(name))

    async def handle_info(self, message: Any) -> Next:
        if message == "then":
            assert self.then is not None
            self.then(self)
        return None


class Ready(Application):
    """Comes last: what its start does happens when the others run."""

    async def start(self) -> None:
        if not self.runtime.named("acting").send("then"):
            say("running")


class Announcing(Child):
    async def init(self) -> None:
        say(self.name.replace("-", "+"))
        await super().init()


class Stubborn(Child):
    terminate_timeout: ClassVar[float | None] = None

    async def terminate(self, reason: ExitReason) -> None:
        say("draining")
        await asyncio.Event().wait()


class Leaking(Actor):
    async def handle_info(self, message: Any) -> Next:
        self.runtime.loop.call_soon(self.ref.kill)
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                continue

    async def init(self) -> None:
        self.ref.send("go")


class Slow(Actor):
    async def init(self) -> None:
        say("starting")
        await asyncio.Event().wait()


class SlowHook(Application):
    async def start(self) -> None:
        say("starting")
        await asyncio.Event().wait()


class Failing(Actor):
    async def init(self) -> None:
        raise ValueError("no")


def interrupt(child: Child) -> None:
    say("running")
    raise KeyboardInterrupt


def exit_once(child: Child) -> None:
    child.runtime.loop.call_later(0, quit_when_restarted, child.ref, child.runtime)
    raise SystemExit(3)


def quit_when_restarted(old: ActorRef, runtime: Runtime) -> None:
    new = runtime.whereis("acting")
    if new is None or new == old:
        runtime.loop.call_soon(quit_when_restarted, old, runtime)
    else:
        say("restarted")
        signal.raise_signal(signal.SIGTERM)


def crash(child: Child) -> None:
    raise ValueError("again")


def running(child: Child) -> None:
    say("running")


def block(child: Child) -> None:
    say("running")
    time.sleep(3600)


def request(child: Child) -> None:
    APPLICATIONS[0].request_stop()


def loud(name: str, *specs: ChildSpec, **options: Any) -> Loud:
    return Loud(specs, name=name, **options)


def child(
    name: str, then: Callable[[Child], Any] | None = None, kind: type[Actor] = Child, **options: Any
) -> ChildSpec:
    args = (name, then) if issubclass(kind, Child) else ()
    return ChildSpec(name, kind, args, name="acting" if then is not None else None, **options)


CASES: dict[str, Callable[[], list[Application]]] = {
    "two": lambda: [loud("A", child("A:-1"), child("A:-2")), loud("B", child("B:-1"), child("B:-2")), Ready()],
    "stubborn": lambda: [Application([child("x", None, Stubborn, shutdown=3600.0)], stop_timeout=3600.0), Ready()],
    "blocked": lambda: [Application([child("x", block)]), Ready()],
    "slow start": lambda: [loud("A", child("A:-1")), loud("B", child("B:-1"), child("x", None, Slow), child("B:-2"))],
    "slow hook": lambda: [loud("A", child("A:-1")), SlowHook()],
    "keyboard interrupt": lambda: [loud("A", child("A:-1", interrupt, restart=Restart.TEMPORARY)), Ready()],
    "system exit": lambda: [loud("A", child("A:-1", exit_once)), Ready()],
    "gives up": lambda: [loud("A", child("A:-1", crash), max_restarts=0), Ready()],
    "leaks": lambda: [Application([child("x", None, Leaking)], max_restarts=0)],
    "requests stop": lambda: [loud("A", child("A:-1", request)), Ready()],
    "none": list,
    "in a thread": list,
    "fails": lambda: [loud("A", child("A:-1", None, Announcing)), loud("B", child("x", None, Failing))],
    "embedded": lambda: [loud("A", child("A:-1", running))],
    "embedded interrupt": lambda: [loud("A", child("A:-1", interrupt, restart=Restart.TEMPORARY))],
}
APPLICATIONS: list[Application] = []


async def embed(application: Application) -> None:
    async with application:
        application.runtime.named("acting").send("then")
        await asyncio.Event().wait()


def refuse() -> None:
    try:
        run()
    except RuntimeError:
        say("refused")


def main(case: str, loop: str) -> int:
    APPLICATIONS.extend(CASES[case]())
    if case.startswith("embedded"):
        try:
            asyncio.run(embed(APPLICATIONS[0]))
        except KeyboardInterrupt:
            say("interrupted")
            return 130
    if case == "in a thread":
        thread = threading.Thread(target=refuse)
        thread.start()
        thread.join()
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    try:
        return run(
            *APPLICATIONS,
            runtime=Runtime(kill_budget=0.05, exit_budget=0.05),
            loop_factory=uvloop.new_event_loop if loop == "uvloop" else None,
        )
    finally:
        if case == "fails" and before == [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]:
            say("handlers:back")


if __name__ == "__main__":
    code = main(*sys.argv[1:])
    say(f"code:{code}")
    sys.exit(code)
