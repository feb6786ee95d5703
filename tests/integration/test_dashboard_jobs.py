"""Jobs on the page and its JSON API: what candidates change, and everything that a job can be steered with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import expect

import dspex
import dspex.app.dashboard.web  # loaded here, not while a loop runs
from dspex.optimizers import BootstrapFewShotWithRandomSearch, Candidate
from dspex.testing import ScriptedLM
from tests.integration.test_dashboard_api import snapshot_of, viewer
from tests.integration.test_dashboard_browser import browser, opened
from tests.integration.test_job_control import ROWS, World, begun, events_of, gepa, right

HOSTILE = "<img src=x onerror='window.hacked = 1'> MAGIC"


def held_world() -> World:
    """A world that holds up the search once there is a candidate beside the student."""
    world = World()
    world.stop_at = 24
    return world


async def tried(client: httpx.AsyncClient) -> tuple[dict[str, Any], str]:
    """The job's row and the key of a candidate, as soon as one has been run."""
    while True:
        row: dict[str, Any] = (await snapshot_of(client))["jobs"]["j"]
        for each in row["candidates"]:
            if each["key"] != "student":
                return row, each["key"]


def watched(world: World, home: Path, *, capture: bool) -> dspex.App:
    page = dspex.Dashboard("127.0.0.1:0", capture=capture)
    return dspex.App(ScriptedLM(world.answer), cache=None, home=home, dashboard=page)


async def test_a_candidate_is_told_with_its_words_or_with_their_number(tmp_path: Path) -> None:
    world = held_world()
    for capture in (True, False):
        async with watched(world, tmp_path / str(capture), capture=capture) as app, viewer(app) as client:
            world.stopped.clear()
            world.asked = 0
            job = await begun(app, gepa(6))
            await world.stopped.wait()
            row, key = await tried(client)
            told = (await client.get(f"/api/v1/jobs/j/candidates/{key}")).json()
            async with viewer(app, token="") as stranger:
                refused = await stranger.get(f"/api/v1/jobs/j/candidates/{key}")
            unknown = await client.get("/api/v1/jobs/j/candidates/nobody")
            job.cancel()
            world.go.set()

        assert row["steered_by"] == ["add", "drop", "hint"]
        assert refused.status_code == 401
        assert (unknown.status_code, unknown.json()["error"]) == (
            400,
            "'nobody' is not the key of a candidate that this job has tried",
        )
        (change,) = told["changes"]
        if capture:
            assert told["instructions"]["self"].startswith("Try ")
            assert ["+", told["instructions"]["self"]] in change["words"]
        else:
            assert told["instructions"] == {"self": ""}
            assert change["counts"]["added"] == 2
            assert "Try" not in str(told)


async def test_a_job_is_steered_by_all_that_it_takes(tmp_path: Path) -> None:
    world = held_world()
    async with watched(world, tmp_path, capture=True) as app, viewer(app) as client:
        job = await begun(app, gepa(6))
        await world.stopped.wait()
        _, key = await tried(client)

        async def steer(**said: object) -> tuple[int, str]:
            answer = await client.post("/api/v1/jobs/j/steer", json=said)
            return answer.status_code, answer.json().get("error", "")

        assert await steer(hint="say the word") == (200, "")
        assert await steer(drop=key[:8]) == (200, "")
        assert await steer(add={"instructions": {"self": "MAGIC of a person"}, "base": key}) == (200, "")
        assert await steer() == (400, "steer takes a hint, a candidate to add, or the key of a candidate to drop")
        assert "is not the key of a candidate" in (await steer(drop="nobody"))[1]
        assert "there is no predictor 'other'; there is self" in (await steer(add={"instructions": {"other": "x"}}))[1]
        assert "are a text of 1 to" in (await steer(add={"instructions": {"self": " "}}))[1]
        assert "steer has no 'hnt'" in (await steer(hnt="x"))[1]
        wrong: list[object] = [1, {}, {"instructions": []}, {"demos": {}}]
        assert [(await steer(add=each))[0] for each in wrong] == [400] * 4
        world.go.set()
        await job.result()
        steered = [event.data for event in await events_of(job) if event.kind == "steered"]
        late = await steer(hint="too late")

    assert [(each["hint"], each["drop"]) for each in steered] == [("say the word", ""), ("", key), ("", "")]
    assert Candidate.of(steered[2]["add"]).instructions == {"self": "MAGIC of a person"}
    assert late == (400, "job j is finished: nothing in it can be steered")


