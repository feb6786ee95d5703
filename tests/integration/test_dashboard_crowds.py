"""The page of an App with ten thousand requests and a thousand actors: bounded, and it still answers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from playwright.async_api import expect

import dspex
import dspex.app.dashboard.web  # loaded here, not while a loop runs
from dspex._clock import monotonic
from dspex.app.dashboard.hub import Audience, Hub
from dspex.app.dashboard.notes import Notes
from dspex.app.dashboard.pace import SELDOM
from dspex.runtime import KILL, Actor, ChildSpec, Supervisor
from dspex.testing import ScriptedLM
from tests.integration.test_dashboard_browser import browser, opened

REQUESTS = 10_000
ACTORS = 1_000
ELEMENTS = 8_000
"""So many a browser lays out in some milliseconds."""


class Waits(dspex.Module):
    """Waits to be let go."""

    async def forward(self, go: asyncio.Event) -> str:
        await go.wait()
        return "went"


class Idle(Actor):
    """Does nothing."""


def crowd() -> Supervisor:
    return Supervisor([ChildSpec(f"actor {number}", Idle, name=f"actor {number}") for number in range(ACTORS)])


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.allow_blocking("a browser on the same two processors takes what it needs")
async def test_ten_thousand_requests_and_a_thousand_actors(tmp_path: Path) -> None:
    """Few of them are drawn, the rest is counted, what dies is shown wherever it stands, and a click is answered."""
    go = asyncio.Event()
    complaints: list[str] = []
    app = dspex.App(ScriptedLM([]), dashboard="127.0.0.1:0", max_running=REQUESTS, home=tmp_path)
    async with app, browser() as chromium:
        await app.runtime.start(crowd())
        requests = [app.start(Waits(), go=go) for _ in range(REQUESTS)]
        async with opened(chromium, app.dashboard_url, complaints) as page:
            await expect(page.locator(".request")).to_have_count(30)
            await expect(page.get_by_text("and 9,970 younger ones")).to_be_visible()
            await page.locator(".request .line").first.click()
            await expect(page.locator(".detail")).to_be_visible()
            assert await page.evaluate("document.querySelectorAll('*').length") < ELEMENTS

            await page.keyboard.press("2")
            await expect(page.locator(".more")).to_contain_text("more, which are well")
            assert await page.evaluate("document.querySelectorAll('*').length") < ELEMENTS
            last = app.runtime.whereis(f"actor {ACTORS - 1}")
            assert last is not None
            row = page.locator(f'tr[data-path$="/actor {ACTORS - 1}"]').first
            await expect(row).to_have_count(0)
            last.kill()
            await expect(row).to_contain_text("killed")
            await page.get_by_label("find").fill("actor 77")
            await expect(page.locator("tr[data-path]")).to_have_count(11)
            await page.get_by_label("find").fill("nobody")
            await expect(page.get_by_text("No actor is called so.")).to_be_visible()
        go.set()
        assert set(await asyncio.gather(*requests)) == {"went"}
    assert complaints == []


async def test_a_restart_is_told_soon_however_dear_a_look_is() -> None:
    """The restart itself wakes who looks: by what looks cost, and by what was sent, the next one is not due yet."""
    async with dspex.App(ScriptedLM([])) as app:
        tree = app.running_tree()
        notes = Notes(tree.runner, app.telemetry)
        hub = Hub(tree, notes)
        audience = Audience(hub)
        lines = audience.lines()
        first = await anext(lines)
        for _ in range(5):
            hub.pace.cost_more(SELDOM)
            hub.pace.made(monotonic(), monotonic() + SELDOM, down=False)
        assert hub.pace.due > monotonic() + SELDOM
        cache = app.runtime.whereis("cache")
        assert cache is not None
        made = hub.made
        cache.exit(KILL)
        second = await anext(lines)
        due = hub.pace.due
        audience.close()
        assert [each async for each in lines] == []

    assert first.startswith(b'{"snapshot":')
    assert b'"path":"App/cache"' in second, "the first update after a restart tells of it"
    assert hub.made == made + 1
    assert due <= monotonic() + SELDOM


async def test_all_doors_of_an_app_share_its_snapshots(tmp_path: Path) -> None:
    """The page and the local socket look at one hub; closing one door leaves those behind the other alone."""
    async with dspex.App(ScriptedLM([]), home=tmp_path) as app:
        hub = app.running_tree().hub
        doors = [Audience(hub), Audience(hub)]
        streams = [door.lines() for door in doors]
        firsts = [await anext(lines) for lines in streams]
        assert (hub.made, [door.viewers for door in doors]) == (1, [1, 1])
        doors[0].close()
        assert [each async for each in streams[0]] == []
        assert [door.viewers for door in doors] == [0, 1]
        assert (await anext(streams[1])).startswith(b'{"delta":')
        doors[1].close()
    assert firsts[0] == firsts[1]
