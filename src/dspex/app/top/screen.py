"""The whole screen of ``dspex top``, and what a key does to it: pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from rich.text import Text

from dspex.app.dashboard.shapes import Plain
from dspex.app.top.acts import Ask, keys_shown
from dspex.app.top.cells import Line, count, cut, dollars, line, seconds
from dspex.app.top.views import VIEWS, View, toll_text

__all__ = ["Look", "Screen", "State", "frame", "keys_of", "meaning", "press"]

NARROWEST: Final = 40
"""Cells below which a screen is cut off on the right."""


@dataclass(frozen=True, slots=True)
class Look:
    """
    The choices of the viewer: the view, its order, a line, what is opened, and whether the picture stands still.

    ``ask`` is the question that the next key answers.
    """

    view: str = "now"
    orders: Mapping[str, int] = field(default_factory=dict)
    chosen: str | None = None
    opened: str | None = None
    first: int = 0
    paused: bool = False
    help: bool = False
    ask: Ask | None = None


@dataclass(frozen=True, slots=True)
class State:
    """Facts beside the snapshot: whom it is of, how the connection is, and whether the viewer can act."""

    title: str
    link: str = "live"
    tone: str = "green"
    notice: str = ""
    acts: bool = False


@dataclass(frozen=True, slots=True)
class Screen:
    """A screen: its lines, the keys of what can be chosen, and the first line of the view that is shown."""

    lines: list[Text]
    keys: list[str]
    first: int
    room: int


def frame(snapshot: Plain, state: State, look: Look, width: int, height: int | None) -> Screen:
    """
    Return the screen.

    Args:
        snapshot: The App.
        state: Whom it is of.
        look: The choices of the viewer.
        width: Cells of a line.
        height: Lines; None for as many as there are, without the line of keys.
    """
    width = max(width, NARROWEST)
    view = _view(look.view)
    body = HELP if look.help else view.lines(snapshot, width, _order(view, look), look.opened)
    keys = [each.key for each in body if each.key is not None]
    head = _head(snapshot, look, state, width)
    if height is None:
        return Screen([_whole(each, width) for each in (*head, *(line.text for line in body))], keys, 0, len(body))
    room = max(1, height - len(head) - 1)
    first = _first(body, look, room)
    shown = [_marked(each, look.chosen) for each in body[first : first + room]]
    doing = keys_shown(view.key, look.chosen, snapshot) if state.acts and not look.help else []
    foot = _foot(view, look, doing, len(body) - first - room, width)
    lines = [*head, *shown, *[Text()] * (room - len(shown)), foot]
    return Screen([_whole(each, width) for each in lines[:height]], keys, first, room)


def _view(name: str) -> View:
    return next(each for each in VIEWS if each.key == name)


def _order(view: View, look: Look) -> str:
    return view.orders[look.orders.get(view.key, 0) % len(view.orders)]


def _first(body: Sequence[Line], look: Look, room: int) -> int:
    """Return the first line to show, so that the chosen one is among them."""
    first = min(look.first, max(0, len(body) - room))
    place = next((at for at, each in enumerate(body) if each.key is not None and each.key == look.chosen), None)
    if place is not None:
        first = min(max(first, place - room + 1), place) if place else 0
    return first


def _marked(each: Line, chosen: str | None) -> Text:
    if each.key is None or each.key != chosen:
        return each.text
    text = each.text.copy()
    text.stylize("reverse")
    return text


def _whole(text: Text, width: int) -> Text:
    shown = text.copy()
    shown.truncate(width, overflow="ellipsis")
    return shown


def _head(snapshot: Plain, look: Look, state: State, width: int) -> list[Text]:
    app = snapshot["app"]
    link = ("paused: p goes on", "yellow") if look.paused else (state.link, state.tone)
    title = cut(state.title, max(10, width - 40))
    first = line(("dspex top ", "bold"), title, "  ", link, f"  watched for {seconds(snapshot['at'])}")
    figures = [("running", app["running"], ""), ("waiting", app["waiting"], "yellow"), ("done", app["completed"], "")]
    figures += [("failed", app["failed"], "red"), ("lost", app["lost"], "red")]
    told: list[str | tuple[str, str]] = []
    for name, value, style in figures:
        told += [(f"{name} ", "dim"), (count(value), style if value else ""), "  "]
    told += [(dollars(app["spent"]), "bold")]
    if app["unpriced"]:
        told += [(f" and {count(app['unpriced'])} calls of unknown price", "yellow")]
    if app["per_second"] is not None:
        told += [("  ", ""), f"{app['per_second']:g}/s"]
    if app["per_minute"] is not None:
        told += [f"  {dollars(app['per_minute'])}/min"]
    told += [("  actors ", "dim"), count(app["actors"])]
    down = [line((f"down: {', '.join(app['down'])}", "red"))] if app["down"] else []
    toll = _wrapped(toll_text(snapshot), width)
    tone = "red" if app["lost"] or snapshot["toll"]["failed"] else "green" if snapshot["toll"]["deaths"] else "dim"
    about = [line((each, "yellow")) for each in _wrapped(cut(app.get("note", ""), 4 * width), width) if each]
    notice = [line((cut(state.notice, width), "yellow"))] if state.notice else []
    return [first, *about, line(*told), *down, *(line((each, tone)) for each in toll), *notice, _tabs(look, width)]


def _wrapped(text: str, width: int) -> list[str]:
    """Return a sentence in four lines at most, broken between words."""
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width and len(lines) < 4:
            lines.append(word)
        else:
            lines[-1] += f"{' ' if lines[-1] else ''}{word}"
    return lines


def _tabs(look: Look, width: int) -> Text:
    wide = sum(len(each.title) + 4 for each in VIEWS) <= width
    found = Text(no_wrap=True)
    for number, each in enumerate(VIEWS, 1):
        style = "bold reverse" if each.key == look.view and not look.help else "dim"
        found.append(f" {number} {each.title if wide else each.short} ", style)
    return found


def _foot(view: View, look: Look, doing: Sequence[str], more: int, width: int) -> Text:
    if look.ask is not None:
        words = look.ask.words
        return line((cut(words if look.ask.typed is None else words[-width + 1 :], width), "bold reverse"))
    order = f"s order: {_order(view, look)}" if len(view.orders) > 1 else ""
    keys = [*doing, order, "↑↓ choose", "⏎ open", "p pause", "? help", "q quit"]
    told = "  ".join(each for each in keys if each)
    below = f"{more} more lines" if more > 0 else ""
    return line((f"{told}  {below}"[:width].rstrip(), "dim"))


_HELP_TEXT: Final = """\
1 to 7        choose a view; ← → go to the one beside it
↑ ↓ (k, j)    choose a line; Page up, Page down, Home, End go further
Enter         open a request: its steps and attempts; open an actor
s             change the order of the lines
p (space)     pause: the picture stands still; again: it goes on
?             this help; Esc closes it, and what is open
q             quit: the App goes on

