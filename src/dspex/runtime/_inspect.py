"""Frozen snapshots of the tree, for people and programs that look at it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dspex.runtime._actor import Actor
from dspex.runtime._actor_process import ActorProcess
from dspex.runtime._children import Child
from dspex.runtime._exit import ExitReason
from dspex.runtime._parent import Parent
from dspex.runtime._process import Process

__all__ = ["TreeNode", "tree"]


@dataclass(frozen=True, slots=True)
class TreeNode:
    """
    One process, or one child that should run and does not.

    Attributes:
        status: ``running``, ``starting``, ``suspended``, ``restarting``, ``stopped`` or ``ending``.
        restarts: How often its supervisor has restarted it.
        mailbox: Messages waiting now; ``high_water`` is the most there ever were in this incarnation.
        note: What the actor says of itself in a few words (``describe``).
        busy_since: When it began to handle the message it is at, by the runtime's clock; None when it waits for one.
    """

    label: str
    pid: int | None
    status: str
    restarts: int = 0
    mailbox: int = 0
    high_water: int = 0
    handled: int = 0
    last_exit: ExitReason | None = None
    note: str = ""
    tasks: int = 0
    children: tuple[TreeNode, ...] = ()
    busy_since: float | None = None

    def walk(self) -> Iterator[TreeNode]:
        """Yield this node and all below it."""
        yield self
        for child in self.children:
            yield from child.walk()

    def render(self, indent: str = "") -> str:
        """Return the tree as indented lines."""
        facts = [self.status] if self.status != "running" else []
        facts += [f"restarts {self.restarts}"] if self.restarts else []
        facts += [f"mailbox max {self.high_water}"] if self.high_water else []
        facts += [f"{self.tasks} tasks"] if self.tasks else []
        facts += [self.note] if self.note else []
        line = indent + self.label + (f"  ({', '.join(facts)})" if facts else "")
        return "\n".join([line, *(child.render(indent + "  ") for child in self.children)])


def tree(process: Process) -> TreeNode:
    """Take a snapshot of ``process`` and all below it."""
    return _node(process, None)


def _node(process: Process, record: Child | None) -> TreeNode:
    children, tasks = _children(process)
    known = record.restarts if record is not None else 0
    last = record.last_exit if record is not None else None
    if not isinstance(process, ActorProcess):
        return TreeNode(process.label, process.pid, _status(process), known, children=children, tasks=tasks)
    return TreeNode(
        process.label,
        process.pid,
        _status(process),
        known,
        len(process.mailbox),
        process.mailbox.high_water,
        process.handled,
        last,
        _note(process.actor),
        tasks,
        children,
        process.busy_since,
    )


def _children(process: Process) -> tuple[tuple[TreeNode, ...], int]:
    """Return the nodes below a process, and how many plain tasks it owns."""
    owned = process.children
    tasks = sum(not isinstance(each, ActorProcess) for each in owned)
    actor = process.actor if isinstance(process, ActorProcess) else None
    if not isinstance(actor, Parent):
        return tuple(_node(each, None) for each in owned if isinstance(each, ActorProcess)), tasks
    nodes = []
    for record in actor.records():
        if record.process is not None:
            nodes.append(_node(record.process, record))
        else:
            nodes.append(TreeNode(record.id, None, record.state, record.restarts, last_exit=record.last_exit))
    return tuple(nodes), tasks


def _note(actor: Actor) -> str:
    try:
        return actor.describe()
    except Exception as error:  # noqa: BLE001 - an actor that cannot describe itself must not hide the others
        return f"describe failed: {type(error).__name__}"


def _status(process: Process) -> str:
    if process.exit_reason is not None:
        return "ending"
    if isinstance(process, ActorProcess) and process.started is not None:
        return "starting"
    if isinstance(process, ActorProcess) and process.suspended:
        return "suspended"
    return "running"
