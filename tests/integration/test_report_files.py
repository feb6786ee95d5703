"""Reports and recordings as files, in a real browser, from a disk: what a person sees, and what models may not do."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import pytest
from playwright.async_api import Page, async_playwright, expect

import dspex
from dspex._html import write_page
from dspex.app.top.film import film_of
from dspex.app.top.record import Recorder
from dspex.app.top.trace import Trace
from dspex.optimizers import BootstrapFewShotWithRandomSearch
from dspex.testing import ScriptedLM
from tests.integration.test_dashboard_browser import FAINT, UNNAMED
from tests.support.missing import missing
from tests.support.snapshots import busy_snapshot

HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>{{7*7}} ${7*7}"

NEXT_FRAME = """
new Promise(tell => requestAnimationFrame(() => tell(document.documentElement.scrollWidth - innerWidth)))
"""
"""How far the page sticks out to the side in the next frame, in pixels."""

FRAMES = 200

pytestmark = pytest.mark.allow_blocking("a browser on the same two processors takes what it needs")

expect.set_options(timeout=30_000)  # a bound for a machine that is busy; nothing waits for it


@asynccontextmanager
async def from_disk(path: Path, *, width: int = 1000, theme: Literal["light", "dark"] = "light") -> AsyncIterator[Page]:
    """The page of a file; no request leaves it, and the browser has nothing to complain about."""
    found = shutil.which("chromium")
    if found is None:
        missing("chromium is not installed")
    complaints: list[str] = []
    asked: list[str] = []
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        page = await chromium.new_page(viewport={"width": width, "height": 740}, color_scheme=theme)
        page.on("console", lambda told: complaints.append(told.text) if told.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        await page.goto(path.as_uri())
        try:
            yield page
            assert await page.evaluate("window.hacked") is None
        finally:
            await chromium.close()
    assert complaints == []
    assert [each for each in asked if not each.startswith(("file:", "data:"))] == []


async def look_at(page: Page, widths: tuple[int, ...] = (1280, 360)) -> dict[str, object]:
    """Return all that sticks out, has no name, or is too faint, by width and theme."""
    found: dict[str, object] = {}
    for theme in ("light", "dark"):
        await page.emulate_media(color_scheme=theme)
        for width in widths:
            await page.set_viewport_size({"width": width, "height": 740})
            for _ in range(FRAMES):  # charts take the new width in a frame that follows
                sticks_out = await page.evaluate(NEXT_FRAME)
                if sticks_out <= 0:
                    break
            faults = [await page.evaluate(UNNAMED), await page.evaluate(FAINT)]
            if sticks_out > 0 or any(faults):
                found[f"{width} {theme}"] = [sticks_out, *faults]
    return found


async def test_an_evaluation_shows_its_failures_first_and_hostile_answers_as_text(tmp_path: Path) -> None:
    rows = [{"question": f"{HOSTILE} {number}", "answer": "six"} for number in range(12)]
    good = ScriptedLM(lambda _: {"answer": "six"})
    bad = ScriptedLM(lambda _: {"answer": HOSTILE})
    async with dspex.App(good, lms={"bad": bad}) as app:
        before = await app.evaluate(dspex.Predict("question -> answer"), rows, dspex.exact_match())
        view = app.options(lm="bad")
        after = await view.evaluate(dspex.Predict("question -> answer"), rows, dspex.exact_match())
    after.save_html(tmp_path / "report.html", before=before)

    async with from_disk(tmp_path / "report.html") as page:
        await expect(page.locator("h1")).to_contain_text("0.000")
        await expect(page.locator(".card .verdict")).to_contain_text("It is worse than before.")
        await expect(page.get_by_role("button", name="worse 12")).to_be_visible()
        await page.get_by_role("button", name="row 0", exact=True).press("Enter")
        await expect(page.locator(".whole dd").nth(2)).to_have_text(f"answer: {HOSTILE}")
        await expect(page.locator(".whole dd").nth(1)).to_have_text("answer: six")
        assert await page.locator("main img, main script").count() == 0
        found = await look_at(page)
    assert found == {}, json.dumps(found, indent=1)


@pytest.mark.slow
async def test_a_job_shows_its_verdict_its_candidates_and_what_they_change(tmp_path: Path) -> None:
    rows = [{"question": f"Number {number}?", "answer": "six" if number % 3 else HOSTILE} for number in range(36)]
    lm = ScriptedLM(lambda _: {"answer": "six"})
    async with dspex.App(lm, home=tmp_path / "home") as app:
        job = await app.compile(
            dspex.Predict("question -> answer"),
            BootstrapFewShotWithRandomSearch(dspex.exact_match(), num_candidate_programs=4),
            trainset=rows[:12],
            valset=rows[12:24],
            holdset=rows[24:],
            job="six",
        )
        await job.result()
        await job.save_html(tmp_path / "job.html")

    async with from_disk(tmp_path / "job.html") as page:
        await expect(page.locator("p.verdict")).to_be_visible()
        await expect(page.locator(".candidates tbody tr")).not_to_have_count(0)
        await page.locator(".candidates tr", has_text="demonstrations").first.locator("button").click()
        await expect(page.locator(".demos .added").first).to_contain_text("question: Number")
        await expect(page.locator(".matrix tbody tr").first).to_be_visible()
        assert await page.locator(".chart canvas").count() == 1
        assert await page.locator("main img, main script").count() == 0
        found = await look_at(page)
    assert found == {}, json.dumps(found, indent=1)


@pytest.mark.slow
async def test_a_recording_plays_pauses_and_jumps(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "trace.jsonl", 10**8, HOSTILE)
    told = busy_snapshot()
    for number in range(240):
        recorder.take({**told, "at": 65.0 + number / 2, "app": {**told["app"], "completed": 1_000 + number}})
    recorder.close()
    with Trace(tmp_path / "trace.jsonl") as trace:
        write_page(tmp_path / "film.html", "replay.js", film_of(trace), title="a film")

    async with from_disk(tmp_path / "film.html") as page:
        completed = page.locator(".figure", has_text="completed").locator("dd")
        await expect(page.locator(".brand")).to_contain_text(f"recording of {HOSTILE}")
        await page.get_by_role("button", name="pause").click()
        await page.get_by_label("moment").fill("100")
        await expect(completed).to_have_text("1,200")
        await page.get_by_role("button", name="10 seconds back").click()
        await expect(completed).to_have_text("1,180")
        await page.keyboard.press("]")
        await expect(completed).to_have_text("1,200")
        await page.keyboard.press("2")
        await expect(page.locator(".deaths tbody tr").first).to_contain_text("ledger")
        await page.keyboard.press("p")
        await expect(completed).not_to_have_text("1,200")
        for key in "1234567":
            await page.keyboard.press(key)
            await expect(page.locator("main h1")).to_be_visible()
        found = await look_at(page)
    assert found == {}, json.dumps(found, indent=1)
