"""A real retrieval task from the standard library: which object does this line of documentation describe?"""

import ast
import heapq
import importlib.util
import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dspex.simulator.learner import Body, Role

# fmt: off
_MODULES = (
    "abc", "argparse", "ast", "asyncio.base_events", "asyncio.events", "asyncio.locks", "asyncio.queues",
    "asyncio.streams", "asyncio.tasks", "base64", "bisect", "bz2", "calendar", "cmd", "code", "collections",
    "concurrent.futures._base", "configparser", "contextlib", "copy", "csv", "dataclasses", "datetime", "decimal",
    "difflib", "dis", "email.charset", "email.header", "email.message", "email.utils", "enum", "filecmp", "fractions",
    "ftplib", "functools", "getpass", "gettext", "glob", "gzip", "hashlib", "heapq", "hmac", "html.parser",
    "http.client", "http.cookies", "imaplib", "inspect", "ipaddress", "json", "json.decoder", "linecache", "locale",
    "logging", "logging.handlers", "lzma", "mailbox", "mimetypes", "optparse", "os", "pathlib", "pdb", "pickle",
    "pickletools", "platform", "plistlib", "poplib", "pprint", "queue", "random", "sched", "selectors", "shelve",
    "shlex", "shutil", "smtplib", "socket", "socketserver", "sqlite3.dump", "ssl", "statistics", "string",
    "subprocess", "symtable", "tarfile", "tempfile", "textwrap", "threading", "timeit", "tokenize", "trace",
    "traceback", "turtle", "types", "typing", "unittest.case", "unittest.mock", "urllib.parse", "urllib.request",
    "uuid", "warnings", "wave", "weakref", "webbrowser", "xml.dom.minidom", "xml.sax.handler", "zipfile",
)
# fmt: on
_WORD = re.compile(r"[a-z]+|\d+")


def _words(text: str) -> list[str]:
    return _WORD.findall(re.sub(r"([a-z])([A-Z])", r"\1 \2", text).lower())


def _documented(module: str) -> list[tuple[str, str]]:
    """List the dotted names and docstrings of a module's source."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        return []
    found: list[tuple[str, str]] = []

    def visit(node: ast.AST, name: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                dotted = f"{name}.{child.name}"
                if text := ast.get_docstring(child):
                    found.append((dotted, " ".join(text.split())[:300]))
                visit(child, dotted)

    visit(ast.parse(Path(spec.origin).read_text(encoding="utf-8")), module)
    return found


@dataclass(frozen=True)
class Question:
    """One question, its answer, and the passages found for it, best first."""

    text: str
    answer: str
    passages: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Index:
    """BM25 over titles and texts."""

    documents: Sequence[tuple[str, str]]
    counts: list[Counter[str]] = field(default_factory=list)
    postings: dict[str, list[int]] = field(default_factory=dict)

    def search(self, query: str, k: int) -> list[tuple[str, str]]:
        """Return the k best documents, best first."""
        scores: dict[int, float] = defaultdict(float)
        for word in set(_words(query)):
            held = self.postings.get(word, [])
            weight = math.log(1 + len(self.documents) / (1 + len(held)))
            for at in held:
                count = self.counts[at][word]
                scores[at] += weight * count * 2.2 / (count + 0.3 + 0.9 * self.counts[at].total() / 30)
        return [self.documents[at] for at in heapq.nlargest(k, scores, key=lambda at: (scores[at], -at))]


def _index(documents: Sequence[tuple[str, str]]) -> Index:
    index = Index(documents)
    for at, (title, text) in enumerate(documents):
        counts = Counter(_words(f"{title} {text}"))
        index.counts.append(counts)
        for word in counts:
            index.postings.setdefault(word, []).append(at)
    return index


@pytest.fixture(scope="session")
def questions() -> list[Question]:
    """Questions whose answer is the title of a passage: 240 of them, in a fixed random order."""
    documents = [one for module in _MODULES for one in _documented(module)]
    lines = {name: re.split(r"(?<=[.:])\s", text)[0] for name, text in documents}
    unique = Counter(lines.values())
    index = _index(documents)
    source = random.Random(0)
    names = sorted(name for name, line in lines.items() if unique[line] == 1)
    source.shuffle(names)
    asked: list[Question] = []
    for name in names:
        own = set(_words(name))
        text = " ".join(word for word in lines[name].split() if not set(_words(word)) & own)
        found = index.search(text, 3)
        if len(text.split()) >= 4 and any(title == name for title, _ in found):
            asked.append(Question(text, name, tuple(found)))
        if len(asked) == 240:
            return asked
    return asked


SYSTEM = """Your input fields are:
1. `passages` (list[str]):
2. `question` (str):
Your output fields are:
1. `answer` (str):

[[ ## passages ## ]]
{passages}

[[ ## question ## ]]
{question}

[[ ## answer ## ]]
{answer}

[[ ## completed ## ]]
Name what is described."""


def _asked(question: Question, *, passages: bool) -> str:
    listed = "\n".join(f"[{at}] {title} | {text}" for at, (title, text) in enumerate(question.passages, 1))
    head = f"[[ ## passages ## ]]\n{listed}\n\n" if passages else ""
    return f"{head}[[ ## question ## ]]\n{question.text}"


class Prompts:
    """Builds the prompts of the task."""

    system = SYSTEM

    def body(
        self,
        question: Question,
        demos: Sequence[Question] = (),
        *,
        system: str = SYSTEM,
        passages_in_demos: bool = True,
        temperature: float = 1.0,
        seed: int | None = None,
    ) -> Body:
        """Write a question and its demonstrations as a conversation."""
        turns: list[tuple[Role, str]] = [("system", system)]
        for demo in demos:
            turns.append(("user", _asked(demo, passages=passages_in_demos)))
            turns.append(("assistant", f"[[ ## answer ## ]]\n{demo.answer}\n\n[[ ## completed ## ]]"))
        end = "Respond with the field `[[ ## answer ## ]]`, and then end with `[[ ## completed ## ]]`."
        turns.append(("user", f"{_asked(question, passages=True)}\n\n{end}"))
        return Body(messages=tuple(turns), temperature=temperature, seed=seed)


@pytest.fixture(scope="session")
def prompts() -> Prompts:
    """How the task is put to the learner."""
    return Prompts()
