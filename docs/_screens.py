"""
Take the pictures of the page "Watch it run" from an App that runs: ``python docs/_screens.py``.

It needs the extra ``dashboard``, playwright, and Debian's Chromium.
"""

from __future__ import annotations

import asyncio
import io
import tempfile
from pathlib import Path

from playwright.async_api import Browser, Page, async_playwright
from rich.console import Console
from rich.terminal_theme import MONOKAI

from dspex import App, ChainOfThought, Dashboard, Predict, Price, exact_match
from dspex._html import write_page
from dspex.app.config import read_socket_folders
from dspex.app.demo.village import CAPITALS, VillageOptions, open_village
from dspex.app.top.feed import Feed, feed_of, snapshots
from dspex.app.top.film import film_of
from dspex.app.top.record import Recorder
from dspex.app.top.screen import Look, State, frame
from dspex.app.top.trace import Trace
from dspex.optimizers import BootstrapFewShotWithRandomSearch
from dspex.protocols.lm import LMRequest
from dspex.testing import ScriptedLM

_FOLDER = Path(__file__).parent / "assets" / "watch"
_BUSY = 14.0
"""Seconds after which there is something to see in every view."""

_TERMINAL = "<pre style='margin:0;padding:14px;font:14px/1.35 monospace;background:#16191f;color:#e8ebf0'>{code}</pre>"


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
            feed = await asyncio.to_thread(feed_of, "village", read_socket_folders())
            assert not isinstance(feed, list)  # there is one village
            recorder = Recorder(Path(folder) / "trace.jsonl", 2**28, feed.title)
            await _record(feed, recorder, chromium)
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
            with Trace(Path(folder) / "trace.jsonl") as trace:
                write_page(Path(folder) / "film.html", "replay.js", film_of(trace), title="a recording")
            await _take_file(chromium, Path(folder) / "film.html", "replay", later=True)
            await _reports(Path(folder), chromium)
            await chromium.close()


async def _record(feed: Feed, recorder: Recorder, chromium: Browser) -> None:
    """Watch as ``dspex top`` does for a while, and take its pictures when somebody has waited for an actor."""
    last, began = None, None
    async for snapshot in snapshots(feed):
        recorder.take(snapshot)
        last, began = snapshot, snapshot["at"] if began is None else began
        if snapshot["at"] - began > _BUSY and snapshot["toll"]["waited"]:
            break
    recorder.close()
    assert last is not None
    for view in ("tree", "now"):
        screen = frame(last, State(feed.title), Look(view=view), 110, 34)
        console = Console(file=io.StringIO(), record=True, width=110, highlight=False)
        for line in screen.lines:
            console.print(line, no_wrap=True, overflow="crop", markup=False)
        page = await chromium.new_page(viewport={"width": 1000, "height": 700})
        await page.set_content(console.export_html(theme=MONOKAI, inline_styles=True, code_format=_TERMINAL))
        await page.locator("pre").screenshot(path=_FOLDER / f"top-{view}.png")
        await page.close()


async def _reports(folder: Path, chromium: Browser) -> None:
    """Take the pictures of reports, made of a model that knows some capitals, and more with demonstrations."""
    rows = [{"question": f"What is the capital of {land}?", "answer": city} for land, city in CAPITALS.items()] * 2

    def answer(request: LMRequest) -> object:
        words = str(request.messages[-1].content)
        city = next((city for land, city in CAPITALS.items() if f"of {land}?" in words), "")
        knows = len(city) % 3 or (len(request.messages) > 2 and len(city) % 2)
        return {"answer": city if knows else "I believe it is Paris", "reasoning": "It is well known."}

    prices = {"*": Price(1, 5)}
    async with App(ScriptedLM(answer), home=folder / "reports", prices=prices, cache=None) as app:
        before = await app.evaluate(Predict("question -> answer"), rows, exact_match())
        optimizer = BootstrapFewShotWithRandomSearch(exact_match(), num_candidate_programs=5)
        sets = {"trainset": rows[:12], "valset": rows[12:27], "holdset": rows[27:]}
        job = await app.compile(Predict("question -> answer"), optimizer, job="capitals", **sets)
        better = await job.result()
        after = await app.evaluate(better, rows, exact_match())
        other = await app.evaluate(ChainOfThought("question -> answer"), rows, exact_match())
        await job.save_html(folder / "job.html")
    before.save_html(folder / "report.html")
    (after if after.score != before.score else other).save_html(folder / "compared.html", before=before)
    for name in ("report", "compared", "job"):
        await _take_file(chromium, folder / f"{name}.html", name)


async def _take_file(chromium: Browser, path: Path, name: str, *, later: bool = False) -> None:
    page = await chromium.new_page(viewport={"width": 1000, "height": 760}, color_scheme="light")
    await page.goto(path.as_uri())
    if later:
        await page.get_by_role("button", name="10 seconds on").click()
        await page.keyboard.press("2")
    await page.wait_for_timeout(500)
    await page.screenshot(path=_FOLDER / f"{name}.png")
    await page.close()


async def _show(page: Page, view: str) -> None:
    await page.evaluate(f"location.hash = '#/{view}'")
    await page.wait_for_timeout(500)


if __name__ == "__main__":
    asyncio.run(take())
