"""``dspex dashboard``."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from dspex.app.dashboard import Dashboard
from dspex.app.demo.village import VillageOptions, open_village
from dspex.errors import ConfigError
from dspex.simulator import SimulatorStartFailed

__all__ = ["run"]

_LONG = 30 * 86_400.0


def run(*, port: int, capture: bool, chaos: bool, seed: int, seconds: float | None) -> int:
    """Show the page of an App that is never at rest; returns the exit code."""
    options = VillageOptions(seed=seed, kill_every=VillageOptions().kill_every if chaos else None)
    page = Dashboard(f"127.0.0.1:{port}", capture=capture)
    with tempfile.TemporaryDirectory(prefix="dspex-dashboard-") as folder:
        try:
            asyncio.run(_show(Path(folder), page, options, _LONG if seconds is None else seconds))
        except SimulatorStartFailed as error:
            raise ConfigError(str(error)) from error
    return 0


async def _show(folder: Path, page: Dashboard, options: VillageOptions, seconds: float) -> None:
    async with open_village(folder, page, options) as app:
        sys.stdout.write(f"{app.dashboard_url}\nCtrl-C ends it.\n")
        sys.stdout.flush()
        await app.runtime.sleep(seconds)
