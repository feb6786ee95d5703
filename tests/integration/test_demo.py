"""The demo as a user starts it: what it says, how it ends, and how it is stopped."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dspex.app.demo.ending import YOURS

SAYS_SO = (
    "The model here is a rule learner without weights: it cannot read, it only notices which rule the demonstrations "
    "follow. --lm puts a real one in its place."
)
ROWS = (
    "no demonstrations",
    "bootstrapped, swapped answers",
    "bootstrapped",
    "bootstrapped, gold passage",
)
RULES = {"title", "title_first", "title_tail", "sentence", "span", "echo", "nearest"}


@contextmanager
def running(folder: Path, *arguments: str, options: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[str]]:
    """
    A dspex of its own session, with its temporary files in ``folder``; killed if it outlives the block.

    ``options`` go to the interpreter.
    """
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "OPENAI_API_KEY")}
    with subprocess.Popen(
        [sys.executable, "-W", "error", *options, "-m", "dspex", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**kept, "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def is_empty(session: int) -> bool:
    """True when no process of the group is left, grandchildren included."""
    try:
        os.killpg(session, 0)
    except ProcessLookupError:
        return True
    return False


# --- once through -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The output of the demo, and its end."""
    folder = tmp_path_factory.mktemp("demo")
    with running(folder, "demo") as child:
        out, err = child.communicate(timeout=110)
    assert (child.returncode, err) == (0, "")
    assert is_empty(child.pid)
    assert list(folder.iterdir()) == []
    return out


def score_rows(demo: str) -> dict[str, tuple[int, int, int, dict[str, int]]]:
    """Name to score, bounds and rules of each row of the table."""
    found = {}
    for name, score, low, high, rules in re.findall(
        r"^   (\S.*?) {2,}(\d+) % +(\d+) to (\d+) % +(.+)$", demo, flags=re.MULTILINE
    ):
        counts = {rule: int(count) for rule, count in (each.split(" ") for each in rules.split(", "))}
        found[name] = (int(score), int(low), int(high), counts)
    return found


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_it_says_what_the_model_is_above_the_tree(demo: str) -> None:
    lines = demo.splitlines()

    assert lines[lines.index(SAYS_SO) + 1].strip() == "App"


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_every_question_is_answered_while_actors_die(demo: str) -> None:
    killed = re.findall(r"killed (\S+), back in \d+ ms", demo)

    assert "300 of 300 answered" in demo
    assert "asked again: 300 of 300 from the cache" in demo
    assert len(killed) >= 3
    assert {"cache", "retrievers/default"} < set(killed)
    assert any(name.endswith("/rules-1") for name in killed)
    for fault in ("429", "500", "reset", "truncate"):
        assert re.search(rf"\d+x {fault}", demo)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_gain_comes_from_the_demonstrations(demo: str) -> None:
    rows = score_rows(demo)
    none, swapped, right, gold = (rows[name] for name in ROWS)

    assert tuple(rows) == ROWS
    assert swapped[1] <= none[2]  # their intervals meet: what is shown is no gain
    assert none[1] <= swapped[2]
    assert right[1] > none[2]
    assert gold[0] >= right[0]
    assert "The demonstrations: +" in demo
    assert "With their answers swapped: no gain" in demo


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_rules_are_told_of_every_answer(demo: str) -> None:
    for _, _, _, rules in score_rows(demo).values():
        assert sum(rules.values()) == 200
        assert set(rules) <= RULES


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_it_ends_with_the_tree_the_latencies_and_code(demo: str) -> None:
    assert re.search(r"cache  \(restarts [1-9].*mailbox max", demo)
    assert re.search(r"p50 [\d.]+, p95 [\d.]+, p99 [\d.]+", demo)
    assert re.search(
        r"[\d,]+ calls paid for, [\d,]+ tokens, \$[\d.]+ by invented prices; [1-9][\d,]* answers from", demo
    )
    assert "class RAG(dspex.Module):" in demo


# --- stopped ------------------------------------------------------------------------------------------------

MOMENTS = [
    pytest.param("1. ", id="indexing"),
    pytest.param("3. ", id="beginning to ask", marks=pytest.mark.slow),
    pytest.param("killed ", id="asking"),
    pytest.param("4. ", id="bootstrapping", marks=pytest.mark.slow),
    pytest.param("   BootstrapFewShot", id="scoring", marks=pytest.mark.slow),
]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("line", MOMENTS)
def test_ctrl_c_ends_it_there_and_then(tmp_path: Path, line: str) -> None:
    """It does not go on to its end, and leaves nothing."""
    with running(tmp_path, "demo", "--questions", "50") as child:
        assert child.stdout is not None
        seen = ""
        while line not in seen:
            seen = child.stdout.readline()
            assert seen
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (130, "")
    assert "6. " not in out
    assert is_empty(child.pid)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.timeout(120)
def test_ctrl_c_ends_it_while_it_is_being_imported(tmp_path: Path) -> None:
    with running(tmp_path, "demo", options=("-X", "importtime")) as child:
        assert child.stderr is not None
        while not (seen := child.stderr.readline()).rstrip().endswith(" typer"):  # the first that its main() imports
            assert seen
        child.send_signal(signal.SIGINT)
        out, _ = child.communicate(timeout=60)
    assert (child.returncode, out) == (130, "")
    assert is_empty(child.pid)
    assert list(tmp_path.iterdir()) == []


# --- another server -----------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Generator[str]:
    """A server that speaks the protocol, at its address, and accepts one key."""
    command = [sys.executable, "-m", "dspex.simulator", "--until-stdin-closes", "--key", "right"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        yield child.stdout.readline().strip()
        child.terminate()


def run_demo(
    folder: Path, monkeypatch: pytest.MonkeyPatch, key: str, *arguments: str
) -> subprocess.CompletedProcess[str]:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with running(folder, "demo", *arguments) as child:
        out, err = child.communicate(timeout=50)
    return subprocess.CompletedProcess(arguments, child.returncode, out, err)


@pytest.mark.slow
def test_a_model_of_ones_own_is_asked_less_and_not_killed(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run_demo(tmp_path, monkeypatch, "right", "--lm", "openai/rules-1", "--api-base", server)

    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"This will make about 220 calls: some [\d,]+ tokens in, [\d,]+ out", done.stdout)
    assert "40 of 40 answered" in done.stdout
    assert "killed" not in done.stdout
    assert SAYS_SO not in done.stdout


def test_a_wrong_key_is_one_line_before_anything_is_done(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run_demo(tmp_path, monkeypatch, "wrong", "--lm", "openai/rules-1", "--api-base", server)

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "401" in done.stderr


def test_the_code_at_the_end_runs(server: str, tmp_path: Path) -> None:
    code = YOURS.replace('"openai/gpt-5-mini"', f'dspex.LM("openai/rules-1", api_base="{server}", api_key="right")')
    assert code != YOURS

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()
