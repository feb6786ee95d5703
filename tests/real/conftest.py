"""Tests on a real model run only where they are asked for: ``make test-real``."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from dspex.app.config import read_cache_folder
from dspex.app.demo.local.model_file import MODEL, fetch_model, fetch_server, missing
from dspex.app.demo.local.server import ModelServer, free_port
from dspex.app.demo.plain import PlainShow
from dspex.errors import ConfigError
from dspex.protocols.model import LM

_HERE: Final = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the tests of this folder out unless ``-m real`` wants them."""
    if "real" in config.option.markexpr:
        return
    left_out = [item for item in items if item.path.is_relative_to(_HERE)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def fetched(pytestconfig: pytest.Config) -> tuple[Path, Path]:
    """The server's package and the model, fetched now if they are not there; a machine that cannot have them skips."""
    cache = read_cache_folder()
    show = PlainShow(sys.__stderr__ or sys.stderr)
    try:
        if announced := missing(MODEL, cache, with_model=True):
            show.say(announced)
        return fetch_server(cache, show), fetch_model(MODEL, cache, show)
    except ConfigError as error:
        pytest.skip(str(error))


@contextmanager
def served(server: ModelServer) -> Generator[ModelServer]:
    """Have a server run; it says on its first line when it answers."""
    [command] = server.spec.args
    assert isinstance(command, list)
    command = [word.replace("{port}", str(server.port)) for word in command]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            assert any(line.startswith("serving ") for line in process.stdout), "the server does not start"
            yield server
        finally:
            process.kill()


@pytest.fixture(scope="session")
def lm(request: pytest.FixtureRequest) -> Generator[LM]:
    """A small chat model: of the server that ``DSPEX_REAL_SERVER`` names, else one that is started now."""
    running = os.environ.get("DSPEX_REAL_SERVER")
    if running:
        yield LM("llamacpp/local", api_base=running)
        return
    fetched: tuple[Path, Path] = request.getfixturevalue("fetched")
    with served(ModelServer(*fetched, free_port(0), threads=1)) as server:
        yield server.lm


@pytest.fixture(scope="session")
def embedding_lm(fetched: tuple[Path, Path]) -> Generator[LM]:
    """The same model, as one that turns texts into vectors."""
    with served(ModelServer(*fetched, free_port(0), threads=1, embeddings=True)) as server:
        yield server.lm
