"""The cells of an App's shared store, of whichever kind it is."""

from __future__ import annotations

from dspex.services.shared.cells import Cells
from dspex.services.shared.file_cells import StoreFileCells
from dspex.services.shared.gateway import SharedGateway
from dspex.services.shared.postgres_cells import PostgresCells
from dspex.services.shared.redis_cells import RedisCells

__all__ = ["cells_of"]


def cells_of(gateway: SharedGateway) -> Cells:
    """Return the cells of a store."""
    if gateway.shared.kind == "sqlite":
        return StoreFileCells(gateway)
    return RedisCells(gateway) if gateway.shared.kind == "redis" else PostgresCells(gateway)
