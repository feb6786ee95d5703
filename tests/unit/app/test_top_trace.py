"""Recordings: written bounded, read from any moment, broken off, and made into the data of a page."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.app.dashboard.delta import apply
from dspex.app.top.film import film_of
from dspex.app.top.record import Recorder
from dspex.app.top.replay import SPEEDS, Player, clock
from dspex.app.top.trace import Trace
from dspex.errors import ConfigError, TargetExists
from tests.support.snapshots import busy_snapshot


def moment(at: float, completed: int = 0) -> dict[str, Any]:
    told = copy.deepcopy(busy_snapshot())
    told["at"] = at
    told["app"]["completed"] = completed
    return told


def recorded(path: Path, times: list[float], most: int = 10**9) -> Recorder:
    recorder = Recorder(path, most, "shop (process 1)")
    for number, at in enumerate(times):
        recorder.take(moment(at, number))
    recorder.close()
    return recorder


OPEN: list[Trace] = []


@pytest.fixture(autouse=True)
def closing() -> Iterator[None]:
    """Close what a test has opened."""
    yield
    while OPEN:
        OPEN.pop().__exit__()


def opened(path: Path) -> Trace:
    OPEN.append(Trace(path))
    return OPEN[-1]


def test_pictures_come_back_in_any_order(tmp_path: Path) -> None:
    times = [100.0 + 0.5 * each for each in range(200)]
    recorded(tmp_path / "t", times)
    trace = opened(tmp_path / "t")

    assert (trace.title, len(trace.times), trace.length, trace.broken) == ("shop (process 1)", 200, 99.5, False)
    for number in (0, 150, 151, 3, 199, 60, 59):
        assert trace.picture(number) == moment(times[number], number)
    assert [trace.number(at) for at in (-5.0, 0.0, 0.4, 0.5, 98.9, 1e9)] == [0, 0, 0, 1, 197, 199]


def test_two_pictures_a_second_are_enough(tmp_path: Path) -> None:
    recorded(tmp_path / "t", [each / 10 for each in range(50)])
    assert opened(tmp_path / "t").times == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5]


def test_changes_are_small_and_a_whole_picture_comes_every_half_minute(tmp_path: Path) -> None:
    recorded(tmp_path / "t", [0.5 * each for each in range(130)])
    kinds = ["snapshot" in json.loads(line) for line in (tmp_path / "t").read_text().splitlines()[1:]]
    assert [place for place, whole in enumerate(kinds) if whole] == [0, 60, 120]
    assert (tmp_path / "t").stat().st_size < 60_000


def test_a_file_ends_at_its_size(tmp_path: Path) -> None:
    recorder = recorded(tmp_path / "t", [0.5 * each for each in range(1_000)], most=20_000)
    assert recorder.full
    assert recorder.problem == "it has its size"
    assert (tmp_path / "t").stat().st_size == recorder.size <= 20_000
    assert len(opened(tmp_path / "t").times) > 10


def test_an_app_that_begins_anew_goes_on_in_the_recording(tmp_path: Path) -> None:
    recorded(tmp_path / "t", [50.0, 50.5, 1.0, 1.5, 900.0])
    trace = opened(tmp_path / "t")
    assert trace.times == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert trace.picture(3)["at"] == 1.5


def test_a_recording_that_was_broken_off_is_played_to_its_last_whole_line(tmp_path: Path) -> None:
    recorded(tmp_path / "t", [0.0, 0.5, 1.0])
    whole = (tmp_path / "t").read_bytes()
    (tmp_path / "t").write_bytes(whole[:-20])
    trace = opened(tmp_path / "t")
    assert (trace.times, trace.broken) == ([0.0, 0.5], True)
    assert "broken off" in film_of(trace)["note"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is not a recording"),
        ("{}\n", "is not a recording"),
        ("hello\n", "is not a recording"),
        ('{"dspex":"trace","version":99}\n', "another version"),
        ('{"dspex":"trace","version":1}\n', "no picture"),
        ('{"dspex":"trace","version":1}\n{"at":1.0,"delta":[]}\n', "does not begin with a whole snapshot"),
    ],
)
def test_what_is_not_a_recording_is_told(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "t").write_text(text)
    with pytest.raises(ConfigError, match=why):
        opened(tmp_path / "t")


@given(st.lists(st.sampled_from(['{"at":1.0,"snapshot":{}}', '{"at":2.0,"delta":[[["a","b"],1]]}', "{", "[]", ""])))
def test_a_damaged_recording_is_a_typed_error(lines: list[str]) -> None:
    with tempfile.NamedTemporaryFile("w+", suffix=".jsonl") as file:
        file.write("\n".join(['{"dspex":"trace","version":1,"title":"t"}', *lines]) + "\n")
        file.flush()
        try:
            with Trace(Path(file.name)) as trace:
                trace.picture(len(trace.times) - 1)
        except ConfigError as error:
            assert file.name in str(error)  # noqa: PT017 - an error, or none: both are well


def test_nothing_else_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "mine"
    path.write_text("mine")
    with pytest.raises(TargetExists):
        Recorder(path, 1000, "t")
    assert path.read_text() == "mine"


# --- playing ------------------------------------------------------------------------------------------------


def test_a_player_pauses_jumps_and_changes_its_speed() -> None:
    player = Player(100.0, 1.0, now=50.0)
    assert player.at(53.0) == 3.0
    assert player.press("p", 53.0)
    assert player.at(60.0) == 3.0
    assert player.press("]", 60.0)
    assert player.at(60.0) == 13.0
    player.press("p", 60.0)
    player.press("+", 61.0)
    assert player.at(63.0) == 14.0 + 4.0
    assert player.words(63.0) == "0:18 of 1:40  2x"
    assert not player.press("x", 63.0)
    player.press("{", 63.0)
    assert player.at(63.0) == 0.0


def test_at_its_end_it_begins_again() -> None:
    player = Player(10.0, 1.0, now=0.0)
    assert player.words(30.0) == "0:10 of 0:10  the end"
    player.press("p", 30.0)
    assert player.at(31.0) == 1.0


@given(st.lists(st.tuples(st.sampled_from([*"p+-[]{},.=xq"]), st.floats(0, 5)), max_size=30))
def test_whatever_is_pressed_it_stays_within_the_recording(keys: list[tuple[str, float]]) -> None:
    player, now = Player(20.0, 1.0, 0.0), 0.0
    for key, pause in keys:
        now += pause
        player.press(key, now)
        assert 0.0 <= player.at(now) <= 20.0
        assert player.speed in SPEEDS


def test_times_are_shown_as_players_do() -> None:
    assert [clock(each) for each in (0.0, 59.9, 61.0, 3_700.0)] == ["0:00", "0:59", "1:01", "1:01:40"]


# --- as a page ----------------------------------------------------------------------------------------------


def test_a_film_has_all_pictures_while_there_is_room(tmp_path: Path) -> None:
    times = [0.5 * each for each in range(80)]
    recorded(tmp_path / "t", times)
    film = film_of(opened(tmp_path / "t"))

    assert (len(film["frames"]), film["note"], film["length"]) == (80, "", 39.5)
    state: dict[str, Any] = {}
    for number, (at, kind, what) in enumerate(film["frames"]):
        state = what if kind == "snapshot" else apply(state, what)
        assert (at, state) == (times[number], moment(times[number], number))


def test_a_film_without_room_has_fewer_pictures_and_says_so(tmp_path: Path) -> None:
    recorded(tmp_path / "t", [0.5 * each for each in range(400)])
    whole = len(json.dumps(film_of(opened(tmp_path / "t"))))
    film = film_of(opened(tmp_path / "t"), most=whole // 3)

    assert len(json.dumps(film["frames"])) <= whole // 3 + 1000
    assert "a picture every" in film["note"]
    assert film["length"] == 199.5  # the last one is there


def test_a_film_with_hardly_any_room_is_cut_and_says_so(tmp_path: Path) -> None:
    recorded(tmp_path / "t", [0.5 * each for each in range(40)])
    film = film_of(opened(tmp_path / "t"), most=100)
    assert len(film["frames"]) == 1
    assert "there was no room for more" in film["note"]
