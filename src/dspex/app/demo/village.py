"""A small App that is never at rest: what ``dspex dashboard`` shows, and what the pictures of its page are taken of."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dspex._random import generator
from dspex.app._app import App
from dspex.app.dashboard.options import Dashboard
from dspex.app.demo.chaos import kill_in_turn
from dspex.errors import DspexError
from dspex.evaluation import exact_match
from dspex.optimizers import BootstrapFewShotWithRandomSearch
from dspex.programs import ChainOfThought, InputField, Module, OutputField, Predict, Retrieve, Signature, call_tools
from dspex.protocols.content import ToolCall
from dspex.protocols.model import LM, LMPool
from dspex.protocols.money import Budget, Price
from dspex.protocols.retrieval import Passage
from dspex.services.lm.limits import ClientLimits
from dspex.services.lm.transport import Timeouts
from dspex.services.retrieval.sqlite_index import SqliteIndex
from dspex.simulator import FaultPlan, Latency, SimulatorProcess

if TYPE_CHECKING:
    import random

__all__ = ["VillageOptions", "open_village"]

_INVENTED: Final = "A demonstration: its models are simulated, and their prices are invented."

_CAPITALS: Final = (
    "Austria Vienna, Belgium Brussels, Bulgaria Sofia, Croatia Zagreb, Cyprus Nicosia, Denmark Copenhagen, "
    "Estonia Tallinn, Finland Helsinki, France Paris, Germany Berlin, Greece Athens, Hungary Budapest, Ireland Dublin, "
    "Italy Rome, Latvia Riga, Lithuania Vilnius, Malta Valletta, Norway Oslo, Poland Warsaw, Portugal Lisbon, "
    "Romania Bucharest, Slovakia Bratislava, Slovenia Ljubljana, Spain Madrid, Sweden Stockholm"
)
CAPITALS: Final = dict(each.split(" ") for each in _CAPITALS.split(", "))


class CapitalFromPassages(Signature):
    """Name the capital that the passages tell of."""

    passages: list[Passage] = InputField()
    question: str = InputField()
    answer: str = OutputField(desc="one name")


class AskCapital(Module):
    """A search, then an answer from what was found."""

    def __init__(self) -> None:
        self.retrieve = Retrieve(k=3)
        self.answer = ChainOfThought(CapitalFromPassages)

    async def forward(self, question: str) -> CapitalFromPassages:
        """Answer the question."""
        passages = await self.retrieve(question)
        return await self.answer(passages=passages, question=question)


async def look_up_weather(city: str) -> str:
    """Tell the weather of a city."""
    await asyncio.sleep(0.2 + len(city) / 40)
    if len(city) > 9:
        raise LookupError(f"nobody knows the weather in {city}")
    return f"{city}: 12 degrees, rain"


class TellWeather(Module):
    """A tool, then two answers side by side."""

    def __init__(self) -> None:
        self.sum_up = Predict("report -> advice")
        self.translate = Predict("report -> french")

    async def forward(self, city: str) -> object:
        """Tell what to wear."""
        seen = await call_tools([look_up_weather], [ToolCall("t1", "look_up_weather", {"city": city})])
        report = str(seen[0].content)
        said = await asyncio.gather(self.sum_up(report=report), self.translate(report=report))
        return said[0]


@dataclass(frozen=True, slots=True)
class VillageOptions:
    """
    How lively it is.

    Attributes:
        at_once: Requests that run at the same time.
        kill_every: Seconds between two kills; None kills nobody.
        latency: Seconds that half of the answers take.
        seed: The same seed asks the same questions.
        evaluations: The most evaluations that are run, one after the other.
    """

    at_once: int = 16
    kill_every: float | None = 4.0
    latency: float = 0.7
    seed: int = 0
    evaluations: int = 4


@asynccontextmanager
async def open_village(folder: Path, page: Dashboard, options: VillageOptions) -> AsyncIterator[App]:
    """
    Start a provider in a box, an App that asks it, and whoever keeps the two busy until the block ends.

    Raises:
        SimulatorStartFailed, ConfigError: One of them cannot start.
    """
    passages = [Passage(text=f"{city} is the capital of {land}.", title=land) for land, city in CAPITALS.items()]
    index = SqliteIndex.build(folder / "capitals.index", passages)
    slow = options.latency
    faults = FaultPlan(
        seed=options.seed,
        latency=Latency(median=slow, p95=slow * 2.5),
        rate_429=0.05,
        retry_after=0.4,
        rate_500=0.05,
        rate_reset=0.03,
        rate_truncate=0.03,
        rate_hang=0.01,
    )
    async with SimulatorProcess(faults=faults) as simulator:
        small = LM("openai/small", api_base=simulator.url, api_key="none")
        large = LM("openai/large", api_base=simulator.url, api_key="none")
        app = App(
            small,
            lms={"careful": LMPool((large, small), hedge_after=slow * 2)},
            retriever=index,
            home=folder / "home",
            timeouts=Timeouts(connect=2.0, read=max(3.0, slow * 6)),
            limits={"openai/small": ClientLimits(max_in_flight=24), "openai/large": ClientLimits(rpm=240, tpm=400_000)},
            prices={"openai/small": Price(0.25, 2), "openai/large": Price(2.5, 15)},
            budget=Budget(usd=20),
            deadline=30.0,
            seed=options.seed,
            dashboard=page if page.note else replace(page, note=_INVENTED),
            watch="village",
        )
        async with app, asyncio.TaskGroup() as around:
            chance = generator(options.seed)
            busy = [around.create_task(_ask(app, chance)) for _ in range(options.at_once)]
            busy.append(around.create_task(_learn(app)))
            busy.append(around.create_task(_measure(app, options.evaluations)))
            if options.kill_every is not None:
                busy.append(around.create_task(kill_in_turn(app, options.kill_every, lambda _: None)))
            try:
                yield app
            finally:
                for task in busy:
                    task.cancel()


async def _ask(app: App, chance: random.Random) -> None:
    """Ask one question after the other: about one in five again, which the cache answers."""
    careful, lands = app.options(lm="careful", budget=Budget(usd=0.25)), list(CAPITALS)
    for number in itertools.count():
        land = chance.choice(lands)
        which = chance.random()
        with suppress(DspexError):  # one that fails is something to see on the page
            if which < 0.6:
                await app.run(AskCapital(), question=f"What is the capital of {land}? ({chance.randrange(400)})")
            elif which < 0.8:
                await careful.run(TellWeather(), city=CAPITALS[land])
            elif which < 0.83:
                hurried = app.options(deadline=0.6)
                await hurried.run(AskCapital(), question=f"Quickly, the capital of {land}? ({number})")
            else:
                await app.run(AskCapital(), question=f"What is the capital of {land}?")


async def _learn(app: App) -> None:
    rows = [{"question": f"What is the capital of {land}?", "answer": city} for land, city in CAPITALS.items()]
    optimizer = BootstrapFewShotWithRandomSearch(exact_match(), num_candidate_programs=6)
    job = await app.options(budget=Budget(usd=2)).compile(
        AskCapital(), optimizer, trainset=rows[:12], valset=rows[12:], holdset=(), job="capitals", max_concurrency=4
    )
    with suppress(DspexError):
        await job.result()


async def _measure(app: App, count: int) -> None:
    rows = [{"question": f"What is the capital of {land}?", "answer": city} for land, city in CAPITALS.items()]
    for view in itertools.islice(itertools.cycle((app, app.options(lm="careful"))), count):
        with suppress(DspexError):
            await view.evaluate(AskCapital(), rows, exact_match(), max_concurrency=4, max_failed=0.5)
        await app.runtime.sleep(2.0)
