"""The App that a command line describes: which model is asked, where, and what is kept."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import cast, get_args

from dspex.app._app import App
from dspex.app.cli._index_file import AnyIndex, kind_of, named_index
from dspex.app.cli._model import named_model
from dspex.errors import ConfigError
from dspex.programs import Adapter, AdapterName, choose_adapter
from dspex.protocols.money import Budget

__all__ = ["AppFlags", "named_adapter"]


@dataclass(frozen=True, slots=True)
class AppFlags:
    """
    The flags that commands which ask models share.

    Attributes:
        lm: The default model.
        api_base: The address of another server that speaks its protocol.
        retriever: The default retriever.
        cache: A file for the answers of models, or the address of a store.
        home: The folder for jobs.
        deadline: Seconds for each request.
        usd: The most that all of it may cost, in US dollars.
        adapter: How predictors without an adapter of their own are put to the model.
    """

    lm: str | None
    api_base: str | None
    retriever: Path | None
    cache: str | None
    home: Path
    deadline: float
    usd: str | None = None
    adapter: str | None = None

    def app(self, *, drain: float = 10.0) -> App:
        """
        Return the App, not started.

        Args:
            drain: Seconds that running requests may take when it closes.

        Raises:
            ConfigError: The flags make no sense together.
        """
        if self.api_base is not None and self.lm is None:
            raise ConfigError("--api-base needs --lm to know which model to ask there")
        lm = named_model(self.lm, api_base=self.api_base) if self.lm is not None else None
        if self.retriever is not None and not self.retriever.exists():
            raise ConfigError(f"there is no index {self.retriever}")
        return App(
            lm,
            adapter=named_adapter(self.adapter),
            retriever=self._index(),
            cache=self.cache or "memory",
            home=self.home,
            deadline=self.deadline,
            budget=_budget(self.usd),
            drain=drain,
        )

    def _index(self) -> AnyIndex | Path | None:
        path = self.retriever  # the App knows what to make of a path to words
        return named_index(path, None, None) if path is not None and kind_of(path) == "vectors" else path


def named_adapter(name: str | None) -> Adapter | None:
    """
    Return the adapter that ``--adapter`` names; None for the default.

    Raises:
        ConfigError: There is no such adapter.
    """
    if name is not None and name not in get_args(AdapterName):
        raise ConfigError(f"--adapter {name}: expected one of {', '.join(get_args(AdapterName))}")
    return choose_adapter(cast("AdapterName | None", name))


def _budget(usd: str | None) -> Budget | None:
    if usd is None:
        return None
    try:
        return Budget(usd=Decimal(usd))
    except (InvalidOperation, ValueError) as error:
        raise ConfigError(f"--usd {usd} is not an amount of dollars") from error
