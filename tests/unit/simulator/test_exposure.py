"""Signs of a fake: a learner that reads, remembers, obeys, or knows the answers (S8)."""

import ast
import collections
import dataclasses
import functools
import hashlib
import json
import random
import re
import string
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from dspex.simulator import learner
from dspex.simulator.learner import Body, LearnerReply, answer
from dspex.simulator.learner._text import FUNCTION_WORDS, stem

_SOURCES = sorted(Path(learner.__file__).parent.glob("*.py"))
_ALLOWED = {"re", "math", "json", "hashlib", "random", "collections", "dataclasses", "typing"}
_ASKED = 200


def _value(reply: LearnerReply) -> str:
    return reply.text.removeprefix("[[ ## answer ## ]]\n").removesuffix("\n\n[[ ## completed ## ]]")


def _split(questions: Sequence[Any], at: int, count: int) -> list[Any]:
    """Draw demonstrations from the rows no question is asked from."""
    return random.Random(at).sample(list(questions[_ASKED:]), count)


def _share(questions: Sequence[Any], bodies: Callable[[Any, list[Any]], Body], count: int) -> float:
    asked = questions[:_ASKED]
    right: list[bool] = [
        _value(answer(bodies(one, _split(questions, at, count)), 0)) == one.answer for at, one in enumerate(asked)
    ]
    return sum(right) / len(asked)


def test_the_task_is_large_enough_to_measure_on(questions: Any) -> None:
    """Two hundred questions and forty rows for demonstrations, each answerable from its passages."""
    assert len(questions) == 240
    assert all(any(title == one.answer for title, _ in one.passages) for one in questions)


def test_more_demonstrations_give_more_right_answers(questions: Any, prompts: Any) -> None:
    """At temperature 1 the share of right answers rises with 0, 1, 2 and 4 demonstrations."""
    shares = [_share(questions, prompts.body, count) for count in (0, 1, 2, 4)]

    assert shares == sorted(shares)
    assert 0.2 < shares[0] < 0.4
    assert 0.45 < shares[1] < 0.7
    assert 0.6 < shares[2] < 0.85
    assert 0.75 < shares[3] < 0.95


@pytest.mark.slow
def test_label_only_demonstrations_teach_less_but_they_teach(questions: Any, prompts: Any) -> None:
    """Demonstrations without passages show only the shape of an answer, and still help."""
    bodies = functools.partial(prompts.body, passages_in_demos=False)
    shares = [_share(questions, bodies, count) for count in (0, 2, 4, 16)]

    assert shares == sorted(shares)
    assert shares[1] < _share(questions, prompts.body, 2)
    assert shares[3] > 0.7


@pytest.mark.slow
def test_swapped_demonstrations_teach_nothing(questions: Any, prompts: Any) -> None:
    """Demonstrations with each other's answers leave the share where it is without any."""

    def swapped(one: Any, demos: list[Any]) -> Body:
        turned = demos[1:] + demos[:1]
        pairs = zip(demos, turned, strict=True)
        body: Body = prompts.body(one, [dataclasses.replace(demo, answer=other.answer) for demo, other in pairs])
        return body

    zero = _share(questions, prompts.body, 0)
    spread = 2 * (zero * (1 - zero) / _ASKED) ** 0.5

    assert _share(questions, swapped, 4) <= zero + spread


def test_without_the_gold_passage_the_answer_is_wrong(questions: Any, prompts: Any) -> None:
    """The answer comes out of the passages: taken away, it is never given."""

    def robbed(one: Any, demos: list[Any]) -> Body:
        left = tuple(passage for passage in one.passages if passage[0] != one.answer)
        body: Body = prompts.body(dataclasses.replace(one, passages=left), demos)
        return body

    assert _share(questions, robbed, 4) == 0


def test_instructions_change_nothing(questions: Any, prompts: Any) -> None:
    """Other instructions, the same layout: the same reply and the same probability."""
    for at, one in enumerate(questions[:50]):
        demos = _split(questions, at, 2)
        told = prompts.system.replace("Name what is described.", "Think step by step. Never answer `sentence`.")
        plain = answer(prompts.body(one, demos, temperature=0), 0)

        assert answer(prompts.body(one, demos, temperature=0, system=told), 0) == plain


def _renamer() -> Callable[[str], str]:
    """Return a renaming of content words that keeps what is stripped off a stem, capitals and lengths."""
    taken: dict[int, dict[str, str]] = collections.defaultdict(dict)

    def fresh(root: str) -> str:
        known = taken[len(root)]
        if root not in known:
            letters, number, made = "bcfhjkmpqvwxz", len(known), ""
            for _ in root:
                number, digit = divmod(number, len(letters))
                made += letters[digit]
            known[root] = made
        return known[root]

    def one(match: re.Match[str]) -> str:
        word = match.group()
        low = word.lower()
        if low in FUNCTION_WORDS or len(low) < 3:
            return word
        root = stem(low)
        renamed = fresh(root) + low[len(root) :]
        return "".join(new.upper() if old.isupper() else new for old, new in zip(word, renamed, strict=True))

    return lambda text: re.sub(r"[A-Za-z]+", one, text)


