"""The plugin as a user's conftest loads it: each fixture does its work, and says what is wrong."""

from __future__ import annotations

import pytest

from dspex.testing import pytest_plugin  # loaded before any run inside, which would else load all of dspex anew

PROGRAM = """
import dspex
import pytest

ask = dspex.Predict("question -> answer")
"""
pytestmark = pytest.mark.allow_blocking("a whole run of pytest inside")


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A user's project: the plugin is named in its conftest, and nothing else of ours is loaded."""
    assert pytest_plugin.__name__ == "dspex.testing.pytest_plugin"
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    pytester.makeconftest('pytest_plugins = ["dspex.testing.pytest_plugin"]')
    pytester.makeini("[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n")
    return pytester


def test_scripted_app_runs_and_wants_its_script_played(project: pytest.Pytester) -> None:
    """A test that asks less than it scripted fails; one that failed by itself says only that."""
    project.makepyfile(
        PROGRAM
        + """
async def test_runs(scripted_app):
    async with scripted_app([{"answer": "Ada"}]) as app:
        assert (await app.run(ask, question="Who?")).answer == "Ada"

def test_plain_code(scripted_app):
    with scripted_app([{"answer": "Ada"}], cache=None).sync() as app:
        assert app.run(ask, question="Who?").answer == "Ada"

def test_asks_less(scripted_app):
    scripted_app({"answer": [{"answer": "Ada"}]})

def test_fails_by_itself(scripted_app):
    scripted_app([{"answer": "Ada"}])
    assert False
"""
    )
    result = project.runpytest_inprocess()
    result.assert_outcomes(passed=3, failed=1, errors=1)
    result.stdout.fnmatch_lines(["*answers that nobody asked for, by path: [[]{'answer': 1}[]]*"])


def test_cassette_of_a_test_is_recorded_beside_it_and_played(project: pytest.Pytester) -> None:
    """First with a provider, then strictly, without one."""
    test = """
def test_asks(cassette{more}):
    lm = dspex.LM("openai/rules-1", api_base={base}, api_key="sk-not-to-be-kept")
    with dspex.App(lm, transport=cassette, cache=None).sync() as app:
        assert app.run(ask, question="echo this").answer == "echo this"
"""
    project.makepyfile(test_it=PROGRAM + test.format(more=", simulator", base="simulator.url"))
    project.runpytest_inprocess().assert_outcomes(passed=1)
    tape = project.path / "cassettes/test_it/test_asks.jsonl"
    assert "sk-not-to-be-kept" not in tape.read_text()

    project.makepyfile(test_it=PROGRAM + test.format(more="", base="'http://127.0.0.1:9/v1'"))
    project.runpytest_inprocess("--strict-cassettes").assert_outcomes(passed=1)
    tape.unlink()
    result = project.runpytest_inprocess("--strict-cassettes")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*CassetteMiss: *test_asks.jsonl has no answer*strict=True never records*"])


def test_what_a_test_leaves_open_fails_it(project: pytest.Pytester) -> None:
    """With the line that opened it."""
    project.makepyfile(
        """
import socket

kept = []

def test_leaves_nothing(no_leaks):
    socket.socket().close()

def test_leaves_a_socket(no_leaks):
    kept.append(socket.socket())

def test_closes_it():
    kept.pop().close()
"""
    )
    result = project.runpytest_inprocess()
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(["*socket*test_what_a_test_leaves_open_fails_it.py*"])
