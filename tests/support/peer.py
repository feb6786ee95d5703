"""DSPy as a peer, asked in a process of its own: it lives in the benchmarks' environment."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import dspex
from tests.support.missing import missing
from tests.support.peer_programs import Shape

__all__ = ["GOLDEN", "ask_dspy", "filled"]

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".bench-venv/bin/python"
GOLDEN = ROOT / "tests/golden/dspy"


def ask_dspy(task: dict[str, Any]) -> Any:
    """Return what ``tests/support/dspy_peer.py`` answers; skips where there is no DSPy, and fails in CI."""
    if not PYTHON.exists():
        missing(f"{PYTHON.relative_to(ROOT)} is not there: `make test-slow` makes it")
    done = subprocess.run(
        [PYTHON, ROOT / "tests/support/dspy_peer.py"],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def filled(shape: Shape) -> dspex.Module:
    """Make dspex's program of a shape and put into it what was learnt."""
    program: dspex.Module = shape.make(dspex)
    parts: dict[str, Any] = {}
    for path, change in shape.changes.items():
        predictor = program.predictors()[path]
        signature = predictor.signature
        if change.instructions is not None:
            signature = signature.with_instructions(change.instructions)
        for name, desc in change.descs.items():
            signature = signature.with_updated_fields(name, desc=desc)
        parts[path] = predictor.with_signature(signature).with_demos([dspex.Example(demo) for demo in change.demos])
    return parts["self"] if "self" in parts else program.replace(parts)