async def test_what_an_optimizer_has_no_use_for_is_refused(tmp_path: Path) -> None:
    world = World()
    world.stop_at = 2
    async with watched(world, tmp_path, capture=False) as app, viewer(app) as client:
        search = BootstrapFewShotWithRandomSearch(right, num_candidate_programs=2)
        job = await app.compile(dspex.Predict("question -> answer"), search, trainset=ROWS, job="j")
        await world.stopped.wait()
        row: dict[str, Any] = (await snapshot_of(client))["jobs"]["j"]
        answer = await client.post("/api/v1/jobs/j/steer", json={"hint": "say the word"})
        with pytest.raises(dspex.ConfigError, match="has no use for hint: it can be steered by nothing"):
            job.steer(hint="say the word")
        job.cancel()
        world.go.set()

    assert row["steered_by"] == []
    assert answer.status_code == 400
    assert "has no use for hint" in answer.json()["error"]


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.allow_blocking("a browser on the same two processors takes what it needs")
async def test_a_candidate_is_opened_and_changed_on_the_page(tmp_path: Path) -> None:
    """A person reads the difference, hints, drops a candidate, and adds one: all four are in the journal."""
    world = held_world()
    complaints: list[str] = []
    async with watched(world, tmp_path, capture=True) as app, browser() as chromium:
        job = await begun(app, gepa(6))
        await world.stopped.wait()
        async with opened(chromium, app.dashboard_url, complaints) as page:
            await page.keyboard.press("5")
            await page.get_by_role("button", name="pause j").click()
            await expect(page.locator("article h2").first).to_contain_text("paused")
            await page.get_by_role("button", name="resume j").click()
            await expect(page.get_by_role("button", name="pause j")).to_be_visible()
            await page.get_by_label("a hint for j").fill("say the word")
            await page.get_by_role("button", name="send the hint").click()
            await expect(page.locator("article")).to_contain_text("steered once")
            line = page.locator("table.candidates tbody tr").filter(has_not_text="student").first
            await line.get_by_role("button", name="candidate").click()
            await expect(page.locator(".change ins")).to_contain_text("Try")
            await expect(page.locator(".change del").first).to_contain_text("work out")
            await page.get_by_label("instructions of self").fill(HOSTILE)
            await page.get_by_role("button", name="add this candidate").click()
            await expect(page.locator("article")).to_contain_text("steered 2 times")
            await line.get_by_role("button", name="drop").click()
            await expect(page.locator("article")).to_contain_text("steered 3 times")
            world.go.set()
            await expect(page.locator("article h2").first).to_contain_text("finished")
            await expect(page.get_by_role("button", name="pause j")).to_have_count(0)
            mine = Candidate({"self": HOSTILE}).key[:10]
            await page.get_by_role("button", name=f"candidate {mine}").click()
            await expect(page.locator(".change ins")).to_have_text(HOSTILE)
            assert await page.evaluate("window.hacked") is None
        found = await job.result()
    assert found.predictors()["self"].signature.instructions
    assert complaints == []


async def test_a_job_that_indexes_is_told_held_and_cancelled(tmp_path: Path) -> None:
    let_go, wanted = asyncio.Event(), asyncio.Event()

    async def passages() -> AsyncIterator[dspex.Passage]:
        yield dspex.Passage("The heron waits.", id="h")
        wanted.set()
        await let_go.wait()

    page = dspex.Dashboard("127.0.0.1:0")
    async with dspex.App(home=tmp_path / "home", dashboard=page) as app, viewer(app) as client:
        job = await app.index(passages(), tmp_path / "birds.db", batch=1, mode="add")
        await wanted.wait()
        while not job.counts.added:
            await job.changed()
        row = (await snapshot_of(client))["indexings"]["index-birds"]
        assert (row["status"], row["held"], row["read"], row["added"], row["report"]) == ("running", False, 1, 1, None)
        assert row["index"].endswith("birds.db")

        refused = await client.post("/api/v1/jobs/index-birds/steer", json={"hint": "x"})
        assert (refused.status_code, refused.json()["error"]) == (
            400,
            "job index-birds makes an index: nothing in it can be steered",
        )
        assert (await client.post("/api/v1/jobs/index-birds/cancel", json={})).status_code == 200
        with pytest.raises(dspex.errors.JobCancelled):
            await job.result()
        row = (await snapshot_of(client))["indexings"]["index-birds"]
        assert (row["status"], row["error"].partition(":")[0]) == ("cancelled", "JobCancelled")
