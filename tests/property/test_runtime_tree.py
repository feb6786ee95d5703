"""Supervisors, links, monitors and registries against models that are too simple to be wrong."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from dspex.errors import AlreadyRegistered, ChildError, StartFailed
from dspex.runtime import (
    KILL,
    KILLED,
    NO_PROCESS,
    NORMAL,
    SHUTDOWN,
    ActorRef,
    Down,
    Exit,
    ExitReason,
    Kill,
    Normal,
    Other,
    Registry,
    Restart,
    RestartStrategy,
    Supervisor,
    SupervisorRef,
    is_abnormal,
)
from tests.conformance.kids import Host, Kid, Nursery, TrappingHost, TrappingKid
from tests.support.on_a_loop import OnALoop

NAMES = ["a", "b", "c", "d", "e"]
names = st.sampled_from(NAMES)
restarts = st.sampled_from(Restart)
reasons = st.sampled_from([NORMAL, SHUTDOWN, Other("boom")])


class SupervisorMachine(OnALoop):
    """Children as a list of names, with what each is specified to be and whether it runs."""

    supervisor: SupervisorRef

    @initialize(
        strategy=st.sampled_from(RestartStrategy),
        intensity=st.integers(0, 12),
        children=st.lists(st.tuples(names, restarts, st.booleans()), max_size=5, unique_by=lambda each: each[0]),
    )
    def start(self, strategy: RestartStrategy, intensity: int, children: list[tuple[str, Restart, bool]]) -> None:
        self.nursery = Nursery()
        self.strategy, self.left = strategy, intensity
        self.specs: dict[str, Restart] = {}
        self.running: set[str] = set()
        self.log: list[str] = []
        self.failing: dict[str, int] = {}
        self.given_up = False
        specs = [self.spec(*child) for child in children]
        supervisor = Supervisor(specs, strategy=strategy, max_restarts=intensity, max_seconds=1e6)
        ref = self.do(self.runtime.start(supervisor))
        assert isinstance(ref, SupervisorRef)
        self.supervisor = ref
        for name, restart, _ in children:
            self.specs[name] = restart
            assert self.model_start(name)

    def spec(self, name: str, restart: Restart, traps: bool) -> Any:
        return self.nursery.spec(name, TrappingKid if traps else Kid, restart=restart)

    # --- the model ------------------------------------------------------------------------------------------

    def model_start(self, name: str) -> bool:
        if self.failing.get(name):
            self.failing[name] -= 1
            return False
        self.running.add(name)
        self.log.append(f"+{name}")
        return True

    def model_stop(self, name: str) -> None:
        if name in self.running:
            self.running.remove(name)
            self.log.append(f"-{name}")
        if self.specs[name] is Restart.TEMPORARY:
            del self.specs[name]

    def model_restart(self, dead: str) -> None:
        self.left -= 1
        if self.left < 0:
            self.given_up = True
            for name in reversed(list(self.specs)):
                self.model_stop(name)
            return
        order = list(self.specs)
        first = {
            RestartStrategy.ONE_FOR_ONE: [dead],
            RestartStrategy.ONE_FOR_ALL: order,
            RestartStrategy.REST_FOR_ONE: order[order.index(dead) :],
        }[self.strategy]
        for name in reversed(first):
            if name != dead:
                self.model_stop(name)
        for name in first:
            if name in self.specs and not self.model_start(name):
                self.model_restart(name)
                return

    # --- what happens ---------------------------------------------------------------------------------------

    def alive(self) -> bool:
        return not self.given_up

    def refused(self, call: Awaitable[Any]) -> str | None:
        try:
            self.do(call)
        except ChildError as error:
            return error.why
        except StartFailed:
            return "failed"
        return None

    @precondition(alive)
    @rule(name=names, times=st.integers(1, 3))
    def will_fail(self, name: str, times: int) -> None:
        self.failing[name] = times
        self.nursery.failing[name] = [ValueError("no")] * times

    @precondition(lambda self: self.alive() and self.running)
    @rule(data=st.data(), reason=reasons | st.just(KILL))
    def ends(self, data: st.DataObject, reason: ExitReason) -> None:
        name = data.draw(st.sampled_from(sorted(self.running)))
        process = next(each for each in self.supervisor._process.children if each.label == name)
        if reason == KILL:
            process.receive_exit(KILL, None)
        else:
            process.as_actor("cast").ref.cast(reason)
        self.settle()
        self.running.remove(name)
        self.log.append(f"-{name}")
        restart = self.specs[name]
        if restart is Restart.PERMANENT or (restart is Restart.TRANSIENT and is_abnormal(reason)):
            self.model_restart(name)
        elif restart is Restart.TEMPORARY:
            del self.specs[name]

    @precondition(alive)
    @rule(name=names, restart=restarts, traps=st.booleans())
    def start_child(self, name: str, restart: Restart, traps: bool) -> None:
        why = self.refused(self.supervisor.start_child(self.spec(name, restart, traps)))
        if name in self.specs:
            assert why == ("already_started" if name in self.running else "already_present")
            return
        self.specs[name] = restart
        if self.model_start(name):
            assert why is None
        else:
            assert why == "failed"
            del self.specs[name]

    @precondition(alive)
    @rule(name=names)
    def terminate_child(self, name: str) -> None:
        why = self.refused(self.supervisor.terminate_child(name))
        assert why == (None if name in self.specs else "not_found")
        if name in self.specs:
            self.model_stop(name)

    @precondition(alive)
    @rule(name=names)
    def restart_child(self, name: str) -> None:
        why = self.refused(self.supervisor.restart_child(name))
        if name not in self.specs:
            assert why == "not_found"
        elif name in self.running:
            assert why == "running"
        else:
            assert why == (None if self.model_start(name) else "failed")

    @precondition(alive)
    @rule(name=names)
    def delete_child(self, name: str) -> None:
        why = self.refused(self.supervisor.delete_child(name))
        if name not in self.specs:
            assert why == "not_found"
        elif name in self.running:
            assert why == "running"
        else:
            assert why is None
            del self.specs[name]

    @precondition(lambda self: self.given_up)
    @rule()
    def stays_dead(self) -> None:
        self.settle()

    @invariant()
    def agree(self) -> None:
        if not hasattr(self, "supervisor"):
            return
        assert [line for line in self.nursery.log if line[0] != "~"] == self.log
        assert self.supervisor.alive is not self.given_up
        if self.given_up:
            assert self.supervisor.exit_reason == SHUTDOWN
            assert not self.runtime.processes
            return
        infos = self.do(self.supervisor.which_children())
        assert [info.id for info in reversed(infos)] == list(self.specs)
        assert {info.id for info in infos if info.ref is not None} == self.running
        assert {each.label for each in self.supervisor._process.children} == self.running


class SignalMachine(OnALoop):
    """Five processes, the links and monitors between them, and what each should have been told."""

    @initialize(traps=st.lists(st.booleans(), min_size=5, max_size=5))
    def start(self, traps: list[bool]) -> None:
        self.traps = traps
        self.hosts: list[Host] = [TrappingHost() if each else Host() for each in traps]
        self.refs: list[ActorRef] = [self.do(self.runtime.start(host)) for host in self.hosts]
        self.reasons: list[ExitReason | None] = [None] * 5
        self.links: set[frozenset[int]] = set()
        self.monitors: dict[int, tuple[int, int]] = {}
        self.seen: list[list[object]] = [[] for _ in traps]
        self.registry = Registry()
        self.keys: dict[str, int] = {}

    def ask(self, who: int, action: Callable[[], Any]) -> Any:
        async def doing() -> Any:
            return action()

        return self.do(self.refs[who].call(doing))

    def living(self, data: st.DataObject) -> int | None:
        alive = [number for number in range(5) if self.reasons[number] is None]
        return data.draw(st.sampled_from(alive)) if alive else None

    def model_receive(self, who: int, reason: ExitReason, sender: int | None, from_link: bool) -> None:
        if self.reasons[who] is not None:
            return
        if isinstance(reason, Kill) and not from_link:
            self.model_die(who, KILLED)
        elif self.traps[who]:
            assert sender is not None
            self.seen[who].append(Exit(self.refs[sender], reason))
        elif not isinstance(reason, Normal):
            self.model_die(who, reason)

    def model_die(self, who: int, reason: ExitReason) -> None:
        self.reasons[who] = reason
        partners = [next(iter(link - {who})) for link in self.links if who in link]
        self.links = {link for link in self.links if who not in link}
        self.keys = {key: owner for key, owner in self.keys.items() if owner != who}
        for partner in partners:
            self.model_receive(partner, reason, who, from_link=True)
        for number, (watcher, target) in list(self.monitors.items()):
            if target == who:
                del self.monitors[number]
                if self.reasons[watcher] is None:
                    self.seen[watcher].append(Down(number, self.refs[who], reason))

    @rule(data=st.data(), other=st.integers(0, 4))
    def link(self, data: st.DataObject, other: int) -> None:
        who = self.living(data)
        if who is None or (self.reasons[other] is not None and not self.traps[who]):
            return
        self.ask(who, self.refs[other].link)
        if self.reasons[other] is not None:
            self.seen[who].append(Exit(self.refs[other], NO_PROCESS))
        elif who != other:
            self.links.add(frozenset({who, other}))

    @rule(data=st.data(), other=st.integers(0, 4))
    def unlink(self, data: st.DataObject, other: int) -> None:
        who = self.living(data)
        if who is not None:
            self.ask(who, self.refs[other].unlink)
            self.links.discard(frozenset({who, other}))

    @rule(data=st.data(), other=st.integers(0, 4))
    def monitor(self, data: st.DataObject, other: int) -> None:
        who = self.living(data)
        if who is None:
            return
        number = self.ask(who, self.refs[other].monitor)
        assert number not in self.monitors
        if self.reasons[other] is not None:
            self.seen[who].append(Down(number, self.refs[other], NO_PROCESS))
        else:
            self.monitors[number] = (who, other)

    @rule(data=st.data())
    def demonitor(self, data: st.DataObject) -> None:
        who = self.living(data)
        mine = [number for number, (watcher, _) in self.monitors.items() if watcher == who]
        if who is not None and mine:
            number = data.draw(st.sampled_from(mine))
            self.ask(who, lambda: self.refs[who].demonitor(number))
            del self.monitors[number]

    @rule(data=st.data(), other=st.integers(0, 4), reason=reasons | st.just(KILL))
    def exit(self, data: st.DataObject, other: int, reason: ExitReason) -> None:
        who = self.living(data)
        if who is None or who == other:
            return
        self.ask(who, lambda: self.refs[other].exit(reason))
        self.model_receive(other, reason, who, from_link=False)

    @rule(data=st.data(), reason=reasons)
    def stop(self, data: st.DataObject, reason: ExitReason) -> None:
        who = self.living(data)
        if who is not None:
            self.do(self.refs[who].stop(reason))
            self.model_die(who, reason)

    @rule(data=st.data(), key=st.sampled_from(["k", "l"]))
    def register(self, data: st.DataObject, key: str) -> None:
        who = self.living(data)
        if who is None:
            return

        def register() -> object:
            try:
                self.registry.register(key, who)
            except AlreadyRegistered as error:
                return error.owner
            return None

        owner = self.ask(who, register)
        assert owner == (self.refs[self.keys[key]] if key in self.keys else None)
        self.keys.setdefault(key, who)

    @rule(data=st.data(), key=st.sampled_from(["k", "l"]))
    def unregister(self, data: st.DataObject, key: str) -> None:
        who = self.living(data)
        if who is not None:
            self.ask(who, lambda: self.registry.unregister(key))
            if self.keys.get(key) == who:
                del self.keys[key]

    @invariant()
    def agree(self) -> None:
        if not hasattr(self, "keys"):
            return
        self.settle()
        assert [ref.exit_reason for ref in self.refs] == self.reasons
        for number, host in enumerate(self.hosts):
            if self.reasons[number] is None:
                assert sorted(map(repr, host.seen)) == sorted(map(repr, self.seen[number]))
        for key in ("k", "l"):
            owners = [entry.value for entry in self.registry.lookup(key)]
            assert owners == ([self.keys[key]] if key in self.keys else [])
        assert len(self.registry) == len(self.keys)
        watchers = sum(len(ref._process._watchers or ()) for ref in self.refs)
        assert watchers == sum(self.reasons[watcher] is None for watcher, _ in self.monitors.values())


TestSupervisor: Any = SupervisorMachine.TestCase
TestSignals: Any = SignalMachine.TestCase
TestSupervisor.settings = TestSignals.settings = settings(stateful_step_count=25)
