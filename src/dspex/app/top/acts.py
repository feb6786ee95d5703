"""The things that whoever looks may do: which key does what to the chosen line, and what is asked before. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from dspex.app.dashboard.shapes import Plain

__all__ = ["Act", "Ask", "answered", "asked", "keys_shown"]

MOST_TYPED: Final = 2_000
"""Characters of a hint."""

_OVER: Final = frozenset({"finished", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class Act:
    """
    One thing to do.

    Attributes:
        what: ``requests``, ``actors`` or ``jobs``.
        whom: A request's id, an actor's pid, or a job's id.
        how: For example ``cancel``.
        words: The same in words, such as ``cancel request r7``.
        more: The arguments of ``steer``.
    """

    what: str
    whom: str
    how: str
    words: str
    more: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ask:
    """A question on the last line: whether an act is meant, or, where ``typed`` is a text, the words that it needs."""

    act: Act
    typed: str | None = None

    @property
    def words(self) -> str:
        """The question."""
        if self.typed is None:
            return f"{self.act.words}?  y yes  any other key: no"
        return f"{self.act.words}: {self.typed}_  (Enter sends it, Esc does not)"


def keys_shown(view: str, chosen: str | None, snapshot: Plain) -> list[str]:
    """Return the keys that do something to the chosen line, as they stand on the last line."""
    return [f"{key} {_KEYS[key, act.how]}" for key, (act, _) in _acts(view, chosen, snapshot).items()]


def asked(view: str, chosen: str | None, key: str, snapshot: Plain) -> Ask | Act | None:
    """Return what a key asks before it does something, or what it does at once; None for a key that does nothing."""
    found = _acts(view, chosen, snapshot).get(key)
    if found is None:
        return None
    act, how = found
    return act if how == "at once" else Ask(act, "" if how == "typed" else None)


def answered(ask: Ask, key: str) -> Ask | Act | None:
    """Return what follows from a key that is pressed on a question: the act, the same question, or None: nothing."""
    if ask.typed is None:
        return ask.act if key == "y" else None
    if key == "escape":
        return None
    if key == "enter":
        hint = ask.typed.strip()
        return replace(ask.act, more={"hint": hint}) if hint else None
    if key == "backspace":
        return replace(ask, typed=ask.typed[:-1])
    if len(key) == 1 and key.isprintable() and len(ask.typed) < MOST_TYPED:
        return replace(ask, typed=ask.typed + key)
    return ask


_KEYS: Final = {
    ("c", "cancel"): "cancel",
    ("r", "restart"): "restart",
    ("z", "suspend"): "suspend",
    ("u", "resume"): "resume",
    ("h", "pause"): "hold",
    ("h", "resume"): "go on",
    ("i", "steer"): "give a hint",
    ("d", "steer"): "drop",
}


def _acts(view: str, chosen: str | None, snapshot: Plain) -> dict[str, tuple[Act, str]]:
    """Return what each key does to the chosen line, and how: ``at once``, ``sure`` asks, ``typed`` needs words."""
    if chosen is None:
        return {}
    if view == "now":
        return _on_request(chosen) if chosen in snapshot["requests"] else {}
    if view == "tree":
        return _on_actor(chosen, snapshot["tree"].get(chosen))
    return _on_job(chosen, snapshot) if view == "jobs" else {}


def _on_request(request: str) -> dict[str, tuple[Act, str]]:
    return {"c": (Act("requests", request, "cancel", f"cancel request {request}"), "sure")}


def _on_actor(path: str, row: Plain | None) -> dict[str, tuple[Act, str]]:
    if row is None or row["pid"] is None or row["parent"] is None:
        return {}
    name, pid = path.removeprefix("App/"), str(row["pid"])
    below = " and all below it" if row.get("supervisor") else ""
    found = {"r": (Act("actors", pid, "restart", f"restart {name}{below}"), "sure")}
    if row["status"] == "suspended":
        found["u"] = (Act("actors", pid, "resume", f"resume {name}"), "at once")
    elif not row.get("supervisor"):
        found["z"] = (Act("actors", pid, "suspend", f"suspend {name}"), "sure")
    return found


def _on_job(chosen: str, snapshot: Plain) -> dict[str, tuple[Act, str]]:
    for job in (*snapshot["jobs"].values(), *snapshot.get("indexings", {}).values()):
        of = job["id"]
        if job["status"] in _OVER:
            continue
        if chosen == of:
            return _whole_job(job)
        for candidate in job.get("candidates", ()):
            key = candidate["key"]
            if chosen == f"{of} {key}" and "drop" in job.get("steered_by", ()):
                return {"d": (Act("jobs", of, "steer", f"drop candidate {key[:10]} of {of}", {"drop": key}), "sure")}
    return {}


def _whole_job(job: Plain) -> dict[str, tuple[Act, str]]:
    of, held = job["id"], bool(job.get("held"))
    how, word = ("resume", "resume") if held else ("pause", "hold")
    found = {"h": (Act("jobs", of, how, f"{word} job {of}"), "at once")}
    found["c"] = (Act("jobs", of, "cancel", f"cancel job {of}"), "sure")
    if "hint" in job.get("steered_by", ()):
        found["i"] = (Act("jobs", of, "steer", f"hint for {of}"), "typed")
    return found
