"""The supervision tree as rows, and what is remembered of it from one look to the next: restarts, oldest messages."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from dspex._guard import class_name
from dspex.app.dashboard.shapes import Plain
from dspex.runtime import Crashed, ExitReason, Other, Shutdown, TreeNode

__all__ = ["TreeNotes", "paths", "reason_text"]

MOST: Final = 2_000
"""Actors that are told one by one."""

DEATHS: Final = 40
"""Restarts that are remembered."""


def paths(root: TreeNode) -> Iterator[tuple[str, TreeNode, str | None]]:
    """Yield every node with a path that is its own, and its parent's; parents come before their children."""
    todo: list[tuple[str, TreeNode, str | None]] = [(root.label, root, None)]
    while todo:
        path, node, parent = todo.pop()
        yield path, node, parent
        taken: set[str] = set()
        below = []
        for child in node.children:
            name = f"{path}/{child.label}"
            if name in taken:
                name = f"{name}#{child.pid}"
            taken.add(name)
            below.append((name, child, path))
        todo += reversed(below)


def reason_text(reason: ExitReason | None, *, capture: bool) -> str:
    """Return an exit reason; without the words of an error, which may be a user's, unless they may be shown."""
    if reason is None:
        return ""
    if capture:
        return str(reason)[:400]
    if isinstance(reason, Crashed):
        return f"crashed: {class_name(reason.error)}"
    if isinstance(reason, Shutdown) and isinstance(reason.detail, BaseException):
        return f"shutdown: {class_name(reason.detail)}"
    if isinstance(reason, (Other, Shutdown)):
        return type(reason).__name__.lower()
    return str(reason)


class _Mailbox:
    """
    When the oldest message that waits came, as far as looks from time to time can tell.

    The number of messages that have come is those handled and those waiting. The oldest that waits has come by the
    first look at which more had come than are handled now.
    """

    __slots__ = ("looks",)

    def __init__(self) -> None:
        self.looks: deque[tuple[float, int]] = deque(maxlen=200)

    def oldest(self, now: float, waiting: int, handled: int) -> float | None:
        looks = self.looks
        if not waiting:
            looks.clear()
            return None
        if not looks or looks[-1][1] < handled + waiting:
            looks.append((now, handled + waiting))
        while len(looks) > 1 and looks[0][1] <= handled:
            looks.popleft()
        return looks[0][0]


class TreeNotes:
    """
    The memory of a tree from one look to the next.

    Args:
        origin: Where the times that are told begin.
        capture: True where the words of errors may be shown.
    """

    def __init__(self, *, origin: float, capture: bool) -> None:
        self._origin = origin
        self._capture = capture
        self._restarts: dict[str, int] = {}
        self._mailboxes: dict[str, _Mailbox] = {}
        self._at: dict[str, float] = {}
        self._rows: Plain = {}
        self._marks: dict[str, object] = {}
        self.deaths: deque[Plain] = deque(maxlen=DEATHS)
        """Restarts that were seen, oldest first; ``at`` is None for those before the first look."""
        self.number = 0

    def look(self, root: TreeNode, now: float, is_supervisor: Callable[[int | None], bool]) -> tuple[Plain, list[str]]:
        """
        Return the tree's rows by path, and the paths of those restarted since the last look.

        Args:
            root: The tree.
            now: The time of the look.
            is_supervisor: True for the pid of a supervisor; asked about rows that have changed.
        """
        rows: Plain = {}
        restarted = []
        known, first = self._restarts, not self._restarts
        seen: dict[str, int] = {}
        marks: dict[str, object] = {}
        for order, (path, node, parent) in enumerate(paths(root)):
            seen[path] = node.restarts
            if node.restarts > known.get(path, 0):
                self._note_death(path, node, None if first else round(now - self._origin, 3))
                if not first:
                    restarted.append(path)
                    self._at[path] = now
            if order < MOST:
                # The same object where nothing has changed: nobody has to compare it again. Of a thousand few have.
                mark = self._mark(order, path, node)
                row = self._rows.get(path) if mark is not None and self._marks.get(path) == mark else None
                if row is None:
                    row, last = self._row(order, path, node, parent, now), self._rows.get(path)
                    if is_supervisor(node.pid):
                        row["supervisor"] = True
                    row = last if last == row else row
                rows[path], marks[path] = row, mark
        self._restarts, self._rows, self._marks = seen, rows, marks
        for gone in self._mailboxes.keys() - seen.keys():
            del self._mailboxes[gone]
        return rows, restarted

    def _note_death(self, path: str, node: TreeNode, at: float | None) -> None:
        self.number += 1
        reason = reason_text(node.last_exit, capture=self._capture)
        self.deaths.append({"number": self.number, "path": path, "at": at, "restarts": node.restarts, "reason": reason})

    def _mark(self, order: int, path: str, node: TreeNode) -> object:
        """Return what changes whenever the row of an actor without messages does; None for one that has some."""
        if node.mailbox or node.busy_since is not None or path in self._mailboxes:
            return None
        return order, node.pid, node.status, node.high_water, node.restarts, node.last_exit, node.note, node.tasks

    def _row(self, order: int, path: str, node: TreeNode, parent: str | None, now: float) -> Plain:
        origin = self._origin
        row: Plain = {
            "order": order,
            "parent": parent,
            "label": node.label,
            "pid": node.pid,
            "status": node.status,
            "mailbox": node.mailbox,
            "most": node.high_water,
        }
        if node.mailbox or path in self._mailboxes:
            box = self._mailboxes.setdefault(path, _Mailbox())
            oldest = box.oldest(now, node.mailbox, node.handled)
            if oldest is not None:
                row["oldest"] = round(oldest - origin, 3)
        if node.busy_since is not None and now - node.busy_since > 0.05:
            row["busy"] = round(node.busy_since - origin, 3)
        if node.restarts:
            row["restarts"] = node.restarts
            if path in self._at:
                row["restarted"] = round(self._at[path] - origin, 3)
        if node.last_exit is not None:
            row["exit"] = reason_text(node.last_exit, capture=self._capture)
        if node.note:
            row["note"] = node.note[:200]
        if node.tasks:
            row["tasks"] = node.tasks
        return row
