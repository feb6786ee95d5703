"""A notebook with a real kernel: progress is a bar that goes on in its place, results are tables, logs stay silent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.missing import missing

try:
    import nbformat
    from nbclient import NotebookClient
except ImportError:
    missing("nbclient and ipykernel are not installed")

FIRST = """
import dspex
from dspex.testing import ScriptedLM

lm = ScriptedLM(lambda request: {"answer": "<b>a</b>"})
app = dspex.App(lm, cache=None, home=HOME)
await app.start()
program = dspex.Predict("question -> answer")
rows = [dspex.Example(question=f"q{number}", answer="<b>a</b>") for number in range(20)]
"""
CELLS = {
    "report": "report = await app.evaluate(program, rows, dspex.exact_match())\nreport",
    "prediction": "prediction = await app.run(program, question='q')\nprediction",
    "job": "job = await app.compile(program, dspex.BootstrapFewShot(dspex.exact_match()), trainset=rows)\n"
    "await job.result()\njob",
    "tree": "app.tree()",
    "quiet": "again = await app.evaluate(program, rows, dspex.exact_match(), progress=False)",
    "closed": "await app.aclose()",
}


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.allow_blocking("a kernel is started, and its client waits for it in places")
async def test_progress_and_results_are_shown(tmp_path: Path) -> None:
    form: Any = nbformat.v4  # it has no types
    notebook = form.new_notebook()
    first = FIRST.replace("HOME", repr(str(tmp_path)))
    notebook.cells = [form.new_code_cell(each) for each in (first, *CELLS.values())]
    client = NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    await client.async_execute()

    shown = {name: cell.outputs for name, cell in zip(CELLS, notebook.cells[1:], strict=True)}
    pages = {
        name: [each.data["text/html"] for each in outputs if "text/html" in each.get("data", {})]
        for name, outputs in shown.items()
    }
    bar, report = pages["report"]
    assert "20" in bar
    assert "<progress" in bar
    assert "1.000" in report
    assert "&lt;b&gt;a&lt;/b&gt;" in pages["prediction"][0], "the words of a model are text"
    assert "finished" in pages["job"][-1]
    assert "ledger" in pages["tree"][0]
    assert shown["quiet"] == []
    assert [each for outputs in shown.values() for each in outputs if each.output_type in ("stream", "error")] == []
    everything = "".join(page for found in pages.values() for page in found)
    assert "<b>a</b>" not in everything
