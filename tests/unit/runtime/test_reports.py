"""The log of deaths, restarts and refusals: who, what and why, in one line of a bounded length."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, ClassVar

import pytest

from dspex.runtime import (
    Actor,
    Application,
    Backoff,
    ChildSpec,
    Crashed,
    ExitReason,
    From,
    Next,
    Other,
    Reply,
    RestartLimit,
    Runtime,
    Shutdown,
    StartFailed,
    Supervisor,
    get_logger,
)
from dspex.runtime._sentences import nth, path_of, said, sentence, where, why
from dspex.testing import VirtualClock

NAME = "rules-1"


class Odd(BaseException):
    pass


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError

    __repr__ = __str__


class OddText(Exception):
    def __str__(self) -> str:
        raise Odd


class Rules(Actor):
    """Raises what it is sent, and starts unless told not to."""

    failing: ClassVar[list[Exception]] = []

    async def init(self) -> None:
        if self.failing:
            raise self.failing.pop()

    async def handle_call(self, message: Any, sender: From) -> Next:
        if isinstance(message, BaseException):
            raise message
        return Reply(message)


@pytest.fixture(autouse=True)
def heard(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    Rules.failing.clear()
    caplog.set_level(logging.INFO, "dspex")
    return caplog


async def tree(runtime: Runtime, **options: Any) -> None:
    leaf = ChildSpec(NAME, Rules, name=NAME)
    inner = ChildSpec("openai-1", Supervisor, ([leaf],), options)
    await runtime.start(Supervisor([inner], max_restarts=0), label="lm")


async def crash(runtime: Runtime, error: BaseException) -> None:
    with pytest.raises(Exception, match=NAME):
        await runtime.named(NAME).call(error)
    await settle(runtime)


async def settle(runtime: Runtime) -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def fields(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, Any]]:
    return [vars(each) for each in caplog.records if vars(each).get("event") == event]


async def test_a_restart_says_who_how_often_and_why(
    runtime: Runtime, clock: VirtualClock, heard: pytest.LogCaptureFixture
) -> None:
    """The fields stand beside the sentence, as they always have."""
    await tree(runtime, max_restarts=9, max_seconds=5.0)
    for number in range(3):
        await crash(runtime, ConnectionError(f"no route ({number})"))
    await clock.advance(6.0)
    await crash(runtime, KeyError("k"))
    said_so = [each for each in heard.messages if "restarting" in each]
    assert said_so == [
        "lm/openai-1/rules-1 restarting (1st time in 5 s): ConnectionError: no route (0)",
        "lm/openai-1/rules-1 restarting (2nd time in 5 s): ConnectionError: no route (1)",
        "lm/openai-1/rules-1 restarting (3rd time in 5 s): ConnectionError: no route (2)",
        "lm/openai-1/rules-1 restarting (1st time in 5 s): KeyError: 'k'",
    ]
    first = fields(heard, "restarting")[0]
    assert (first["supervisor"], first["child"]) == ("openai-1", NAME)
    assert first["reason"] == "crashed: ConnectionError: no route (0)"
    assert first["path"] == "lm/openai-1/rules-1"
    assert "says" not in first


async def test_a_restart_is_told_to_whoever_watches(runtime: Runtime) -> None:
    """Once for each, when its end is known and before it is back; nobody is told who has left."""
    told: list[str] = []
    tell = told.append
    await tree(runtime, max_restarts=9, max_seconds=5.0)
    runtime.restart_watchers.add(tell)
    await crash(runtime, ConnectionError("one"))
    await crash(runtime, ConnectionError("two"))
    runtime.restart_watchers.discard(tell)
    await crash(runtime, ConnectionError("three"))

    assert told == [f"lm/openai-1/{NAME}"] * 2


async def test_a_crash_says_who_and_at_what(runtime: Runtime, heard: pytest.LogCaptureFixture) -> None:
    """With the traceback; and whoever looks for the event's name alone finds it at the lowest level."""
    heard.set_level(logging.DEBUG, "dspex")
    await tree(runtime)
    await crash(runtime, ConnectionError("no route"))
    crashes = fields(heard, "actor crashed")
    assert [(each["message"], each["levelname"]) for each in crashes] == [
        ("actor crashed", "DEBUG"),
        (
            "lm/openai-1/rules-1 crashed while it handled ConnectionError('no route'): ConnectionError: no route",
            "ERROR",
        ),
    ]
    assert (crashes[1]["actor"], crashes[1]["last_call"]) == (NAME, "ConnectionError('no route')")
    assert isinstance(crashes[1]["exc_info"][1], ConnectionError)
    heard.clear()
    lonely = await runtime.start(Rules(), label="lonely")

    class Leaving(Rules):
        async def handle_cast(self, message: Any) -> Next:
            raise message

    lonely = await runtime.start(Leaving(), label="lonely")
    lonely.cast(ValueError("{braces} and 100 %s\nin two lines"))
    await lonely.wait_exit()
    assert heard.messages[-1] == "lonely crashed: ValueError: {braces} and 100 %s in two lines"


