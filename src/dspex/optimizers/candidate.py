"""Candidates: what a search changes of a program, as a value that a journal can keep."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dspex.optimizers.fingerprint import digest
from dspex.programs import Example, Module, Predict, to_plain
from dspex.programs.portable import portable_fields, untagged
from dspex.protocols.json_values import Json
from dspex.protocols.model import LM, LMChoice, LMPool

__all__ = ["Candidate", "Demo", "Named", "named_among", "shown_row", "shows", "without_row"]

Demo = Json
"""A demonstration: field values by name, as JSON has them."""


Named = Callable[[LMChoice, str], LMChoice]
"""Returns the model that is meant, from the one that a predictor has and a name."""


@dataclass(frozen=True)
class Candidate:
    """
    A change of a program: instructions and demonstrations by predictor path; the rest stays as the program has it.

    Two candidates with the same content are the same candidate, and their evaluations are paid once.

    Attributes:
        instructions: New instructions, by predictor path.
        demos: New demonstrations, by predictor path; they replace those that the predictor has.
        lms: Other models, by predictor path: names of the App's, or ``provider/model``. One of the provider of the
            predictor's own model is asked as that is: at its address, with its key and parameters.
        program: Which program is changed: empty for the student, else a name of ``Algorithm.programs``.
    """

    instructions: Mapping[str, str] = field(default_factory=dict)
    demos: Mapping[str, tuple[Demo, ...]] = field(default_factory=dict)
    lms: Mapping[str, str] = field(default_factory=dict)
    program: str = ""
    key: str = field(init=False, compare=False, repr=False)
    """A hash of the content: the same in every process."""

    def __post_init__(self) -> None:
        demos = {path: tuple(each) for path, each in self.demos.items()}
        object.__setattr__(self, "demos", demos)
        content = [self.instructions, demos, self.lms, self.program]
        object.__setattr__(self, "key", digest(content)[:20] if any(content) else "student")

    def __hash__(self) -> int:
        return hash(self.key)

    def with_instructions(self, instructions: Mapping[str, str]) -> Candidate:
        """Return a candidate with these instructions in place of its own at the same paths."""
        return replace(self, instructions={**self.instructions, **instructions})

    def with_demos(self, demos: Mapping[str, Sequence[Demo]]) -> Candidate:
        """Return a candidate with these demonstrations in place of its own at the same paths."""
        return replace(self, demos={**self.demos, **{path: tuple(each) for path, each in demos.items()}})

    def over(self, other: Candidate) -> Candidate:
        """Return this change made on top of another."""
        return Candidate(
            {**other.instructions, **self.instructions},
            {**other.demos, **self.demos},
            {**other.lms, **self.lms},
            self.program or other.program,
        )

    def applied(self, program: Module, named: Named | None = None) -> Module:
        """
        Return the program with this change; ``program`` itself is untouched.

        Args:
            program: The program.
            named: Returns the model that is meant, from a predictor's own and a name of ``lms``; None takes the name.

        Raises:
            StateError: The change does not fit: it is of another program, or a demonstration cannot be read.
        """
        if not (self.instructions or self.demos or self.lms):
            return program
        state = {path: each for path, each in program.dump_state().items() if path != "metadata"}
        given = {path for each in (self.instructions, self.demos, self.lms) for path in each}
        whole: dict[str, Any] = {
            path: {"demos": each["demos"], "signature": each["signature"]} for path, each in state.items()
        }
        for path in given:
            each = whole.setdefault(path, {})  # a path that the program lacks is told by load_state
            if path in self.instructions:
                each["signature"] = {**each.get("signature", {}), "instructions": self.instructions[path]}
            if path in self.demos:
                each["demos"] = [dict(demo) for demo in self.demos[path]]
        changed = program.load_state(whole)
        if not self.lms:
            return changed
        predictors = changed.predictors()
        parts = {
            path: predictors[path].with_lm(named(predictors[path].lm, lm) if named is not None else lm)
            for path, lm in self.lms.items()
        }
        if isinstance(changed, Predict):  # a predictor is not a part of itself
            (only,) = parts.values()
            return only
        return changed.replace(parts)

    def plain(self) -> dict[str, object]:
        """Return the content as JSON values."""
        demos = {path: [dict(demo) for demo in each] for path, each in self.demos.items()}
        return {
            "instructions": dict(self.instructions),
            "demos": demos,
            "lms": dict(self.lms),
            "program": self.program,
        }

    @classmethod
    def of(cls, data: Json) -> Candidate:
        """Return the candidate that ``plain`` wrote."""
        demos = {path: tuple(each) for path, each in data["demos"].items()}
        return cls(dict(data["instructions"]), demos, dict(data.get("lms", {})), data.get("program", ""))


def named_among(lms: Mapping[str, LM | LMPool], default: LMChoice) -> Named:
    """
    Return what finds the models of candidates.

    Args:
        lms: The App's, by name.
        default: The one that predictors without a model have; None for the App's default.
    """

    def named(own: LMChoice, name: str) -> LMChoice:
        base = own if own is not None else default
        record = lms.get("default" if base is None else base) if base is None or isinstance(base, str) else base
        if isinstance(base, str) and record is None and "/" in base:
            record = LM(base)
        if name in lms or type(record) is not LM or not name.startswith(f"{record.provider}/"):
            return name
        return LM(
            name,
            api_base=record.api_base,
            api_key=record.api_key,
            headers=record.headers,
            capabilities=record.capabilities,
            **record.params.given(),
        )

    return named


# --- rows as demonstrations ---------------------------------------------------------------------------------


def shown_row(predictor: Predict, example: Example) -> Demo | None:
    """Return the fields of a row that a predictor has; None without one of its inputs and one of its outputs."""
    fields = predictor.signature.fields
    given = {name: example[name] for name in fields if name in example}
    try:
        found = portable_fields(predictor.signature, given)
    except TypeError:
        found = {name: to_plain(value) for name, value in given.items()}
    return found if {fields[name].role for name in found} == {"input", "output"} else None


def shows(demo: Demo, row: Mapping[str, object], inputs: Collection[str]) -> bool:
    """
    Say if a demonstration gives a row away: they share an input of the row, and every field that both have is equal.

    A shared answer alone says nothing: many rows have the answer "yes".
    """
    shared = [name for name in demo if name in row]
    return any(name in inputs for name in shared) and all(untagged(demo[name]) == row[name] for name in shared)


def without_row(
    candidate: Candidate, own: Mapping[str, Sequence[Demo]], row: Mapping[str, object], inputs: Collection[str]
) -> Candidate:
    """
    Return the candidate without demonstrations that show ``row``; it is what a row may be evaluated with.

    Args:
        candidate: The candidate to evaluate.
        own: The demonstrations that the program itself brings, by predictor path.
        row: The row's fields, as JSON has them.
        inputs: The names of those that the program is given.
    """
    changed = {}
    for path, demos in {**own, **candidate.demos}.items():
        kept = [demo for demo in demos if not shows(demo, row, inputs)]
        if len(kept) < len(demos):
            changed[path] = kept
    return candidate.with_demos(changed) if changed else candidate
