"""
Take the pictures of the page "Watch it run" from an App that runs: ``python docs/_screens.py``.

It needs the extra ``dashboard``, playwright, and Debian's Chromium.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from playwright.async_api import Page, async_playwright

from dspex import Dashboard
from dspex.app.demo.village import VillageOptions, open_village

_FOLDER = Path(__file__).parent / "assets" / "watch"
_BUSY = 14.0
"""Seconds after which there is something to see in every view."""


async def take() -> None:
    """Take them all."""
    options = VillageOptions(kill_every=2.5)
    with tempfile.TemporaryDirectory() as folder:
        async with (
            open_village(Path(folder), Dashboard("127.0.0.1:0", capture=True), options) as app,
            async_playwright() as playwright,
        ):
            chromium = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            page = await chromium.new_page(viewport={"width": 1000, "height": 640}, color_scheme="light")
            await page.goto(app.dashboard_url)
            await app.runtime.sleep(_BUSY)
            for view in ("now", "models", "jobs", "kept"):
                await _show(page, view)
                await page.screenshot(path=_FOLDER / f"{view}.png")
            await _show(page, "tree")
            await page.locator("tr.flash").first.wait_for()
            await page.screenshot(path=_FOLDER / "tree.png")
            await page.emulate_media(color_scheme="dark")
            await page.set_viewport_size({"width": 360, "height": 620})
            await _show(page, "now")
            await page.screenshot(path=_FOLDER / "phone.png")
            await chromium.close()


async def _show(page: Page, view: str) -> None:
    await page.evaluate(f"location.hash = '#/{view}'")
    await page.wait_for_timeout(500)


if __name__ == "__main__":
    asyncio.run(take())
