"""Instructions for models that write instructions: one signature for each kind of proposal, in our own words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from dspex.evaluation import Row
from dspex.optimizers.candidate import Candidate
from dspex.optimizers.plans import Evaluation, Plan, Run, Task, chance
from dspex.programs import InputField, OutputField, Predict, Signature, to_plain

__all__ = [
    "TIPS",
    "DescribeData",
    "ExtendPlaybook",
    "FindRules",
    "ImproveFromReasons",
    "ImproveFromTraces",
    "OfferAdvice",
    "ProposeFromAttempts",
    "ProposeInstruction",
    "ReflectOnWork",
    "described_program",
    "described_step",
    "judged_runs",
    "shown_rows",
    "shown_traces",
]

LONGEST = 2_000
"""Characters of one value that a proposer is shown."""

JUDGED = 8
"""Runs of the program whose judgements a proposer is shown."""

TIPS: Mapping[str, str] = {
    "none": "",
    "creative": "Approach the task from an unexpected side.",
    "simple": "Be short and clear.",
    "description": "Explain in detail what the task is and how to go about it.",
    "high_stakes": "Put the task into a situation in which a mistake would be costly.",
    "persona": "Say which expert the model should answer as.",
}
"""Directions that are drawn at random, so that proposals differ; the kinds are those of Opsahl-Ong et al. (2024)."""


class DescribeData(Signature):
    """
    Describe what these examples have in common, in two or three sentences.

    Name their topics, the form of inputs and outputs, the style, and anything that somebody who writes instructions for
    the task should know.
    """

    examples: str = InputField(desc="some rows of the data, as JSON")
    observations: list[str] = InputField(desc="what was noted about other rows; may be empty")
    description: str = OutputField()


class ProposeInstruction(Signature):
    """
    Write an instruction for one step of a program that language models carry out.

    It stands at the top of the prompt, before the fields of the step. It must be complete: whoever reads it knows
    nothing else of the program.
    """

    program: str = InputField(desc="all steps of the program")
    step: str = InputField(desc="the step that the instruction is for")
    data: str = InputField(desc="what the data looks like")
    demonstrations: str = InputField(desc="examples of the step done well, as JSON; may be empty")
    work: str = InputField(desc="some of the program's runs with their judgements; may be empty")
    current_instruction: str = InputField()
    tip: str = InputField(desc="how to go about it; may be empty")
    hints: str = InputField(desc="words of the people who know the task; may be empty")
    instruction: str = OutputField(desc="the new instruction alone")


class ProposeFromAttempts(Signature):
    """
    Write a better instruction for one step of a program that language models carry out.

    You see earlier attempts with their scores, the worst first. Find out why some are better, and go further.
    """

    step: str = InputField(desc="the step that the instruction is for")
    attempts: str = InputField(desc="earlier instructions with their scores, the worst first; may be empty")
    work: str = InputField(desc="some of the program's runs with their judgements; may be empty")
    current_instruction: str = InputField()
    hints: str = InputField(desc="words of the people who know the task; may be empty")
    instruction: str = OutputField(desc="the new instruction alone")


class FindRules(Signature):
    """
    From examples of a step done well, work out rules for doing it as well on new inputs.

    Each rule is general, can be followed, and does not name a single example.
    """

    step: str = InputField(desc="what the step takes and gives")
    examples: str = InputField(desc="as JSON")
    work: str = InputField(desc="some of the program's runs with their judgements; may be empty")
    count: int = InputField(desc="how many rules are wanted at most")
    rules: list[str] = OutputField()


class OfferAdvice(Signature):
    """
    Compare a better and a worse run of one step on the same input, and give advice for the next time.

    Say in general words when the advice applies and what to do then. It is for inputs nobody has seen yet, so do not
    name this one.
    """

    step: str = InputField(desc="what the step takes and gives")
    better: str = InputField(desc="the better run, with its judgement")
    worse: str = InputField(desc="the worse run, with its judgement")
    hints: str = InputField(desc="words of the people who know the task; may be empty")
    advice: str = OutputField(desc="two or three sentences")


class ImproveFromTraces(Signature):
    """
    Write a better instruction for one step of a program that language models carry out, from judgements on its work.

    Keep what works, and correct what the judgements complain about. Put in facts about the task that the judgements
    reveal and that a model could not know. The instruction must be complete, for it replaces the old one.
    """

    step: str = InputField(desc="what the step takes and gives")
    current_instruction: str = InputField()
    work: str = InputField(desc="inputs, outputs and judgements")
    hints: str = InputField(desc="words of the people who know the task; may be empty")
    instruction: str = OutputField(desc="the new instruction alone")


class ReflectOnWork(Signature):
    """
    Read some runs of one step with their judgements, and say what can be learned from them.

    Find the cause of each mistake, and the insight that would have avoided it. Name the lessons of the playbook that
    helped and those that misled, by their marks, b7 for example.
    """

    step: str = InputField(desc="what the step takes and gives")
    playbook: str = InputField(desc="the lessons so far, each with its mark; may be empty")
    work: str = InputField(desc="rows with what is known of them, inputs, outputs and judgements")
    hints: str = InputField(desc="words of the people who know the task; may be empty")
    insights: str = OutputField(desc="causes and insights")
    helpful: list[str] = OutputField(desc="marks of lessons that helped")
    harmful: list[str] = OutputField(desc="marks of lessons that misled")


class ExtendPlaybook(Signature):
    """
    Add lessons to a playbook, from insights into earlier work. Do not write again what is there already.

    Each lesson stands alone, is one to three sentences, and helps with inputs nobody has seen yet: a strategy, a fact
    about the task, a mistake to avoid. With nothing new, the list is empty.
    """

    step: str = InputField(desc="what the step takes and gives")
    playbook: str = InputField(desc="the lessons so far; may be empty")
    insights: str = InputField()
    lessons: list[str] = OutputField(desc="new lessons alone")


class ImproveFromReasons(Signature):
    """
    Write a better instruction for one step of a program that language models carry out, from comparisons of its work.

    Each reason says what made one answer better than another. Go on in the direction that they show, all of them
    together. The instruction must be complete, for it replaces the old one.
    """

    step: str = InputField(desc="what the step takes and gives")
    current_instruction: str = InputField()
    rubric: str = InputField(desc="what the comparisons go by")
    reasons: str = InputField(desc="what comparisons with earlier challengers have shown; may be empty")
    hints: str = InputField(desc="words of the people who know the task; may be empty")
    instruction: str = OutputField(desc="the new instruction alone")


# --- what the inputs of those are made of -------------------------------------------------------------------


def judged_runs(task: Task, candidate: Candidate) -> Plan:
    """
    Run a candidate on a few rows to learn from, so that who writes knows what the metric says: a sub-plan.

    The same rows for all of a job, so that a candidate is paid once. Rows that failed teach nothing and are left out;
    the worst come first.
    """
    rows = list(task.learn)
    chance(task.seed, "judged").shuffle(rows)
    runs: tuple[Evaluation, ...] = yield Run(candidate, tuple(rows[:JUDGED]), trace=True)
    scored = [(each.score, each.row, each) for each in runs if each.score is not None]
    return tuple(each for _, _, each in sorted(scored, key=lambda each: each[:2]))


def described_step(path: str, predictor: Predict) -> str:
    """Return what one predictor takes and gives."""
    fields = predictor.signature.fields.values()
    lines = [f"{path}:"]
    for role in ("input", "output"):
        named = [f"{each.name}{f' ({each.desc})' if each.desc else ''}" for each in fields if each.role == role]
        lines.append(f"  {role}s: {', '.join(named)}")
    return "\n".join(lines)


def described_program(task: Task, instructions: Mapping[str, str]) -> str:
    """Return what every predictor takes, gives and is told."""
    steps = [
        f"{described_step(path, predictor)}\n  instruction: {instructions[path]}"
        for path, predictor in task.predictors.items()
    ]
    return f"{type(task.program).__name__}, in these steps:\n" + "\n".join(steps)


def shown_rows(rows: Sequence[Row | Mapping[str, object]]) -> str:
    """Return rows or demonstrations as JSON lines, long values cut."""
    return "\n".join(_line(row.example if isinstance(row, Row) else row) for row in rows)


def shown_traces(evaluations: Sequence[Evaluation], path: str) -> str:
    """Return one predictor's calls in some runs, with what the metric said of each run."""
    parts = []
    for number, each in enumerate(evaluations, 1):
        calls = [values for name, values in each.trace if name == path]
        score = "it failed: " + each.error if each.score is None else f"score {each.score:g}"
        words = f"; {each.feedback}" if each.feedback else ""
        shown = "\n".join(_line(values) for values in calls) or "the step was not reached"
        parts.append(f"## {number}\n{shown}\njudgement: {score}{words}")
    return "\n\n".join(parts)


def _line(values: Mapping[str, object]) -> str:
    return json.dumps({name: _cut(to_plain(value)) for name, value in values.items()}, ensure_ascii=False)


def _cut(value: object) -> object:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return value if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text)} characters)"
