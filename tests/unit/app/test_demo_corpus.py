"""The demo's corpus and its questions: this Python's own documentation."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from dspex.app.demo.corpus import passages
from dspex.app.demo.questions import Question, questions, split
from dspex.errors import ConfigError
from dspex.protocols.retrieval import Passage


@pytest.fixture(scope="module")
def counts() -> list[int]:
    """The progress told while the corpus was read."""
    return []


@pytest.fixture(scope="module")
def corpus(counts: list[int]) -> list[Passage]:
    return passages(counts.append)


@pytest.fixture(scope="module")
def drawn(corpus: list[Passage]) -> list[Question]:
    return questions(corpus, 600, seed=0)


class TestCorpus:
    def test_it_has_thousands_of_passages(self, corpus: list[Passage]) -> None:
        """Of modules written in Python and in C."""
        texts = {passage.title: passage.text for passage in corpus}

        assert len(texts) == len(corpus) > 4500
        assert texts["json.dumps"].startswith("Serialize ``obj`` to a JSON formatted ``str``.")
        assert texts["textwrap.TextWrapper.wrap"]
        assert texts["math.sqrt"] == "Return the square root of x."
        assert texts["builtins.str.split"]
        assert texts["os.getpid"]
        assert texts["collections.deque.append"]

    def test_names_are_public_and_sorted(self, corpus: list[Passage]) -> None:
        """Nothing private, no tests, no toys."""
        titles = [passage.title for passage in corpus]

        assert titles == sorted(titles)
        assert not [title for title in titles if any(part.startswith("_") for part in title.split("."))]
        heads = {title.split(".")[0] for title in titles}
        assert not heads & {"idlelib", "lib2to3", "test", "this", "antigravity", "turtledemo"}

    def test_every_passage_says_something(self, corpus: list[Passage]) -> None:
        """And can be found by its id."""
        assert all(passage.text.strip() and passage.id == passage.title for passage in corpus)

    def test_progress_only_grows(self, corpus: list[Passage], counts: list[int]) -> None:
        """It ends at the number of passages."""
        assert counts == sorted(counts)
        assert counts[-1] == len(corpus)

    def test_reading_it_prints_nothing_and_imports_no_toys(self) -> None:
        """In a fresh interpreter, where nothing is imported yet; the order is the same there."""
        program = (
            "import sys, hashlib\n"
            "from dspex.app.demo.corpus import passages\n"
            "digest = hashlib.sha256(repr(passages()).encode()).hexdigest()\n"
            "assert not {'this', 'antigravity', 'tkinter', 'turtle', 'idlelib'} & set(sys.modules)\n"
            "print(digest)\n"
        )
        runs = {
            subprocess.run(
                [sys.executable, "-W", "error", "-c", program],
                capture_output=True,
                check=True,
                env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            ).stdout
            for seed in ("1", "2")
        }

        assert len(runs) == 1
        assert re.fullmatch(rb"[0-9a-f]{64}\s+", runs.pop())


class TestQuestions:
    def test_the_same_seed_draws_the_same_questions(self, corpus: list[Passage], drawn: list[Question]) -> None:
        """And another seed others."""
        assert questions(corpus, 600, seed=0) == drawn
        assert questions(corpus, 600, seed=1) != drawn

    def test_questions_are_unique_and_neither_too_short_nor_too_long(self, drawn: list[Question]) -> None:
        """Counted in words, compared without punctuation."""
        words = [tuple(re.findall(r"\w+", question.question.lower())) for question in drawn]

        assert len(set(words)) == len(drawn) == len({question.answer for question in drawn})
        assert all(4 <= len(question.question.split()) <= 30 for question in drawn)

    def test_no_question_says_a_part_of_its_answer(self, drawn: list[Question]) -> None:
        """Neither the whole name nor a word of it, in any case."""
        for question in drawn:
            parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", question.answer)
            said = re.findall(r"[a-z]+", question.question.lower())
            assert not {part.lower() for part in parts} & set(said), question

    @pytest.mark.parametrize(
        ("title", "text", "expected"),
        [
            ("codecs.encode", "Encoded bytes of the text, encoding that.", "bytes of the text, that."),
            ("a.JSONEncoder", "Turn objects into JSON text with encoders here.", "Turn objects into text with here."),
            (
                "m.to_bytes",
                "to_bytes(length)\n\nReturn an array\nof small numbers. More.",
                "Return an array of small numbers.",
            ),
            ("m.urlopen", "Open the given address and read.", "the given address and read."),
            ("m.close", "Close it now.", None),
            ("m.long", " ".join(f"word{number}" for number in range(31)), None),
        ],
    )
    def test_the_name_is_taken_out_of_the_sentence(self, title: str, text: str, expected: str | None) -> None:
        """In every form; what is then too short or too long is not a question."""
        passage = Passage(text, title)
        if expected is None:
            with pytest.raises(ConfigError, match="gives 0 questions"):
                questions([passage], 1, seed=0)
        else:
            assert questions([passage], 1, seed=0) == [Question(expected, title)]

    def test_what_two_passages_would_ask_is_asked_of_neither(self) -> None:
        """There would be two right answers."""
        twins = [Passage("Write everything to the given file.", name) for name in ("a.alpha", "b.beta")]

        with pytest.raises(ConfigError, match="gives 0 questions, not 1"):
            questions(twins, 1, seed=0)


class TestSplit:
    def test_the_sets_are_disjoint_and_lose_nothing(self, drawn: list[Question]) -> None:
        """Sixty to learn from, two hundred to choose by, the rest to ask."""
        sets = split(drawn)

        assert (len(sets.train), len(sets.dev), len(sets.ask)) == (60, 200, 340)
        assert {*sets.train, *sets.dev, *sets.ask} == set(drawn)

    def test_too_few_questions_are_refused(self, drawn: list[Question]) -> None:
        """Nothing would be left to ask."""
        with pytest.raises(ConfigError, match="260 questions do not split"):
            split(drawn[:260])
