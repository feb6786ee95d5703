"""The command line: what each command prints, and that every error is one line and a code."""

from __future__ import annotations

import importlib.util
import os
import re
import socket
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from dspex.app.cli import main
from dspex.app.cli._boundary import at_the_boundary
from dspex.errors import ConfigError, InternalError, OptimizationError


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that was written, to standard error."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("\n")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["nonsense"], "nonsense", id="command"),
        pytest.param(["--nonsense"], "--nonsense", id="option"),
        pytest.param(["signature"], "text", id="missing argument"),
        pytest.param(["signature", "q - a"], "no arrow", id="no arrow"),
        pytest.param(["signature", "q -> "], "at the end", id="no output"),
        pytest.param(["signature", "q -> a: Foo"], "at 'a: Foo', character 6", id="unknown type"),
        pytest.param(["signature", "a, a -> b"], "at 'a -> b', character 4", id="twice"),
        pytest.param(["demo", "--questions", "many"], "--questions", id="no number"),
        pytest.param(["demo", "--questions", "0"], "--questions", id="no questions"),
        pytest.param(["demo", "--port", "70000"], "--port", id="no port"),
        pytest.param(["demo", "--api-base", "http://localhost/v1"], "--lm", id="address without a model"),
        pytest.param(["demo", "--lm", "openai/x", "--port", "8000"], "--port", id="port without the simulator"),
        pytest.param(["demo", "--lm", "gpt"], "provider/model", id="model without a provider"),
        pytest.param(["demo", "--lm", "nobody/gpt"], "'nobody'", id="unknown provider"),
        pytest.param(["demo", "--lm", "openai/x", "--api-base", "ftp://x"], "http://", id="no address"),
        pytest.param(["demo", "--lm", "openai/gpt-5-mini"], "OPENAI_API_KEY", id="no key"),
    ],
)
def test_an_error_is_one_line_and_exit_code_two(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    code = main(arguments)

    assert code == 2
    assert said in one_line(capsys)


def test_a_server_that_is_not_there_is_said_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}/v1"

        code = main(["demo", "--lm", "openai/x", "--api-base", address])

    assert code == 2
    assert "refused the connection" in one_line(capsys)


def test_a_port_in_use_is_said_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        code = main(["demo", "--port", str(port)])

    assert code == 2
    assert f"--port {port}" in one_line(capsys)


