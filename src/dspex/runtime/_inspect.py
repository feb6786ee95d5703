"""Frozen snapshots of the tree, for people and programs that look at it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from dspex._guard import class_name, contained, exact_text, shown
from dspex.runtime._actor import Actor
from dspex.runtime._actor_process import ActorProcess
from dspex.runtime._children import Child
from dspex.runtime._exit import ExitReason
from dspex.runtime._parent import Parent
from dspex.runtime._process import Process

__all__ = ["TreeNode", "tree"]


@dataclass(frozen=True, slots=True, repr=False)
class TreeNode:
    """
    One process, or one child that should run and does not.

    Attributes:
        status: ``running``, ``starting``, ``suspended``, ``restarting``, ``stopped`` or ``ending``.
        restarts: The number of times its supervisor has restarted it.
        mailbox: Messages waiting now; ``high_water`` is the most there ever were in this incarnation.
        note: The actor's own few words about itself (``describe``).
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
        todo = [self]  # a stack of our own: a tree may be deeper than Python's
        while todo:
            node = todo.pop()
            yield node
            todo += reversed(node.children)

    def render(self, indent: str = "") -> str:
        """Return the tree as indented lines."""
        lines, todo = [], [(self, indent)]
        while todo:
            node, before = todo.pop()
            lines.append(before + node._line())
            todo += [(child, before + "  ") for child in reversed(node.children)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Return the tree for a notebook; every text in it is escaped."""
        return f"<pre>{escape(self.render())}</pre>"

    def _line(self) -> str:
        facts = [self.status] if self.status != "running" else []
        facts += [f"restarts {self.restarts}"] if self.restarts else []
        facts += [f"mailbox max {self.high_water}"] if self.high_water else []
        facts += [f"{self.tasks} tasks"] if self.tasks else []
        facts += [self.note] if self.note else []
        line = self.label + (f"  ({', '.join(facts)})" if facts else "")
        return line if line.isprintable() else " ".join(line.split())  # a label must not look like more lines

    def __repr__(self) -> str:
        return f"<TreeNode {self._line()}, {len(self.children)} below>"


def tree(process: Process) -> TreeNode:
    """Take a snapshot of ``process`` and all below it."""
    order: list[tuple[Process, Child | None, _Below]] = []
    todo: list[tuple[Process, Child | None]] = [(process, None)]
    while todo:  # a stack of our own: a tree may be deeper than Python's
        one, record = todo.pop()
        below = _below(one)
        order.append((one, record, below))
        todo += [(child, known) for child, known in below if child is not None]
    nodes: dict[Process, TreeNode] = {}
    for one, record, below in reversed(order):  # whoever is below comes first
        nodes[one] = _node(one, record, below, nodes)
    return nodes[process]


def _node(process: Process, record: Child | None, below: _Below, nodes: dict[Process, TreeNode]) -> TreeNode:
    tasks = sum(not isinstance(each, ActorProcess) for each in process.children)
    children = tuple([nodes[child] if child is not None else _absent(known) for child, known in below])
    known = record.restarts if record is not None else 0
    last = record.last_exit if record is not None else None
    if not isinstance(process, ActorProcess):
        return TreeNode(process.label, process.pid, _status(process), known, children=children, tasks=tasks)
    actor, mailbox = process.actor, process.mailbox
    return TreeNode(
        process.label,
        process.pid,
        _status(process),
        known,
        len(mailbox),
        mailbox.high_water,
        process.handled,
        last,
        _note(actor) if type(actor).describe is not Actor.describe else "",  # most have nothing to say
        tasks,
        children,
        process.busy_since,
    )


_Below = Sequence[tuple["ActorProcess | None", "Child | None"]]


def _below(process: Process) -> _Below:
    """Return the actors below a process, and their supervisor's records; one of the two is there."""
    actor = process.actor if isinstance(process, ActorProcess) else None
    if isinstance(actor, Parent):
        return [(record.process, record) for record in actor.records()]
    return [(each, None) for each in process.children if isinstance(each, ActorProcess)]


def _absent(record: Child | None) -> TreeNode:
    assert record is not None  # since there is no process
    return TreeNode(record.id, None, record.state, record.restarts, last_exit=record.last_exit)


def _note(actor: Actor) -> str:
    try:
        note: object = actor.describe()
        if inspect.iscoroutine(note):
            note.close()  # it must not warn that nobody awaited it
            return "describe is a coroutine function; it must be a plain one"
        return exact_text(note) if isinstance(note, str) else shown(note)
    except BaseException as error:  # noqa: BLE001 - an actor that cannot describe itself must not hide the others
        contained(error)
        return f"describe failed: {class_name(error)}"


def _status(process: Process) -> str:
    if process.exit_reason is not None:
        return "ending"
    if isinstance(process, ActorProcess) and process.started is not None:
        return "starting"
    if isinstance(process, ActorProcess) and process.suspended:
        return "suspended"
    return "running"
