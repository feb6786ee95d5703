"""The page for everybody: axe-core finds no fault in any view, and every action is reached by the keyboard alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pytest
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]  # it has no types
from playwright.async_api import Page, expect

import dspex
import dspex.app.dashboard.web  # loaded here, not while a loop runs
from dspex.app.demo.village import VillageOptions, open_village
from tests.integration.test_dashboard_browser import VIEWS, browser, opened

pytestmark = pytest.mark.allow_blocking("a browser on the same two processors takes what it needs")

GRAVE = ("serious", "critical")

FOCUSED = """() => {
  const each = document.activeElement;
  return each === document.body ? "" : (each.getAttribute("aria-label") || each.textContent || each.tagName).trim();
}"""


async def faults_of(page: Page) -> dict[str, list[str]]:
    """The faults by axe-core that keep somebody out: the rule, and the beginnings of the elements."""
    found = await Axe().run(page)
    return {
        each["id"]: [node["html"][:160] for node in each["nodes"][:3]]
        for each in found.response["violations"]
        if each["impact"] in GRAVE
    }


async def ready(page: Page) -> None:
    """Wait until every view has something to show."""
    for view, what in (
        ("kept", page.locator(".request").first),
        ("evaluations", page.get_by_text("ended").first),
        ("jobs", page.locator("table.matrix").first),
        ("tree", page.locator(".deaths tbody tr").first),
    ):
        await page.evaluate(f"location.hash = '#/{view}'")
        await expect(what).to_be_visible(timeout=60_000)


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_axe_finds_no_grave_fault_in_any_view(tmp_path: Path) -> None:
    """Light and wide, dark and on a phone, with a request open; and at the door of whoever has no token."""
    found: dict[str, object] = {}
    page_options = dspex.Dashboard("127.0.0.1:0", token="a-token-of-enough-letters", capture=True)
    async with (
        open_village(tmp_path, page_options, VillageOptions(kill_every=1.0, latency=0.3)) as app,
        browser() as chromium,
    ):
        page = await chromium.new_page()
        await page.goto(app.dashboard_url.partition("#")[0])
        await expect(page.locator(".door input")).to_be_visible()
        found["door"] = await faults_of(page)
        await page.close()
        async with opened(chromium, app.dashboard_url, []) as page:
            await ready(page)
            looks: tuple[tuple[Literal["light", "dark"], int], ...] = (("light", 1280), ("dark", 360))
            for theme, width in looks:
                await page.emulate_media(color_scheme=theme)
                await page.set_viewport_size({"width": width, "height": 740})
                for place, view in enumerate(VIEWS, 1):
                    await page.keyboard.press(str(place))
                    await expect(page.locator(f'nav a[href="#/{view}"]')).to_have_attribute("aria-current", "page")
                    if view == "kept":
                        await page.locator(".request .line").first.click()
                        await expect(page.locator(".detail table")).to_be_visible()
                    found[f"{view} {width} {theme}"] = await faults_of(page)
            await page.evaluate("document.querySelector('main').append(document.createElement('button'))")
            assert "button-name" in await faults_of(page), "it finds a fault where there is one"
    assert {where: faults for where, faults in found.items() if faults} == {}, json.dumps(found, indent=1)


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_every_action_is_reached_and_done_by_the_keyboard(tmp_path: Path) -> None:
    """Tab goes through all that can be pressed in each view, and Enter does it."""
    options = VillageOptions(kill_every=None, latency=1.0)
    async with (
        open_village(tmp_path, dspex.Dashboard("127.0.0.1:0"), options) as app,
        browser() as chromium,
        opened(chromium, app.dashboard_url, []) as page,
    ):
        await ready_to_act(page)
        for view in VIEWS:
            await page.evaluate(f"location.hash = '#/{view}'")
            await expect(page.locator(f'nav a[href="#/{view}"]')).to_have_attribute("aria-current", "page")
            assert await page.evaluate(UNREACHED) == [], view

        await page.evaluate("location.hash = '#/tree'")
        await expect(page.get_by_role("button", name="restart cache")).to_be_visible()
        await page.evaluate("document.activeElement.blur()")
        await tab_to(page, "restart cache")
        await page.keyboard.press("Enter")
        await expect(page.locator('tr[data-death="App/cache"]')).to_contain_text("killed")

        await page.evaluate("location.hash = '#/jobs'")
        await tab_to(page, "pause capitals")
        await page.keyboard.press("Space")
        await expect(page.locator("article h2")).to_contain_text("paused", timeout=60_000)

        await page.evaluate("location.hash = '#/now'")
        await page.keyboard.press("Tab")
        assert await page.evaluate(FOCUSED), "the focus is somewhere"


UNREACHED = """() => {
  const found = [...document.querySelectorAll("[onclick], .act, [role=button], summary, a[href], button, input")];
  return found.filter((each) => each.tabIndex < 0 && !each.disabled).map((each) => each.outerHTML.slice(0, 120));
}"""
"""Controls that are not reached by Tab."""


async def ready_to_act(page: Page) -> None:
    await page.evaluate("location.hash = '#/jobs'")
    await expect(page.get_by_role("button", name="pause capitals")).to_be_visible(timeout=60_000)


async def tab_to(page: Page, label: str) -> None:
    """Press Tab until the control of this name has the focus; views are redrawn meanwhile, and it stays."""
    for _ in range(200):
        await page.keyboard.press("Tab")
        if await page.evaluate(FOCUSED) == label:
            return
    raise AssertionError(f"Tab does not reach {label!r}")
