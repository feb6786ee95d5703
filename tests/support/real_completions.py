"""
Completions of a real model, recorded with what a person reads in them: ``tests/golden/real/completions.jsonl``.

A line has the ``task`` (a signature of ``benchmarks.real.signatures``), the ``form`` that was asked (who and which
adapter), the ``reader`` that reads such a form (an adapter, ``native`` for tools that were given to the model itself,
``values`` for the turn behind thoughts), the ``digest`` of the prompt, the completion (``text``, ``finish`` and
``tool_calls`` where there are some), and ``expected``: the outputs that it states without doubt, null where it states
none, contradicts itself or is cut off before the value ends. ``today`` is what the readers made of it when it was
looked at last: ``read`` (as expected), ``refused`` or ``wrong`` (any other value).

Run as a program after a change of the readers, it writes ``today`` anew, and refuses where that is worse.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import TypeAdapter

import dspex
from benchmarks.real.signatures import TOOLS, make_signature
from dspex.errors import ResponseUnparsable
from dspex.programs import JSONAdapter
from dspex.programs.adapters._choose import choose_adapter
from dspex.programs.adapters._native import native_of
from dspex.protocols.content import ToolCall
from dspex.protocols.lm import Capabilities, Completion

__all__ = ["CORPUS", "Recorded", "Status", "read_corpus", "status_of"]

CORPUS: Final = Path(__file__).parents[1] / "golden" / "real" / "completions.jsonl"
Status = Literal["read", "refused", "wrong"]
BETTER: Final[Mapping[str, int]] = {"wrong": 0, "refused": 1, "read": 2}
_PLAIN: Final = TypeAdapter(Any)
_TOOLS: Final = Capabilities(tools=True)


@dataclass(frozen=True, slots=True)
class Recorded:
    """One completion."""

    task: str
    form: str
    reader: str
    digest: str
    text: str
    finish: str
    expected: Mapping[str, Any] | None
    today: Status | None
    tool_calls: tuple[Mapping[str, Any], ...] = ()

    @property
    def completion(self) -> Completion:
        """The completion as a reader gets it."""
        calls = tuple(
            ToolCall(f"call_{number}", each["name"], _object_of(each["arguments"]), each["arguments"])
            for number, each in enumerate(self.tool_calls, 1)
        )
        return Completion(self.text, self.finish, calls)


def _object_of(raw: str) -> dict[str, Any] | None:
    try:
        found = json.loads(raw)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def read_corpus() -> list[Recorded]:
    """Return all of them, in the order of the file."""
    rows = [json.loads(line) for line in CORPUS.read_text(encoding="utf-8").splitlines()]
    return [Recorded(**{**row, "tool_calls": tuple(row.get("tool_calls", ()))}) for row in rows]


@cache
def _signature(task: str) -> type[dspex.Signature]:
    found: type[dspex.Signature] = make_signature(task, dspex)
    if task == "gsm8k":
        return dspex.ChainOfThought(found).predict.signature
    return found


def outputs_of(recorded: Recorded) -> dict[str, Any]:
    """
    Return what today's reader reads, as JSON has it; reasoning is left out.

    Raises:
        ResponseUnparsable: It refuses.
    """
    signature = _signature(recorded.task)
    if recorded.reader == "values":
        outputs = JSONAdapter().parse(signature.delete("reasoning"), recorded.completion).outputs
    elif recorded.reader == "native":
        adapter = choose_adapter("chat")
        assert adapter is not None
        native = native_of(signature, adapter, _TOOLS, None)
        assert native is not None
        outputs = native.read(adapter, recorded.completion, [each.__name__ for each in TOOLS]).outputs
    else:
        adapter = choose_adapter(recorded.reader)  # type: ignore[arg-type]  # the file names adapters
        assert adapter is not None
        outputs = adapter.parse(signature, recorded.completion).outputs
    calls = outputs.get("calls")
    if calls is not None:
        return {
            "calls": [{"name": each.name, "args": _PLAIN.dump_python(each.arguments, mode="json")} for each in calls]
        }
    found = {name: value for name, value in outputs.items() if name != "reasoning"}
    return dict(_PLAIN.dump_python(found, mode="json"))


def status_of(recorded: Recorded) -> Status:
    """Read it, and compare with what a person read."""
    try:
        found = outputs_of(recorded)
    except ResponseUnparsable:
        return "refused"
    return "read" if found == recorded.expected else "wrong"


def main() -> int:
    """Write ``today`` anew; 1 where a completion is read worse than before, and nothing is written."""
    rows = read_corpus()
    now = [status_of(each) for each in rows]
    worse = [
        (each, status)
        for each, status in zip(rows, now, strict=True)
        if each.today and BETTER[status] < BETTER[each.today]
    ]
    for each, status in worse:
        sys.stdout.write(f"{each.today} -> {status}: {each.task} {each.reader} {each.digest}\n{each.text}\n\n")
    if worse:
        return 1
    lines = CORPUS.read_text(encoding="utf-8").splitlines()
    written = [{**json.loads(line), "today": status} for line, status in zip(lines, now, strict=True)]
    CORPUS.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in written), encoding="utf-8")
    sys.stdout.write(", ".join(f"{now.count(each)} {each}" for each in ("read", "refused", "wrong")) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
