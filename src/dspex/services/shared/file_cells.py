"""Cells in a SQLite file that is an App's shared store."""

from __future__ import annotations

from typing import TypeVar, cast

from dspex.errors import SharedError
from dspex.services.shared.cells import Step
from dspex.services.shared.gateway import SharedGateway
from dspex.services.shared.sqlite_cells import SharedFile

__all__ = ["StoreFileCells"]

R = TypeVar("R")


class StoreFileCells:
    """Implements ``Cells`` over the file that a gateway opens; the namespace keeps cells apart."""

    def __init__(self, gateway: SharedGateway) -> None:
        self._gateway = gateway

    async def change(self, name: str, step: Step[R], keep: float) -> R:
        """Change one cell; cancelled, the change is made all the same, and its answer dropped."""
        key = f"{self._gateway.shared.namespace}/{name}"

        def attempt(cells: SharedFile) -> tuple[R, None] | tuple[None, Exception]:
            try:
                return cells.change(key, step, keep), None
            except SharedError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever the step raises is its caller's, and none of the file
                return None, error

        answer, error = await self._gateway.run(lambda file: file.run(SharedFile, attempt))
        if error is not None:
            raise error
        return cast("R", answer)