async def test_giving_up_says_what_was_allowed(runtime: Runtime, heard: pytest.LogCaptureFixture) -> None:
    """By the limit that counts: the child's own, or its supervisor's."""
    await tree(runtime, max_restarts=0, max_seconds=5.0)
    await crash(runtime, ValueError("no"))
    assert heard.messages[-2:] == [
        "lm/openai-1 restarting (1st time in 5 s): shutdown",
        "lm gives up: more than 0 restarts in 5 s, the last of openai-1: shutdown",
    ]
    assert "lm/openai-1 gives up: more than 0 restarts in 5 s, the last of rules-1: ValueError: no" in heard.messages
    leaf = ChildSpec("leaf", Rules, limit=RestartLimit(0, 60))
    top = await runtime.start(Supervisor([leaf]), label="top")
    top._process.children[0].receive_exit(Other("boom"), None)
    await top.wait_exit()
    assert heard.messages[-1] == "top gives up: more than 0 restarts in 60 s, the last of leaf: boom"


async def test_a_failed_start_says_how_often_and_why(
    runtime: Runtime, clock: VirtualClock, heard: pytest.LogCaptureFixture
) -> None:
    """Of a service that goes on trying."""
    top = Supervisor([ChildSpec(NAME, Rules, name=NAME)], backoff=Backoff(1.0, 1.0))
    await runtime.start(top, label="lm")
    Rules.failing += [OSError("second"), Unprintable()]
    ref = runtime.whereis(NAME)
    assert ref is not None
    ref.kill()
    await clock.advance(3.0)
    assert heard.messages == [
        "lm/rules-1 restarting (1st time in 5 s): killed",
        "lm/rules-1 failed to start (1st time running): Unprintable: <Unprintable that cannot be shown>",
        "lm/rules-1 failed to start (2nd time running): OSError: second",
    ]


async def test_what_is_not_handled_is_named(runtime: Runtime, heard: pytest.LogCaptureFixture) -> None:
    """By who got it."""
    ref = await runtime.start(Rules(), label="lonely")
    ref.send("x" * 10_000)
    await settle(runtime)
    (message,) = heard.messages
    assert message.startswith("lonely has no handler for a message, which is dropped: 'xxx")
    assert len(message) < 400
    assert fields(heard, "unexpected message")[0]["actor"] == "lonely"


async def test_an_application_says_why_it_ended(clock: VirtualClock, heard: pytest.LogCaptureFixture) -> None:
    """And which hook failed."""

    class Shop(Application):
        async def stop(self, state: Any) -> None:
            raise OSError("full")

    shop = Shop([ChildSpec("till", Rules, name="till")], max_restarts=0, runtime=Runtime(clock=clock))
    shop.runtime.open()
    await shop.open()
    till = shop.runtime.whereis("till")
    assert till is not None
    till.kill()
    assert await shop.wait() == Shutdown()
    assert heard.messages[-2:] == [
        "the application Shop ended by itself: shutdown",
        "the hook stop of the application Shop failed: OSError: full",
    ]
    await shop.runtime.close()


# --- the words ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1, "1st"),
        (2, "2nd"),
        (3, "3rd"),
        (4, "4th"),
        (11, "11th"),
        (12, "12th"),
        (13, "13th"),
        (21, "21st"),
        (112, "112th"),
    ],
)
def test_ordinals(number: int, text: str) -> None:
    assert nth(number) == text


