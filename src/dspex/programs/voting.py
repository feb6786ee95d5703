"""One answer out of several that need not agree."""

from __future__ import annotations

import hashlib
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Generic, overload

from typing_extensions import ParamSpec, TypeVar

from dspex.programs._attempts import side_by_side
from dspex.programs.details import details
from dspex.programs.inputs import InputSpec, bind_inputs, inputs_of
from dspex.programs.module import Module, Program
from dspex.programs.signature import Signature, values_of
from dspex.protocols.executor import Failed, Ok

__all__ = ["Ensemble", "majority"]

R = TypeVar("R")
S = TypeVar("S", bound=Signature)
P = ParamSpec("P", default=...)

Sameness = Callable[[Any], object]
"""Maps an answer, or a field of it, to what is compared."""

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def _same(value: object) -> str:
    """Return what makes two answers the same: case, articles, punctuation and white space do not."""
    if not isinstance(value, str):
        return repr(value)
    plain = unicodedata.normalize("NFD", value).lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", plain).split())


@overload
def majority(answers: S, field: str | None = None, *, same: Sameness | None = None) -> S: ...
@overload
def majority(answers: Sequence[R], field: str | None = None, *, same: Sameness | None = None) -> R: ...
def majority(answers: object, field: str | None = None, *, same: Sameness | None = None) -> object:
    """
    Return the first answer that says what most say.

    Args:
        answers: Records, plain values, or one record that has several ``completions``.
        field: A function from a value to the thing compared; None is a record's last output, or the value itself.
        same: Maps a value to what is compared: by default lower-case text without articles and punctuation. Values
            that it maps to None, or to an empty text, have no vote.

    Raises:
        ValueError: There are no answers.
    """
    several: list[object] = list(answers) if isinstance(answers, Sequence) and not isinstance(answers, str) else []
    if isinstance(answers, Signature):
        several = list(details(answers).completions) or [answers]
    if not several:
        raise ValueError("majority() needs at least one answer")
    keyed = [(_key(answer, field, same or _same), answer) for answer in several]
    votes = Counter(key for key, _ in keyed if key not in (None, ""))
    if not votes:
        return several[0]
    most = max(votes.values())
    return next(answer for key, answer in keyed if votes.get(key) == most)


def _key(answer: object, field: str | None, same: Callable[[object], object]) -> object:
    if field is None and isinstance(answer, Signature):
        outputs = [each.name for each in type(answer).fields.values() if each.role == "output"]
        field = outputs[-1] if outputs else next(reversed(values_of(answer)), None)
    return same(answer if field is None else getattr(answer, field, None))


class Ensemble(Module, Generic[R, P]):
    """
    Ask several programs at once and make one answer of theirs.

    Args:
        programs: The programs; all take the same inputs.
        reduce: Makes one answer of those that came, in the order of the programs.
        size: The number of the programs that are asked, chosen by the inputs and ``seed``; None asks all.
        seed: Another seed chooses others.

    Raises:
        ValueError: There are no programs, or ``size`` does not fit them.
    """

    programs: Sequence[Program[P, R]]

    def __init__(
        self,
        programs: Sequence[Program[P, R]],
        reduce: Callable[[Sequence[R]], R] = majority,
        *,
        size: int | None = None,
        seed: int = 0,
    ) -> None:
        if not programs or (size is not None and not 1 <= size <= len(programs)):
            raise ValueError(f"size={size} does not fit {len(programs)} programs")
        self.programs = tuple(programs)
        self.reduce = reduce
        self.size = size if size is not None else len(programs)
        self.seed = seed

    async def forward(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """
        Return what the programs' answers come to; programs that fail have no say.

        Raises:
            Exception: The exception of the first program, when all failed; or an exception of ``reduce``.
        Cancellation: every program is cancelled.
        """
        inputs = bind_inputs(self.programs[0], args, kwargs)

        def call(program: Program[..., R]) -> Callable[[], Awaitable[R]]:
            return lambda: program.forward(**inputs)

        chosen = [call(self.programs[number]) for number in self._chosen(inputs)]
        outcomes = await side_by_side(chosen, max_concurrency=len(chosen))
        answers: list[R] = [each.value for each in outcomes if isinstance(each, Ok)]
        if not answers:
            raise next(each.reason for each in outcomes if isinstance(each, Failed))
        return self.reduce(answers)

    def _chosen(self, inputs: Mapping[str, object]) -> list[int]:
        """Choose programs as if at random: the same inputs always choose the same."""
        if self.size == len(self.programs):
            return list(range(self.size))
        given = repr(sorted(inputs.items(), key=lambda item: item[0]))
        digests = {
            number: hashlib.sha256(f"{self.seed}/{number}/{given}".encode("utf-8", "surrogatepass")).digest()
            for number in range(len(self.programs))
        }
        return sorted(sorted(digests, key=lambda number: digests[number])[: self.size])

    def input_spec(self) -> InputSpec:
        """Return the inputs that ``forward`` takes, as ``Module.input_spec``."""
        return inputs_of(self.programs[0])