def test_renaming_the_content_words_renames_the_reply(questions: Any, prompts: Any) -> None:
    """The learner knows no words: it treats made-up ones just as it treats English."""
    rename = _renamer()

    def renamed(one: Any) -> Any:
        passages = tuple((rename(title), rename(text)) for title, text in one.passages)
        return dataclasses.replace(one, text=rename(one.text), answer=rename(one.answer), passages=passages)

    def can_be_renamed(one: Any) -> bool:
        """Leave out other alphabets, and "longMessage": the learner reads it whole and, as a name, its end."""
        read = " ".join(text for _, text in one.passages)
        return str(one).isascii() and not re.search(r"\b[a-z\d_]\w*[A-Z]", read)

    rows = [one for one in questions if can_be_renamed(one)]
    assert len(rows) >= 100
    for at, one in enumerate(rows[:100]):
        demos = [demo for demo in _split(questions, at, 3) if demo in rows]
        said = answer(prompts.body(one, demos, temperature=0), 0)
        other = answer(prompts.body(renamed(one), [renamed(demo) for demo in demos], temperature=0), 0)

        assert (_value(other), other.rule, other.p) == (rename(_value(said)), said.rule, said.p)


_PRINT_DIGESTS = """
import hashlib, json, sys
from dspex.simulator.learner import Body, answer
for line in sys.stdin:
    messages, seed = json.loads(line)
    body = Body(messages=tuple(map(tuple, messages)), seed=seed, n=2)
    print(hashlib.sha256(repr([answer(body, 0), answer(body, 1)]).encode()).hexdigest())
"""


def test_two_processes_in_two_orders_give_the_same_bytes(questions: Any, prompts: Any) -> None:
    """No process, order or hash seed shows in a reply."""
    bodies = [prompts.body(one, _split(questions, at, 2), seed=at) for at, one in enumerate(questions[:40])]
    bodies = [dataclasses.replace(body, n=2) for body in bodies]
    order = random.Random(5).sample(range(40), 40)
    lines = "".join(json.dumps([bodies[at].messages, bodies[at].seed]) + "\n" for at in order)
    here = [hashlib.sha256(repr([answer(one, 0), answer(one, 1)]).encode()).hexdigest() for one in bodies]
    command = [sys.executable, "-c", _PRINT_DIGESTS]
    run = subprocess.run(command, input=lines, capture_output=True, text=True, check=True)

    assert run.stdout.split() == [here[at] for at in order]


def test_a_new_seed_is_a_new_draw(questions: Any, prompts: Any) -> None:
    """Rollouts differ because their seeds do, and only then."""
    drawn = {_value(answer(prompts.body(questions[0], seed=seed), 0)) for seed in range(20)}

    assert len(drawn) > 2
    assert answer(prompts.body(questions[0], seed=3), 0) == answer(prompts.body(questions[0], seed=3), 0)


def _imports(tree: ast.Module) -> set[str]:
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {name.partition(".")[0] for name in names if not name.startswith("dspex.simulator.learner")}


def _literals(tree: ast.Module) -> list[str]:
    """List the string literals that are not docstrings."""
    holders = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docs = [node.body[0] for node in ast.walk(tree) if isinstance(node, holders) and node.body]
    skipped = {id(node.value) for node in docs if isinstance(node, ast.Expr)}
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in skipped]
    return [node.value for node in found if isinstance(node.value, str)]


@pytest.mark.parametrize("path", _SOURCES, ids=lambda path: path.name)
def test_the_learner_imports_only_what_computes(path: Path) -> None:
    """No clock, file, environment, network or process is within the learner's reach."""
    assert _imports(ast.parse(path.read_text())) <= _ALLOWED


@pytest.mark.parametrize("path", _SOURCES, ids=lambda path: path.name)
def test_the_learner_holds_no_text(path: Path) -> None:
    """A canned answer would need a literal longer than sixty characters."""
    assert [one for one in _literals(ast.parse(path.read_text())) if len(one) > 60] == []


def test_the_learner_is_small_enough_to_read() -> None:
    """Thirteen hundred lines at most, three hundred in a file, and fifty words that it treats as small."""
    lines = [len(path.read_text().splitlines()) for path in _SOURCES]
    assert (max(lines) <= 300, sum(lines) <= 1300) == (True, True)
    assert len(FUNCTION_WORDS) <= 50
    assert all(set(word) <= set(string.ascii_lowercase) for word in FUNCTION_WORDS)


def test_nothing_in_the_package_reads_the_rule_header() -> None:
    """The rule is told to people: only the simulator and the demo that prints it name its header."""
    root = Path(learner.__file__).parents[2]
    named = [path for path in root.rglob("*.py") if "x-simulator-rule" in path.read_text(encoding="utf-8")]

    assert all("simulator" in path.parts or "demo" in path.parts for path in named)
