"""The effect of demonstrations: four programs that differ in nothing else, scored on the same questions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from dspex.app._app import App
from dspex.app.demo.ending import DEMOS
from dspex.app.demo.library import Library
from dspex.app.demo.options import Sizes
from dspex.app.demo.program import RAG
from dspex.app.demo.show import ScoreRow, Show
from dspex.evaluation import Comparison, Report, exact_match
from dspex.optimizers import BootstrapFewShot
from dspex.programs import details
from dspex.protocols.json_values import Json

__all__ = ["counting", "score_programs", "swapped"]

RULE_HEADER: Final = "x-simulator-rule"
"""Where the simulator says which rule an answer follows; nothing but this table ever reads it."""

Demo = Json


async def score_programs(app: App, library: Library, sizes: Sizes, seed: int, show: Show) -> None:
    """
    Bootstrap demonstrations on the training questions, and print what they do to the scores of others.

    Raises:
        NoCandidate, EvaluationError: Too many of the calls failed.
    Cancellation: the job and every running question are stopped.
    """
    plain = RAG()
    learned = await _bootstrap(app, plain, library, sizes, seed, show)
    demos = {path: predictor.demos for path, predictor in learned.predictors().items()}
    programs = {
        "no demonstrations": plain,
        "bootstrapped, swapped answers": plain.with_demos({path: swapped(each) for path, each in demos.items()}),
        "bootstrapped": learned,
        "bootstrapped, gold passage": RAG("gold").with_demos(demos),
    }
    reports = {}
    for name, program in programs.items():
        with counting(app, show, f"scoring {name}", sizes.dev):
            reports[name] = await app.evaluate(program, library.sets.dev, exact_match(), max_concurrency=sizes.at_once)
    show.table([ScoreRow(name, report.score, report.interval, _rules(report)) for name, report in reports.items()])
    none, wrong, right, _ = reports.values()
    show.say(_verdict("The demonstrations", right.compare(none)))
    show.say(_verdict("With their answers swapped", wrong.compare(none)))


async def _bootstrap(app: App, program: RAG, library: Library, sizes: Sizes, seed: int, show: Show) -> RAG:
    optimizer = BootstrapFewShot(exact_match(), max_bootstrapped_demos=DEMOS, max_labeled_demos=0)
    # The demo scores the result itself: nothing is held out.
    job = await app.compile(program, optimizer, trainset=library.sets.train, holdset=(), job="demo", seed=seed)
    gone_through = 0
    try:
        with show.progress("working out demonstrations", DEMOS) as tell:
            async with job.events() as events:
                async for event in events:
                    if event.kind == "progress":
                        tell(event.data["found"])
                        gone_through = event.data["rows"]
        learned = await job.result()
    except BaseException:  # whatever it is: undone here, then raised on
        job.cancel()
        raise
    found = sum(len(predictor.demos) for predictor in learned.predictors().values())
    if found < DEMOS:
        gone_through = sizes.train
    show.say(
        f"BootstrapFewShot went through {gone_through} of {sizes.train} other questions without demonstrations, "
        f"and shows the {found} it got right."
    )
    return learned


def swapped(demos: Sequence[Demo]) -> list[Demo]:
    """Return the demonstrations, each with the answer of the next: all that is wrong with them is what they show."""
    return [{**demo, "answer": demos[(place + 1) % len(demos)]["answer"]} for place, demo in enumerate(demos)]


@contextmanager
def counting(app: App, show: Show, what: str, total: int) -> Iterator[None]:
    """Show how many requests have ended."""
    with show.progress(what, total) as tell:
        ended = 0

        def count(event: str, _measurements: Mapping[str, float], _metadata: Mapping[str, object]) -> None:
            nonlocal ended
            if event in ("dspex.request.stop", "dspex.request.exception"):
                ended += 1
                tell(ended)

        detach = app.telemetry.attach("dspex.request.", count)
        try:
            yield
        finally:
            detach()


def _rules(report: Report) -> str:
    """Count the rules that the simulator says it followed; a real model says nothing of the kind."""
    headers = [details(each.value).results[-1].response.headers for each in report.scored]
    count = Counter(header[RULE_HEADER].partition(";")[0] for header in headers if RULE_HEADER in header)
    return ", ".join(f"{rule} {number}" for rule, number in count.most_common())


def _verdict(what: str, change: Comparison) -> str:
    """Say what a change of the score is worth, and that it is nothing where it may be."""
    low, high = (100 * bound for bound in change.interval)
    measured = f"{100 * change.difference:+.0f} points (95 % interval {low:+.0f} to {high:+.0f})"
    if low > 0:
        return f"{what}: {measured}."
    return f"{what}: no gain, {measured}." if high >= 0 else f"{what}: a loss, {measured}."