With a line chosen, of an App that runs (the last line tells which keys do something to it):
c             cancel a request, or a job
r z u         restart, suspend or resume an actor
h i d         hold a job or let it go on; give it a hint; drop a candidate
              Whatever breaks something off asks before: y does it, any other key does not.

failed        requests that ended in an error which their caller was told
lost          requests that were taken and never ended: always 0
waited for it requests that were at a part when it died: they wait until it is back
paid twice    calls that were on the wire when their step died, and are sent again
"""

HELP: Final = [Line(line(each)) for each in _HELP_TEXT.splitlines()]


# --- keys -----------------------------------------------------------------------------------------------------

_NAMED: Final = {
    "[A": "up", "[B": "down", "[C": "right", "[D": "left", "OA": "up", "OB": "down", "OC": "right", "OD": "left",
    "[5~": "pageup", "[6~": "pagedown", "[H": "home", "[F": "end", "[1~": "home", "[4~": "end", "OH": "home",
    "OF": "end", "[Z": "left",
}  # fmt: skip
_SIGNS: Final = {
    "\r": "enter",
    "\n": "enter",
    " ": "p",
    "\t": "right",
    "k": "up",
    "j": "down",
    "\x03": "q",
    "\x04": "q",
}
_TYPED: Final = {"\r": "enter", "\n": "enter", "\x7f": "backspace", "\b": "backspace", "\x03": "escape"}
_SEQUENCE: Final = re.compile(r"\[[0-9;?]*[ -/]*[@-~]|O[@-~]")
_BEGUN: Final = re.compile(r"\[[0-9;?]{0,16}|O")


def keys_of(text: str) -> tuple[list[str], str]:
    """Return the signs that a terminal has sent, arrows by name, and the beginning of one that has not come whole."""
    found, at = [], 0
    while at < len(text):
        if text[at] != "\x1b":
            found.append(text[at])
            at += 1
            continue
        sequence = _SEQUENCE.match(text, at + 1)
        if sequence is not None:
            found.append(_NAMED.get(sequence[0], ""))
            at = sequence.end()
        elif at + 1 == len(text) or _BEGUN.fullmatch(text, at + 1):
            return found, text[at:]
        else:
            found.append("escape")
            at += 1
    return found, ""


def meaning(key: str, *, typed: bool) -> str:
    """Return the name of a sign as a key, or as a part of a text that is ``typed``."""
    return (_TYPED if typed else _SIGNS).get(key, key)


def press(look: Look, key: str, shown: Screen) -> Look | None:
    """Return what the viewer sees after a key; None for the one that quits."""
    if key == "q":
        return None
    if key == "?":
        return replace(look, help=not look.help, first=0)
    if key == "escape":
        return replace(look, help=False, opened=None)
    if key == "p":
        return replace(look, paused=not look.paused)
    view = _view(look.view)
    if key == "s" and not look.help:
        return replace(look, orders={**look.orders, view.key: look.orders.get(view.key, 0) + 1}, first=0, chosen=None)
    if key == "enter" and not look.help:
        return replace(look, opened=None if look.opened == look.chosen else look.chosen)
    if key in ("left", "right"):
        place = VIEWS.index(view) + (1 if key == "right" else -1)
        return _at(look, VIEWS[place % len(VIEWS)].key)
    if key.isdecimal() and 1 <= int(key) <= len(VIEWS):
        return _at(look, VIEWS[int(key) - 1].key)
    return _moved(look, key, shown)


def _at(look: Look, view: str) -> Look:
    return replace(look, view=view, first=0, chosen=None, opened=None, help=False)


_STEPS: Final = {"up": -1, "down": 1, "pageup": -10_000, "pagedown": 10_000, "home": -(10**9), "end": 10**9}


def _moved(look: Look, key: str, shown: Screen) -> Look:
    step = _STEPS.get(key, 0)
    step = {"pageup": -shown.room, "pagedown": shown.room}.get(key, step)
    if not step:
        return look
    if look.help or not shown.keys:
        return replace(look, first=max(0, shown.first + step))
    if look.chosen not in shown.keys:
        return replace(look, chosen=shown.keys[-1] if key == "end" else shown.keys[0], first=shown.first)
    place = min(max(shown.keys.index(look.chosen) + step, 0), len(shown.keys) - 1)
    return replace(look, chosen=shown.keys[place], first=shown.first)
