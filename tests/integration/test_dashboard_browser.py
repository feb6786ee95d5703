"""The page in a real browser: what a person sees, with the keyboard, on a phone, and what models may not do to it."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

import dspex
import dspex.app.dashboard.web  # loaded here, not while a loop runs
from dspex.app.demo.village import VillageOptions, open_village
from dspex.testing import ScriptedLM
from tests.support.missing import missing

VIEWS = ("now", "tree", "models", "stores", "jobs", "evaluations", "kept")
HOSTILE = "<img src=x onerror='window.hacked = 1'><script>window.hacked = 1</script>{{7*7}}"

pytestmark = pytest.mark.allow_blocking("a browser on the same two processors takes what it needs")

expect.set_options(timeout=30_000)  # a bound for a machine that is busy; nothing waits for it

UNNAMED = """() => {
  const named = (each) => each.textContent.trim() || each.getAttribute("aria-label") || each.labels?.length;
  return [...document.querySelectorAll("button, input, a, [role=img], [role=meter]")]
    .filter((each) => !named(each)).map((each) => each.outerHTML.slice(0, 100));
}"""
"""Controls and pictures without a name for whoever cannot see them."""

FAINT = """() => {
  const part = (value) => { value /= 255; return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4; };
  const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const ground = (each) => {
    for (; each; each = each.parentElement) {
      const [r, g, b, alpha = 1] = rgb(getComputedStyle(each).backgroundColor);
      if (alpha > 0.99) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const each of document.querySelectorAll("main *, header *")) {
    const own = [...each.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || each.disabled || !each.offsetParent) continue;
    const one = light(rgb(getComputedStyle(each).color)), other = light(ground(each));
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (contrast < 4.5) found.push([contrast.toFixed(2), each.outerHTML.slice(0, 100)]);
  }
  return found;
}"""
"""Texts with less contrast than 4.5 to 1."""


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    path = shutil.which("chromium")
    if path is None:
        missing("chromium is not installed")
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield chromium
        finally:
            await chromium.close()


@asynccontextmanager
async def opened(chromium: Browser, url: str, complaints: list[str]) -> AsyncIterator[Page]:
    """The page; what the browser has to complain about (its policy included) goes to ``complaints``."""
    page = await chromium.new_page()
    page.on("console", lambda told: complaints.append(told.text) if told.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    await page.goto(url)
    await expect(page.locator(".link")).to_have_text("live")
    yield page
    await page.close()


class Fails(dspex.Module):
    """Asks, and fails with what it was told."""

    def __init__(self) -> None:
        self.answer = dspex.Predict("question -> answer")

    async def forward(self, question: str) -> None:
        answered = await self.answer(question=question)
        raise ValueError(answered.answer)


async def test_a_death_is_seen_a_hostile_answer_is_text_and_the_keyboard_is_enough() -> None:
    """One visit: the words of users and models are shown as they are, and run nowhere."""
    lm = ScriptedLM([{"answer": HOSTILE}])
    page_options = dspex.Dashboard("127.0.0.1:0", capture=True)
    complaints: list[str] = []
    async with dspex.App(lm, dashboard=page_options) as app, browser() as chromium:
        hostile = type("<b>Fails</b>", (Fails,), {})()
        await app.start(hostile, question=HOSTILE).outcome()
        async with opened(chromium, app.dashboard_url, complaints) as page:
            assert await page.evaluate("location.hash") == "#/now"  # the token is out of the address
            await page.keyboard.press("7")
            await expect(page.locator("h1")).to_have_text("Kept requests")
            line = page.locator(".request .line").first
            await line.focus()
            await page.keyboard.press("Enter")
            await expect(page.locator(".detail .text").first).to_have_text(HOSTILE)
            await expect(line.locator(".program")).to_have_text("<b>Fails</b>")
            await page.get_by_role("button", name="show the conversation of r1").press("Enter")
            await expect(page.locator(".words p").last).to_contain_text(HOSTILE)

            await page.keyboard.press("2")
            row = page.locator('tr[data-path="App/cache"]')
            await expect(row).not_to_have_class("running flash")
            ref = app.runtime.whereis("cache")
            assert ref is not None
            ref.kill()
            await expect(row).to_have_class("running flash")
            await expect(page.locator('tr[data-death="App/cache"]')).to_contain_text("killed")
            await expect(page.locator(".toll")).to_have_text(
                "cache died and was restarted; no request was at it; nothing was lost"
            )
            assert await page.evaluate("window.hacked") is None
            assert await page.locator("main img, main script").count() == 0
    assert complaints == []


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_every_view_is_whole_under_load_in_both_themes_and_on_a_phone(tmp_path: Path) -> None:
    """Under faults and kills: nothing sticks out, nothing is too faint, nothing lacks a name, nothing complains."""
    complaints: list[str] = []
    found: dict[str, object] = {}
    options = VillageOptions(kill_every=1.0, latency=0.3)
    async with (
        open_village(tmp_path, dspex.Dashboard("127.0.0.1:0"), options) as app,
        browser() as chromium,
        opened(chromium, app.dashboard_url, complaints) as page,
    ):
        await page.evaluate("location.hash = '#/kept'")
        await expect(page.locator(".request").first).to_be_visible(timeout=60_000)
        await page.evaluate("location.hash = '#/evaluations'")
        await expect(page.get_by_text("ended").first).to_be_visible(timeout=60_000)
        await page.evaluate("location.hash = '#/tree'")
        await expect(page.locator("tr.flash").first).to_be_visible(timeout=60_000)
        await expect(page.locator(".deaths tbody tr").first).to_contain_text("killed")
        for theme in ("light", "dark"):
            await page.emulate_media(color_scheme=theme)
            for width in (1280, 360):
                await page.set_viewport_size({"width": width, "height": 740})
                for place, view in enumerate(VIEWS, 1):
                    await page.keyboard.press(str(place))
                    await expect(page.locator(f'nav a[href="#/{view}"]')).to_have_attribute("aria-current", "page")
                    sticks_out = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
                    faults = [await page.evaluate(UNNAMED), await page.evaluate(FAINT)]
                    if sticks_out > 0 or any(faults):
                        found[f"{view} {width} {theme}"] = [sticks_out, *faults]
    assert found == {}, json.dumps(found, indent=1)
    assert complaints == []


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_whoever_only_looks_cannot_act_and_whoever_has_the_token_can(tmp_path: Path) -> None:
    complaints: list[str] = []
    options = VillageOptions(kill_every=None, latency=0.5)
    async with open_village(tmp_path, dspex.Dashboard("127.0.0.1:0"), options) as app, browser() as chromium:
        async with opened(chromium, app.dashboard_url.partition("#")[0], complaints) as page:
            await page.keyboard.press("2")
            await expect(page.locator('tr[data-path="App/cache"]')).to_be_visible()
            assert await page.get_by_role("button", name="restart cache").count() == 0
        async with opened(chromium, app.dashboard_url, complaints) as page:
            await page.keyboard.press("2")
            await page.get_by_role("button", name="restart cache").click()
            await expect(page.locator('tr[data-death="App/cache"]')).to_contain_text("killed")
            await page.get_by_role("button", name="suspend ledger").click()
            await expect(page.locator('tr[data-path="App/ledger"]')).to_contain_text("suspended")
            await page.get_by_role("button", name="resume ledger").click()
            await expect(page.locator('tr[data-path="App/ledger"]')).not_to_contain_text("suspended")
            await page.keyboard.press("5")
            await page.get_by_role("button", name="pause capitals").click()
            await expect(page.locator("article h2")).to_contain_text("paused", timeout=60_000)
            await page.get_by_role("button", name="cancel capitals").click()
            await expect(page.locator("article h2")).to_contain_text("cancelled", timeout=60_000)
    assert complaints == []
