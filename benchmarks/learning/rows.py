"""The rows that both sides learn from, choose by and are judged on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.real.signatures import INTENTS
from benchmarks.real.tasks import Row, read_lines, word_problems

__all__ = ["TASKS", "Lesson", "Sizes", "read_lesson"]

TASKS = ("banking", "gsm8k")


@dataclass(frozen=True)  # without slots: the defaults are read from the class
class Sizes:
    """The number of rows of each part."""

    learn: int = 50
    choose: int = 50
    hold: int = 100


@dataclass(frozen=True, slots=True)
class Lesson:
    """
    One task, its rows in three parts that have none in common.

    Attributes:
        name: The task's name, as ``benchmarks.real`` has it.
        answer: The output that is compared.
        learn: To take demonstrations from.
        choose: To choose by.
        hold: To be judged on; no search reads them.
        reasons: True when the program is a ChainOfThought.
        max_tokens: Of an answer.
    """

    name: str
    answer: str
    learn: tuple[Row, ...]
    choose: tuple[Row, ...]
    hold: tuple[Row, ...]
    reasons: bool
    max_tokens: int

    def is_right(self, truth: object, said: object) -> bool:
        """Compare the answer that a side gave with the true one, exactly."""
        return said == truth


def read_lesson(data: Path | None, name: str, sizes: Sizes) -> Lesson:
    """
    Return a task: of BANKING77 its own training and test rows, of GSM8K its rows in their order.

    Raises:
        DataMissing: The data are not there.
    """
    if name == "banking":
        pool = _messages(data, "banking77_train.jsonl", sizes.learn + sizes.choose)
        hold = _messages(data, "banking77_test.jsonl", sizes.hold)
        return Lesson(name, "intent", pool[: sizes.learn], pool[sizes.learn :], hold, False, 96)
    rows = tuple(word_problems(data))[: sizes.learn + sizes.choose + sizes.hold]
    learn, choose, hold = rows[: sizes.learn], rows[sizes.learn :][: sizes.choose], rows[sizes.learn + sizes.choose :]
    return Lesson(name, "answer", learn, choose, hold, True, 256)


def _messages(data: Path | None, name: str, count: int) -> tuple[Row, ...]:
    """Return messages of ten intents, the intents in turn."""
    found: dict[str, list[str]] = {intent: [] for intent in INTENTS}
    for line in read_lines(data, name):
        if line["intent"] in found:
            found[line["intent"]].append(line["text"])
    turns = zip(*(found[intent] for intent in INTENTS), strict=False)
    rows = [
        Row({"message": text}, {"intent": intent})
        for texts in turns
        for intent, text in zip(INTENTS, texts, strict=True)
    ]
    return tuple(rows[:count])