def test_whatever_a_value_makes_of_it_it_is_shown_in_one_short_line() -> None:
    """No text of a user's may be long, have lines or raise, not even what is not an Exception."""
    assert said("a\nb\t c") == "a b c"
    assert said("x" * 1000, 10) == "x" * 9 + "…"
    assert said(OddText()) == "<OddText that cannot be shown>"
    assert why(Crashed(ValueError("no"))) == "ValueError: no"
    assert why(Crashed(ValueError())) == "ValueError"
    assert "cannot be shown" in why(Other(OddText()))
    assert why(StartFailed("c", "why")) == "StartFailed: c failed to start: why"
    assert why(Shutdown("told to")) == "shutdown (told to)"


def test_a_sentence_that_cannot_be_made_is_the_event() -> None:
    """A template that is wrong must not cost the report."""
    assert sentence("event", {"who": "me"}) == "event"
    assert sentence("event", {"says": "{who} did", "who": "me"}) == "me did"
    assert sentence("event", {"says": "{error}", "exc_info": KeyError("k")}) == "KeyError: 'k'"
    for wrong in ("{unknown}", "{", "{0}", "{who.x}"):
        assert sentence("event", {"says": wrong, "who": "me"}) == "event"


def test_the_innermost_place_of_a_stack() -> None:
    assert (
        where('  File "a.py", line 1, in f\n    g()\n  File "b.py", line 2, in g\n    h()\n')
        == 'File "b.py", line 2, in g'
    )
    assert where("") == "an unknown place"


async def test_the_path_of_a_deep_process_is_its_lower_end(runtime: Runtime) -> None:
    """Twelve levels, with labels that are cut."""
    spec = ChildSpec("l" * 100, Rules, name="leaf")
    for level in range(20):
        spec = ChildSpec(f"{level}", Supervisor, ([spec],))
    await runtime.start(Supervisor([spec]), label="top")
    leaf = runtime.whereis("leaf")
    assert leaf is not None
    path = path_of(leaf._process)
    assert path.split("/") == ["…", *map(str, range(10, -1, -1)), "l" * 79 + "…"]


def test_a_room_of_ones_own_speaks_the_same_way(heard: pytest.LogCaptureFixture) -> None:
    """``get_logger`` is public: fields, an event, and a sentence where one is given."""
    log = get_logger("shop")
    log.warning("sold out", says="{what} is sold out", what="milk")
    log.info("open")
    first, second = heard.records
    assert (first.getMessage(), vars(first)["event"], vars(first)["what"]) == ("milk is sold out", "sold out", "milk")
    assert (second.getMessage(), vars(second)["event"]) == ("open", "open")


class Ended(Actor):
    trap_exit: ClassVar[bool] = True
    terminate_timeout: ClassVar[float | None] = 1.0

    async def terminate(self, reason: ExitReason) -> None:
        await asyncio.get_running_loop().create_future()


async def test_who_takes_too_long_is_named(
    runtime: Runtime, clock: VirtualClock, heard: pytest.LogCaptureFixture
) -> None:
    """With the time it had."""
    ref = await runtime.start(Ended(), label="slow")
    ref.exit()
    stopping = asyncio.ensure_future(ref.stop())
    await clock.advance(1.0)
    await asyncio.wait([stopping])
    stopping.exception()
    assert "slow is ended: its terminate took longer than 1.0 s" in heard.messages


async def test_what_closes_badly_is_named(
    runtime: Runtime, clock: VirtualClock, heard: pytest.LogCaptureFixture
) -> None:
    """The same when it raises and when it takes too long."""

    async def never(_: object) -> None:
        await asyncio.get_running_loop().create_future()

    async def late(_: object) -> None:
        raise OSError("late")

    class Owning(Actor):
        async def init(self) -> None:
            self.own("a socket", lambda _: 1 // 0)
            self.own("another", late)
            self.own("a third", never)

    ref = await runtime.start(Owning(), label="owner")
    ref.kill()
    await clock.advance(5.0)
    await ref.wait_exit()
    assert "'a socket' could not be closed: ZeroDivisionError: integer division or modulo by zero" in heard.messages
    assert "owner took longer than 2.0 s to close its resources: those that are left begin now" in heard.messages
