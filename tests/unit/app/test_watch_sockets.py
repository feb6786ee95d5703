"""The sockets by which Apps are watched: whose they are, what is left of dead ones, and two of one name."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dspex.app.dashboard.local import watch_name
from dspex.app.dashboard.sockets import bind, connect, find, is_allowed
from dspex.errors import ConfigError

DEAD = 2**22 + 1
"""A process that cannot be: Linux's numbers end below."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short: a socket's may have about a hundred bytes."""
    with tempfile.TemporaryDirectory(prefix="dx-") as name:
        yield Path(name) / "dspex"


def test_a_socket_is_its_users_alone(folder: Path) -> None:
    bound = bind([folder], "shop")

    assert bound.path == folder / f"shop.{os.getpid()}.sock"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(bound.path.stat().st_mode) == 0o600
    bound.close()
    assert list(folder.iterdir()) == []


def test_whoever_connects_is_told_by_the_system(folder: Path) -> None:
    bound = bind([folder], "shop")
    with connect(bound.path) as viewer:
        bound.listening.setblocking(True)
        connection, _ = bound.listening.accept()
        with connection:
            assert is_allowed(connection)
        assert viewer.recv(10) == b""
    bound.close()


def test_two_of_one_name_in_one_process_have_a_socket_each(folder: Path) -> None:
    one, other = bind([folder], "shop"), bind([folder], "shop")

    assert (one.path.name, other.path.name) == (f"shop.{os.getpid()}.sock", f"shop.{os.getpid()}.2.sock")
    one.close()
    third = bind([folder], "shop")
    assert third.path == one.path
    one.close()  # a second time: the file is another's by now
    assert third.path.exists()
    third.close()
    other.close()


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o777])
def test_a_folder_that_others_may_enter_is_not_used(folder: Path, mode: int) -> None:
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(ConfigError, match="mode 0700"):
        bind([folder], "shop")
    assert find([folder], 0.05) == []


def test_a_link_to_a_folder_of_somebody_is_not_used(folder: Path) -> None:
    (folder.parent / "there").mkdir(mode=0o700)
    folder.symlink_to(folder.parent / "there")
    with pytest.raises(ConfigError, match="mode 0700"):
        bind([folder], "shop")


def test_the_first_folder_that_can_be_used_is_taken(folder: Path) -> None:
    bound = bind([folder.parent / "missing" / "dspex", folder], "shop")
    assert bound.path.parent == folder
    bound.close()


def test_a_path_that_is_too_long_is_told(folder: Path) -> None:
    long = folder.parent / ("x" * 120)
    with pytest.raises(ConfigError, match="no socket can be made"):
        bind([long], "shop")


def test_what_a_killed_process_has_left_is_taken_away(folder: Path) -> None:
    """SIGKILL: nothing of the process can clean up, and nobody waits at its socket."""
    code = "import os, sys; from pathlib import Path; from dspex.app.dashboard.sockets import bind; "
    code += f"kept = bind([Path({str(folder)!r})], 'shop'); print('ready', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as killed:
        assert killed.stdout is not None
        killed.stdout.readline()
        assert len(list(folder.iterdir())) == 1
        killed.send_signal(signal.SIGKILL)
    assert len(list(folder.iterdir())) == 1

    assert find([folder], 0.05) == []
    assert list(folder.iterdir()) == []


def test_a_socket_that_a_child_of_a_dead_process_holds_open_is_taken_away(folder: Path) -> None:
    """A fork inherits what its parent listens at: it takes a connection, and says nothing."""
    bound = bind([folder], "shop")
    orphan = folder / f"shop.{DEAD}.sock"
    bound.path.rename(orphan)
    bound.listening.settimeout(0.0)

    assert find([folder], 0.05) == []
    assert not orphan.exists()
    bound.listening.close()


def test_one_that_lives_and_says_nothing_is_left_alone(folder: Path) -> None:
    bound = bind([folder], "shop")
    with socket.socket(socket.AF_UNIX) as beside:
        assert find([folder], 0.05) == []
        assert bound.path.exists()
        assert beside.fileno() >= 0
    bound.close()


def test_files_of_others_are_left_alone(folder: Path) -> None:
    bind([folder], "shop").close()
    for name in ("notes.txt", "shop.sock", "a b.1.sock"):
        (folder / name).write_text("mine")
    (folder / f".new.{DEAD}.s1").write_text("left behind before it had a name")

    assert find([folder], 0.05) == []
    assert sorted(each.name for each in folder.iterdir()) == ["a b.1.sock", "notes.txt", "shop.sock"]


@pytest.mark.parametrize(
    ("given", "environment", "name"),
    [
        (False, "1", None),
        (None, "", None),
        (None, "0", None),
        (None, "off", None),
        (None, "shop", "shop"),
        ("mine", "shop", "mine"),
    ],
)
def test_the_name_comes_from_the_app_then_from_the_environment(
    given: bool | str | None, environment: str, name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DSPEX_WATCH", environment)
    assert watch_name(given) == name


@pytest.mark.parametrize(
    ("program", "name"),
    [("/srv/shop.py", "shop"), ("/srv/my shop.py", "my-shop"), ("/srv/shop/__main__.py", "shop"), ("", "python")],
)
def test_the_name_is_the_programs_unless_one_is_given(program: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [program])
    monkeypatch.setenv("DSPEX_WATCH", "1")
    assert watch_name(True) == name
    assert watch_name(None) == name


@pytest.mark.parametrize("wrong", ["", "a/b", "../x", "x" * 41, "-x", "a.b", 7])
def test_what_is_not_a_name_is_refused(wrong: object) -> None:
    with pytest.raises(ConfigError, match="is not a name"):
        watch_name(wrong)  # type: ignore[arg-type]
