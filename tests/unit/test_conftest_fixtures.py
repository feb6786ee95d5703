"""The fixtures of tests/support really fail the tests they should fail, and no others."""

from __future__ import annotations

import textwrap
import time
from pathlib import Path

import pytest

PLUGINS = """
import pytest
pytest_plugins = ["tests.support.leaks", "tests.support.blocked_loop"]

@pytest.fixture(scope="session")
def blocked_loop_seconds():
    return 0.2
"""
SETTINGS = """
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
markers = allow_blocking(reason)
"""
IMPORTS = """
import asyncio, hashlib, os, re, socket, subprocess, sys, threading, time
import pytest
from hypothesis import given, settings, strategies as st
"""


def run(pytester: pytest.Pytester, source: str) -> pytest.RunResult:
    """Run a test file under the fixtures, in a session of its own."""
    pytester.makeconftest(PLUGINS)
    pytester.makeini(SETTINGS)
    pytester.makepyfile(test_inner=IMPORTS + textwrap.dedent(source))
    return pytester.runpytest_inprocess("-p", "no:cacheprovider")


def test_a_left_task_fails_the_test_and_is_named_with_its_origin(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        async def wait_for_ever():
            await asyncio.get_running_loop().create_future()

        async def test_leak():
            task = asyncio.create_task(wait_for_ever(), name="the-left-one")
            await asyncio.sleep(0)
        """,
    )

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(
        ["*task 'the-left-one' running wait_for_ever, now at *; created at *test_inner.py:* in test_leak*"]
    )


def test_a_task_left_by_an_asynchronous_fixture_is_seen(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        @pytest.fixture
        async def careless():
            task = asyncio.create_task(asyncio.Event().wait(), name="from-fixture")
            yield task

        async def test_leak(careless):
            assert not careless.done()
        """,
    )

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*task 'from-fixture' running Event.wait*"])


def test_a_task_made_without_the_loop_is_named_too(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        async def test_leak():
            loop = asyncio.get_running_loop()
            test_leak.task = asyncio.Task(asyncio.Event().wait(), loop=loop, name="made-directly")
        """,
    )

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*task 'made-directly' running Event.wait*; origin unknown"])


def test_a_left_thread_fails_the_test_and_is_named_with_its_origin(pytester: pytest.Pytester) -> None:
    released = """
        go = threading.Event()

        def test_leak():
            threading.Thread(target=go.wait, name="the-left-thread", daemon=True).start()

        def test_end():
            go.set()
    """
    result = run(pytester, released)

    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*thread 'the-left-thread'; created at *test_inner.py:* in test_leak*"])


def test_a_left_socket_fails_the_test_and_is_named_with_its_origin(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        kept = []

        def test_leak():
            kept.append(socket.socket())

        def test_end():
            kept.pop().close()
        """,
    )

    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*socket <socket.socket *; created at *test_inner.py:* in test_leak*"])


def test_a_left_file_fails_the_test_and_is_named(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        kept = []

        def test_leak(tmp_path):
            kept.append((tmp_path / "left.txt").open("w"))

        def test_end():
            kept.pop().close()
        """,
    )

    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*open file *left.txt"])


def test_a_held_loop_fails_the_test_and_shows_what_held_it(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        def hold():
            time.sleep(0.6)

        async def test_blocked():
            hold()
        """,
    )

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["the event loop stood still for * s, in", "*in hold", "*time.sleep(0.6)*"])


def test_a_loop_held_with_the_interpreter_lock_is_seen(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        async def test_blocked():
            started = time.process_time()
            size = 20
            while time.process_time() - started < 0.5:  # one long match on any machine
                started = time.process_time()
                re.match("(a+)+$", "a" * size + "b")
                size += 1
        """,
    )

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["the event loop stood still for *"])


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="this kernel does not count the waits")
def test_a_loop_that_waits_for_a_processor_is_not_held(pytester: pytest.Pytester) -> None:
    """Others take the processor from what is short work; a loop that sleeps beside them is held all the same."""
    result = run(
        pytester,
        """
        @pytest.fixture
        def crowd():
            mine = os.sched_getaffinity(0)
            os.sched_setaffinity(0, {min(mine)})
            busy = [sys.executable, "-c", "print(flush=True)\\nwhile True: pass"]
            crowd = [subprocess.Popen(busy, stdout=subprocess.PIPE) for _ in range(7)]
            for each in crowd:
                each.stdout.readline()
            yield
            for each in crowd:
                each.kill()
                each.communicate()
            os.sched_setaffinity(0, mine)

        async def test_starved(crowd):
            data, began, started = bytes(1_000_000), time.monotonic(), time.thread_time()
            while time.thread_time() - started < 0.08:
                hashlib.sha256(data)  # without the interpreter lock
            assert time.monotonic() - began > 0.3

        async def test_asleep(crowd):
            time.sleep(0.6)
        """,
    )

    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_asleep*", "*time.sleep(0.6)*"])


def test_a_marked_test_may_hold_its_loop_but_needs_a_reason(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        @pytest.mark.allow_blocking("shows that it may")
        async def test_allowed():
            time.sleep(0.6)

        @pytest.mark.allow_blocking
        async def test_no_reason():
            pass
        """,
    )

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*allow_blocking needs a reason*"])


def test_clean_tests_of_every_kind_pass(pytester: pytest.Pytester) -> None:
    """A thing that ends by itself, within the loop's next turns or with the loop, is not left behind."""
    result = run(
        pytester,
        """
        @pytest.fixture
        async def server():
            server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
            yield server
            server.close()
            await server.wait_closed()

        @pytest.fixture(scope="module")
        def shared():
            with socket.socket() as listener:
                yield listener

        async def test_server(server, shared):
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            await reader.read()
            writer.close()
            await writer.wait_closed()

        async def test_cancelled_at_the_end():
            asyncio.create_task(asyncio.sleep(60)).cancel()

        async def test_thread_of_the_default_executor():
            await asyncio.to_thread(time.monotonic)

        async def test_wait_is_no_block():
            await asyncio.sleep(0.5)

        def test_synchronous_wait():
            time.sleep(0.5)

        def test_loop_of_its_own():
            asyncio.run(asyncio.sleep(0))

        @given(st.integers())
        def test_property(number):
            assert number == number

        @settings(max_examples=5, deadline=None)
        @given(st.integers())
        async def test_asynchronous_property(number):
            await asyncio.sleep(0)

        class TestInClass:
            async def test_method(self):
                await asyncio.sleep(0)

        @pytest.mark.asyncio(loop_scope="module")
        async def test_shared_loop():
            await asyncio.sleep(0)
        """,
    )

    result.assert_outcomes(passed=10)


@pytest.mark.slow
def test_the_fixtures_cost_little(pytester: pytest.Pytester) -> None:
    """Four hundred empty tests take at most three milliseconds each more than without the fixtures."""
    source = "import pytest\n@pytest.mark.parametrize('n', range(400))\nasync def test_empty(n):\n    pass\n"
    pytester.makeini(SETTINGS)
    pytester.makepyfile(test_inner=source)

    def seconds() -> float:
        """Return the processor's, of which other processes take none."""
        began = time.process_time()
        pytester.runpytest_inprocess("-p", "no:cacheprovider")
        return time.process_time() - began

    bare = min(seconds() for _ in range(3))
    pytester.makeconftest(PLUGINS)
    watched = min(seconds() for _ in range(3))

    assert watched - bare < 400 * 0.003
