"""
Runs in the benchmarks' environment, where DSPy is installed: one JSON task on standard input, its answer on the output.

- ``save``: write the state of every shape into ``folder``;
- ``load``: load every file of ``folder`` into its shape, and return the states that DSPy then has;
- ``optimize``: compile a predictor with the few-shot optimizers;
- ``nearest``: ask KNNFewShot which demonstrations it shows for each query;
- ``copro``: compile with COPRO and scripted proposals, and tell the attempts with their scores;
- ``mipro``: make the sets of demonstrations that MIPROv2 mixes;
- ``arguments``: list every optimizer with its arguments;
- ``parse``: read completions: ``[[adapter, signature, completion], …]`` to values, or to the name of the error.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import logging
import random
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import dspy  # type: ignore[import-not-found]  # it is installed beside this project, not in its environment
import numpy as np

from tests.support.peer_programs import SHAPES, Shape

ALPHABET = "abcdefghijklmnopqrstuvwxyz"


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


def letters(texts: list[str]) -> Any:
    """Return a vector of length one for each text, by how often each letter is in it: the dot product is the cosine."""
    counts = np.array([[text.lower().count(each) for each in ALPHABET] for text in texts], dtype="float32")
    return counts / np.linalg.norm(counts, axis=1, keepdims=True)


def nearest(rows: list[dict[str, str]], answers: dict[str, dict[str, str]], queries: list[str], k: int) -> Any:
    """Return the questions that KNNFewShot shows for each query, and whether each was worked out."""
    dspy.configure(lm=dspy.utils.DummyLM(answers))
    trainset = [dspy.Example(**row).with_inputs("question") for row in rows]

    def right(example: Any, prediction: Any, trace: Any = None) -> bool:
        return bool(example.answer == prediction.answer)

    vectorizer = dspy.Embedder(letters)
    found = []
    for query in queries:
        neighbours = dspy.KNN(k, trainset, vectorizer=vectorizer)(question=query)
        few = dspy.BootstrapFewShot(right, max_bootstrapped_demos=k, max_labeled_demos=0)
        program = few.compile(dspy.Predict("question -> answer"), trainset=neighbours)
        found.append([demo.question for demo in program.demos])
    return found


class Proposing(dspy.LM):  # type: ignore[misc]  # DSPy has no types here
    """Writes the scripted instructions in turn; answers with the row's answer where the instruction is good for it."""

    def __init__(self, texts: list[str], right: dict[str, list[str]], answers: dict[str, str]) -> None:
        super().__init__("openai/scripted", cache=False)
        self.texts, self.right, self.answers = list(texts), right, answers

    def forward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        whole = "\n".join(str(each["content"]) for each in messages)
        count = kwargs.get("n") or 1
        if "proposed_instruction" in whole:
            outs = [self.texts.pop(0) for _ in range(count)]
            return _reply(
                [
                    f"[[ ## proposed_instruction ## ]]\n{out}\n\n"
                    "[[ ## proposed_prefix_for_output_field ## ]]\nAnswer:\n\n[[ ## completed ## ]]"
                    for out in outs
                ]
            )
        question = next(each for each in self.answers if each in str(messages[-1]["content"]))
        good = any(text in whole and question in known for text, known in self.right.items())
        said = self.answers[question] if good else "?"
        return _reply([f"[[ ## answer ## ]]\n{said}\n\n[[ ## completed ## ]]"] * count)


def _reply(texts: list[str]) -> Any:
    from litellm import Choices, Message, ModelResponse, Usage  # type: ignore[import-not-found]  # DSPy's

    choices = [Choices(message=Message(content=text), finish_reason="stop", index=at) for at, text in enumerate(texts)]
    return ModelResponse(choices=choices, usage=Usage(prompt_tokens=1, completion_tokens=1), model="scripted")


def copro(rows: list[dict[str, str]], texts: list[str], right: dict[str, list[str]]) -> Any:
    """Return the attempts of COPRO with their scores, the best first, and the instruction that it chose."""
    dspy.configure(lm=Proposing(texts, right, {row["question"]: row["answer"] for row in rows}))
    trainset = [dspy.Example(**row).with_inputs("question") for row in rows]

    def metric(example: Any, prediction: Any, trace: Any = None) -> bool:
        return bool(example.answer == prediction.answer)

    search = dspy.COPRO(metric=metric, breadth=3, depth=2, track_stats=True)
    quiet = {"num_threads": 1, "display_progress": False, "display_table": 0}
    best = search.compile(
        dspy.Predict(
            "question -> answer",
        ),
        trainset=trainset,
        eval_kwargs=quiet,
    )
    tried = [[each["instruction"], each["score"]] for each in best.candidate_programs]
    return {"tried": tried, "best": best.signature.instructions}


def arguments() -> dict[str, list[str]]:
    """Return every optimizer with the arguments of its constructor and of ``compile``."""
    found: dict[str, list[str]] = {}
    for name in dir(dspy.teleprompt):
        each: Any = getattr(dspy.teleprompt, name)
        if inspect.isclass(each) and issubclass(each, dspy.teleprompt.Teleprompter) and name != "Teleprompter":
            methods = [getattr(each, method) for method in ("__init__", "compile")]
            given = [argument for method in methods for argument in inspect.signature(method).parameters]
            found[name] = sorted({one for one in given if one != "self" and not one.startswith("_")})
    return found


class Apart(random.Random):
    """A generator that begins anew for each set, with the set's number; MIPROv2 has one for all sets."""

    number = -1

    def shuffle(self, x: Any) -> None:
        self.number += 1
        random.Random(self.number).shuffle(x)

    def randint(self, a: int, b: int) -> int:
        return random.Random(self.number).randint(a, b)


def mipro(rows: list[dict[str, str]], answers: dict[str, dict[str, str]]) -> Any:
    """Return the sets of demonstrations that MIPROv2 mixes: with a generator for each set, and with its own."""
    from dspy.teleprompt.utils import create_n_fewshot_demo_sets  # type: ignore[import-not-found]  # as above

    dspy.configure(lm=dspy.utils.DummyLM(answers))
    trainset = [dspy.Example(**row).with_inputs("question") for row in rows]

    def right(example: Any, prediction: Any, trace: Any = None) -> bool:
        return bool(example.answer == prediction.answer)

    found = []
    for rng in (Apart(), random.Random(9)):
        sets = create_n_fewshot_demo_sets(
            student=dspy.Predict("question -> answer"),
            num_candidate_sets=7,
            trainset=trainset,
            max_labeled_demos=5,
            max_bootstrapped_demos=3,
            metric=right,
            teacher_settings={},
            seed=9,
            rng=rng,
        )
        found.append([[[demo.question, bool(demo.get("augmented"))] for demo in each] for each in sets[0]])
    return found


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
    elif task["do"] == "nearest":
        answer = nearest(task["rows"], task["answers"], task["queries"], task["k"])
    elif task["do"] == "copro":
        with contextlib.redirect_stdout(sys.stderr):
            answer = copro(task["rows"], task["texts"], task["right"])
    elif task["do"] == "mipro":
        with contextlib.redirect_stdout(sys.stderr):
            answer = mipro(task["rows"], task["answers"])
    elif task["do"] == "arguments":
        answer = arguments()
    else:
        answer = parse(task["cases"])
    sys.stdout.write("\n" + json.dumps(answer))


if __name__ == "__main__":
    main()