def test_a_signature_becomes_a_class_that_python_takes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["signature", "question, context: list[str] -> answer: Literal['yes', 'no'], why"]) == 0

    source = capsys.readouterr().out
    space: dict[str, object] = {}
    exec(compile(source, "pasted", "exec"), space)
    assert "AnswerWhyFromQuestionContext" in space


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    assert capsys.readouterr().out.startswith("dspex 0.")


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_its_extra_it_says_what_to_install(
    missing: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec

    def but(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name == missing else find_spec(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", but)

    assert main(["version"]) == 2
    assert "dspex[cli]" in one_line(capsys)


def test_python_dash_m_is_the_same_command() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "dspex", "version"], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("dspex 0.")


def test_the_simulator_takes_its_own_flags_and_ends_with_its_input_when_told_to() -> None:
    flags = ["--rate-429", "0.5", "--until-stdin-closes"]
    command = [sys.executable, "-W", "error", "-m", "dspex", "simulate", *flags]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("http://127.0.0.1:")


def test_a_wrong_flag_of_the_simulator_is_exit_code_two() -> None:
    command = [sys.executable, "-m", "dspex", "simulate", "--rate-429", "2"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "rate_429" in done.stderr


# --- the border ---------------------------------------------------------------------------------------------


def test_an_error_in_a_group_is_told_like_any_other(capsys: pytest.CaptureFixture[str]) -> None:
    def failing() -> None:
        raise ExceptionGroup("tasks", [ExceptionGroup("more", [ConfigError("first line\nsecond line")])])

    assert at_the_boundary(failing) == 2
    assert one_line(capsys) == "dspex: first line second line\n"


def test_a_bug_of_ours_is_one_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    def failing() -> None:
        raise InternalError("a message was lost")

    assert at_the_boundary(failing) == 2
    assert "please report it" in one_line(capsys)


def test_any_other_error_is_one_line_that_tells_where(capsys: pytest.CaptureFixture[str]) -> None:
    def failing() -> None:
        raise ExceptionGroup("many", [ZeroDivisionError("\x1b[2J of a user's\nmodule")])

    assert at_the_boundary(failing) == 2
    said = one_line(capsys)
    assert said.startswith("dspex: ZeroDivisionError: \\x1b[2J of a user's module")


def test_development_mode_shows_the_traceback(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("1 / 0\n")
    command = ["-m", "dspex", "map", "broken:Program", "in.jsonl", "out.jsonl"]

    def run(*flags: str) -> str:
        done = subprocess.run(
            [sys.executable, *flags, *command], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode in (1, 2)
        return done.stderr

    assert re.match(r"dspex: ZeroDivisionError: division by zero \(.*broken.py, line 1\)", run())
    assert "Traceback" in run("-X", "dev")


@pytest.mark.parametrize("closed", ["1>&-", "0<&- 1>&- 2>&-"])
def test_a_closed_stream_changes_nothing(closed: str) -> None:
    done = subprocess.run(
        f"{sys.executable} -m dspex signature 'q -> a' {closed}",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_version_is_an_option_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == main(["--version"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == second


def test_shells_complete_commands() -> None:
    """The script that `--show-completion` prints asks this process in the same way."""
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from dspex.app.cli import main; sys.exit(main())"],
        env={**os.environ, "_DSPEX_COMPLETE": "complete_bash", "COMP_WORDS": "dspex jo", "COMP_CWORD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout.split() == ["jobs"]


def test_help_fits_a_narrow_terminal_and_has_no_colours_when_told() -> None:
    pages = "[], ['map'], ['jobs'], ['jobs', 'pause'], ['eval'], ['compile'], ['serve']"
    done = subprocess.run(
        [sys.executable, "-c", f"from dspex.app.cli import main\nfor page in ({pages}): main([*page, '--help'])"],
        env={**os.environ, "COLUMNS": "60", "TERMINAL_WIDTH": "60", "FORCE_COLOR": "1", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.count("Usage:") == 7
    assert "\x1b[3" not in done.stdout  # bold and dim are no colours
    assert max(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) for line in done.stdout.splitlines()) <= 60


def test_ctrl_c_is_exit_code_130() -> None:
    def stopped() -> None:
        raise KeyboardInterrupt

    assert at_the_boundary(stopped) == 130


@pytest.mark.slow
def test_a_reader_who_leaves_is_no_traceback() -> None:
    done = subprocess.run(
        f"{sys.executable} -m dspex demo | head -n 1", shell=True, capture_output=True, text=True, check=False
    )

    assert done.stdout.startswith("1. ")
    assert done.stderr == ""


def test_only_the_demo_reads_the_simulators_rule() -> None:
    source = Path(__file__).parents[3] / "src" / "dspex"
    readers = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*.py")
        if "x-simulator-rule" in path.read_text() and "simulator" not in path.relative_to(source).parts
    }

    assert readers == {"app/demo/scores.py"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_an_output_without_space_is_one_line(unbuffered: str) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "dspex", "version"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )
    assert (ended.returncode, ended.stderr) == (
        2,
        "dspex: no space is left on the device of the output\n",
    )


def test_a_journal_without_a_place_names_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    def failing() -> object:
        raise OptimizationError("App(home=…) says where journals of jobs go, journal= where that of a map does")

    assert at_the_boundary(failing) == 2
    assert capsys.readouterr().err == (
        "dspex: --home says where journals of jobs go, --journal where that of a map does\n"
    )
