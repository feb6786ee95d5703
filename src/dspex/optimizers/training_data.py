"""Training examples for fine-tuning, from the runs of a program that a metric found good, in the providers' formats."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from dspex.errors import ConfigError
from dspex.evaluation import Report
from dspex.programs import DEFAULT_ADAPTER, Adapter, AdapterChoice, Module, Predict, choose_adapter
from dspex.protocols.content import TextPart
from dspex.protocols.lm import Message

__all__ = ["TrainingFormat", "conversation", "openai_line", "save_training_data", "training_data"]

TrainingFormat: TypeAlias = Literal["openai", "anthropic", "gemini"]
"""
The forms that providers read: ``openai`` is that of OpenAI, Azure, Together, Fireworks, Mistral and local trainers;
``anthropic`` that of Bedrock; ``gemini`` that of Vertex AI.
"""

Line = dict[str, object]


def training_data(
    program: Module,
    report: Report,
    *,
    threshold: float = 1.0,
    format: TrainingFormat = "openai",  # noqa: A002 - the word that users look for
    adapter: AdapterChoice = None,
    keep_demos: bool = False,
) -> list[Line]:
    """
    Return one training example for each call that a good run made: the prompt, and the answer that is to be learned.

    After DSPy's BootstrapFinetune, as data alone: evaluate a teacher with ``app.options(trace=True)``, write what was
    good to a file, and hand it to your provider's trainer. Calls are told apart by the path of their predictor, not by
    their place in the run, so that loops and branches teach the right one.

    Args:
        program: The program that is to learn: its instructions and formats are what the trained model will be asked
            with. It may be another than the one that was evaluated, with the same predictors.
        report: An evaluation with traces.
        threshold: The least score of a run that is learned from.
        format: Whose format.
        adapter: The adapter of predictors that have none of their own; None is the App's default, ``auto``.
        keep_demos: True leaves demonstrations in the prompts; a trained model seldom needs them.

    Raises:
        ConfigError: The report has no traces, no run is good enough, or a prompt holds more than text.
        StateError, ValueError: A call does not fit the program's signature.
    """
    own = program.predictors()
    default = choose_adapter(adapter) or DEFAULT_ADAPTER
    write = _FORMATS.get(format)
    if write is None:
        raise ConfigError(f"format={format!r} must be one of {', '.join(_FORMATS)}")
    good = [(at, each) for at, each in enumerate(report.scored) if each.score.value >= threshold]
    if good and not any(each.trace for _, each in good):
        raise ConfigError("the report has no traces: evaluate with app.options(trace=True)")
    lines = []
    for at, each in good:
        for step in each.trace:
            predictor = own.get(step.path)
            if predictor is None:
                continue
            where = f"scored row {at}: the prompt of {step.path}"
            call = conversation(predictor, step.inputs, step.outputs, default, where, keep_demos=keep_demos)
            lines.append(write(*call))
    if not lines:
        raise ConfigError(f"there is nothing to learn from: no run of a predictor scored {threshold:g} or more")
    return lines


def conversation(
    predictor: Predict,
    inputs: Mapping[str, object],
    outputs: Mapping[str, object],
    default: Adapter,
    where: str,
    *,
    keep_demos: bool,
) -> tuple[tuple[Message, ...], str]:
    """
    Return the prompt of a call, as the predictor asks, and the answer that is to be learned.

    Raises:
        ConfigError: The prompt, which ``where`` names, holds more than text.
        StateError, ValueError: The values do not fit the signature.
    """
    how = predictor.adapter or default
    signature = predictor.signature
    messages = (*how.prefix(signature, predictor.demos if keep_demos else ()), *how.turns(signature, inputs))
    if not all(map(_is_text, messages)):
        raise ConfigError(f"{where} holds more than text")
    return messages, how.format_outputs(signature, outputs)


def save_training_data(path: str | Path, lines: Iterable[Mapping[str, object]]) -> int:
    """
    Write training examples as JSON Lines, and return how many.

    Raises:
        OSError: The file cannot be written.
    """
    count = 0
    with Path(path).open("w", encoding="utf-8") as file:
        for line in lines:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
            count += 1
    return count


def _is_text(message: Message) -> bool:
    return isinstance(message.content, str) or all(isinstance(part, TextPart) for part in message.content)


def openai_line(messages: Sequence[Message], answer: str) -> Line:
    """Return a training example in OpenAI's form."""
    turns = [{"role": each.role, "content": each.text} for each in messages]
    return {"messages": [*turns, {"role": "assistant", "content": answer}]}


def _anthropic(messages: Sequence[Message], answer: str) -> Line:
    system, turns = _apart(messages)
    found = [{"role": each.role, "content": each.text} for each in turns]
    return {**({"system": system} if system else {}), "messages": [*found, {"role": "assistant", "content": answer}]}


def _gemini(messages: Sequence[Message], answer: str) -> Line:
    system, turns = _apart(messages)
    roles = {"assistant": "model"}
    found = [{"role": roles.get(each.role, each.role), "parts": [{"text": each.text}]} for each in turns]
    told: Line = {"systemInstruction": {"parts": [{"text": system}]}} if system else {}
    return {**told, "contents": [*found, {"role": "model", "parts": [{"text": answer}]}]}


def _apart(messages: Sequence[Message]) -> tuple[str, list[Message]]:
    system = "\n\n".join(each.text for each in messages if each.role == "system")
    return system, [each for each in messages if each.role != "system"]


_FORMATS: Mapping[str, Callable[[Sequence[Message], str], Line]] = {
    "openai": openai_line,
    "anthropic": _anthropic,
    "gemini": _gemini,
}
