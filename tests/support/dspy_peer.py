"""
Runs in the benchmarks' environment, where DSPy is installed: one JSON task on standard input, its answer on the output.

- ``save``: write the state of every shape into ``folder``;
- ``load``: load every file of ``folder`` into its shape, and return the states that DSPy then has;
- ``optimize``: compile a predictor with the few-shot optimizers;
- ``parse``: read completions: ``[[adapter, signature, completion], …]`` to values, or to the name of the error.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import dspy  # type: ignore[import-not-found]  # it is installed beside this project, not in its environment

from tests.support.peer_programs import SHAPES, Shape


def filled(shape: Shape) -> Any:
    """Make a program and put into it what was learnt."""
    program = shape.make(dspy)
    predictors = dict(program.named_predictors())
    for path, change in shape.changes.items():
        predictor = predictors[path]
        signature = predictor.signature
        if change.instructions is not None:
            signature = signature.with_instructions(change.instructions)
        for name, desc in change.descs.items():
            signature = signature.with_updated_fields(name, desc=desc)
        for name, prefix in change.prefixes.items():
            signature = signature.with_updated_fields(name, prefix=prefix)
        predictor.signature = signature
        predictor.demos = [dspy.Example(**demo) for demo in change.demos]
    return program


def save(folder: Path) -> None:
    for name, shape in SHAPES.items():
        filled(shape).save(folder / f"{name}.json")
    program = SHAPES["chain"].make(dspy)
    program.set_lm(dspy.LM("openai/gpt-4o-mini", api_key="sk-never-saved", temperature=0.2, max_tokens=100))
    program.save(folder / "with_lm.json")


def load(folder: Path) -> dict[str, Any]:
    states: dict[str, Any] = {}
    for path in sorted(folder.glob("*.json")):
        shape = SHAPES.get(path.stem, SHAPES["chain"])
        program = shape.make(dspy)
        program.load(path)
        states[path.stem] = json.loads(json.dumps(program.dump_state()))
        for predictor in program.predictors():
            states[path.stem].setdefault("configs", []).append(predictor.config)
            assert all(isinstance(demo, (dict, dspy.Example)) for demo in predictor.demos)
    return states


def parse(cases: list[list[str]]) -> list[Any]:
    adapters = {"chat": dspy.ChatAdapter(), "json": dspy.JSONAdapter()}
    answers: list[Any] = []
    for adapter, signature, completion in cases:
        try:
            values = adapters[adapter].parse(dspy.Signature(signature), completion)
            answers.append({"values": json.loads(json.dumps(values))})
        except Exception as error:  # its class is the answer
            answers.append({"error": type(error).__name__})
    return answers


def optimize(rows: list[dict[str, str]], answers: dict[str, dict[str, str]]) -> dict[str, Any]:
    """Compile with DSPy's few-shot optimizers, and tell which questions each candidate shows, in order."""
    dspy.configure(lm=dspy.utils.DummyLM(answers))
    trainset = [dspy.Example(**row).with_inputs("question") for row in rows]

    def right(example: Any, prediction: Any, trace: Any = None) -> bool:
        return bool(example.answer == prediction.answer)

    def shown(program: Any) -> list[list[Any]]:
        return [[demo.question, bool(demo.get("augmented"))] for demo in program.demos]

    student = dspy.Predict("question -> answer")
    labeled = dspy.LabeledFewShot(k=5).compile(student, trainset=trainset)
    bootstrap = dspy.BootstrapFewShot(right, max_bootstrapped_demos=3, max_labeled_demos=6)
    few = bootstrap.compile(student, trainset=trainset)
    options = {"max_bootstrapped_demos": 3, "max_labeled_demos": 5, "num_candidate_programs": 6, "num_threads": 1}
    best = dspy.BootstrapFewShotWithRandomSearch(right, **options).compile(student, trainset=trainset, valset=trainset)
    found = sorted((each["seed"], each["score"], shown(each["program"])) for each in best.candidate_programs)
    return {"labeled": shown(labeled), "bootstrap": shown(few), "search": found, "best": shown(best)}


def main() -> None:
    logging.disable()
    task = json.load(sys.stdin)
    if task["do"] == "save":
        save(Path(task["folder"]))
        answer: Any = {"version": dspy.__version__}
    elif task["do"] == "load":
        answer = load(Path(task["folder"]))
    elif task["do"] == "optimize":
        with contextlib.redirect_stdout(sys.stderr):  # it prints as it goes
            answer = optimize(task["rows"], task["answers"])
    else:
        answer = parse(task["cases"])
    sys.stdout.write("\n" + json.dumps(answer))


if __name__ == "__main__":
    main()
