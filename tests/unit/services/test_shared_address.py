"""The address of a shared store: what it may be, and that its password is shown nowhere."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

import dspex
from dspex.errors import ConfigError, MissingExtra, SharedError
from dspex.services.shared.address import Shared, is_shared_url, shared_of

PASSWORD = "s3cret%2Fpart"
PLAIN = "s3cret/part"


@pytest.mark.parametrize(
    ("url", "kind", "address"),
    [
        ("redis://cache:6379/0", "redis", "redis://cache:6379/0"),
        (f"rediss://me:{PASSWORD}@cache/1", "redis", "rediss://cache/1"),
        ("unix:///run/redis.sock?db=1", "redis", "unix:///run/redis.sock"),
        (f"postgresql://me:{PASSWORD}@[::1]:5433/app?sslmode=require", "postgresql", "postgresql://[::1]:5433/app"),
        ("postgres://db/app", "postgresql", "postgres://db/app"),
        ("sqlite:///runs/shared.db", "sqlite", "sqlite:///runs/shared.db"),
    ],
)
def test_an_address_has_a_kind_and_a_form_for_people(url: str, kind: str, address: str) -> None:
    shared = Shared(url)

    assert (shared.kind, shared.address) == (kind, address)
    assert is_shared_url(url)


@pytest.mark.parametrize("path", ["answers.db", "/var/redis", "C:\\cache.db", "http://cache", ""])
def test_a_path_is_no_address(path: str) -> None:
    assert not is_shared_url(path)
    with pytest.raises(ConfigError, match="redis://"):
        Shared(path)


@pytest.mark.parametrize(
    ("url", "path"), [("sqlite:///runs/shared.db", "runs/shared.db"), ("sqlite:////srv/a b%20.db", "/srv/a b%20.db")]
)
def test_three_strokes_begin_a_path(url: str, path: str) -> None:
    assert Shared(url).path == Path(path)


@pytest.mark.parametrize(
    "url", ["sqlite://shared.db", "sqlite:///", "sqlite:///:memory:", "sqlite:///a.db?mode=ro", "sqlite:///runs/"]
)
def test_a_file_needs_a_path(url: str) -> None:
    with pytest.raises(ConfigError, match="sqlite:///"):
        Shared(url)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"namespace": "a:b"}, "namespace"),
        ({"namespace": ""}, "namespace"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": True}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"connections": 0}, "connections"),
        ({"connections": 1.5}, "connections"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Shared("redis://cache", **options)  # type: ignore[arg-type]  # that is what is tested


@pytest.mark.parametrize("url", [f"redis://:{PASSWORD}@cache", f"postgresql://me:{PASSWORD}@db/app?password={PLAIN}"])
def test_a_password_is_shown_nowhere(url: str) -> None:
    """Not in the record, not in what a client says of it, however it writes it."""
    shared = Shared(url)
    said = [
        repr(shared),
        str(shared),
        shared.address,
        shared.told(ConnectionError(f"cannot reach {url}")),
        shared.told(ConnectionError(f"password {PLAIN!r} is wrong, so is {PASSWORD}")),
        repr(dspex.App(shared=shared)),
    ]

    assert not [text for text in said if "s3cret" in text]


def test_a_wrong_port_is_refused_without_the_address() -> None:
    with pytest.raises(ConfigError) as caught:
        Shared(f"redis://:{PASSWORD}@cache:99999")

    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_an_app_takes_an_address_or_a_record() -> None:
    assert shared_of(None) is None
    assert shared_of("redis://cache") == Shared("redis://cache")
    with pytest.raises(ConfigError, match="int"):
        dspex.App(shared=7)  # type: ignore[arg-type]  # that is what is tested


@pytest.mark.parametrize(
    ("package", "url", "extra"),
    [("redis.asyncio", "redis://:s3cret@cache", "redis"), ("asyncpg", "postgresql://me:s3cret@db/app", "postgres")],
)
def test_a_missing_package_is_told_when_the_app_is_built(
    monkeypatch: pytest.MonkeyPatch, package: str, url: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    for option in ("cache", "shared"):
        with pytest.raises(MissingExtra, match=rf"pip install 'dspex\[{extra}\]'") as caught:
            dspex.App(**{option: url})  # type: ignore[arg-type]  # either takes an address
        assert "s3cret" not in str(caught.value)


def test_an_address_of_another_kind_is_not_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody wants a file called ``mysql:``; its password is not repeated."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="postgresql://") as caught:
        dspex.App(cache="mysql://me:s3cret@db/answers")
    assert "s3cret" not in str(caught.value)


def test_the_packages_of_the_extras_are_the_ones_looked_for() -> None:
    """Both are installed here; a name that nobody has would be MissingExtra everywhere."""
    for url in ("redis://cache", "postgresql://db"):
        Shared(url).check_extra()
    assert all(importlib.util.find_spec(name) for name in ("redis", "asyncpg"))
    assert issubclass(SharedError, dspex.DspexError)
