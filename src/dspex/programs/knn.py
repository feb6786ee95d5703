"""The examples nearest to an input, by vectors."""

from __future__ import annotations

import inspect
from array import array
from collections.abc import Awaitable, Callable, Mapping, Sequence
from math import sqrt
from operator import mul

from dspex.errors import MissingInput, NotInRequest
from dspex.programs.example import Example
from dspex.programs.module import Module
from dspex.protocols.model import LMChoice
from dspex.protocols.scope import current_scope

__all__ = ["KNN", "Embed", "Vectorizer"]

Vector = Sequence[float]
Vectorizer = Callable[[Sequence[str]], Sequence[Vector] | Awaitable[Sequence[Vector]]]
"""Turns texts into vectors of one length, in their order; sync or async."""


class Embed(Module):
    """
    Turn texts into vectors: ``vectors = await self.embed(texts)``.

    Args:
        lm: A model that makes vectors, ``"openai/text-embedding-3-small"`` for example, or a name of the App's.
    """

    def __init__(self, lm: LMChoice = None) -> None:
        self.lm = lm

    async def forward(self, texts: Sequence[str]) -> list[array[float]]:
        """
        Return a vector of float32 for each text; long lists are cut into several calls.

        Raises:
            MissingInput: They are not texts; nothing was sent.
            ConfigError: The model makes no vectors.
            LMError: The provider's last word.
        Cancellation: the running call is cancelled and its socket closed.
        """
        scope = current_scope.get(None)
        if scope is None:
            raise NotInRequest("Embed")
        if isinstance(texts, str) or not all(isinstance(each, str) for each in texts):
            raise MissingInput("Embed", invalid=["texts: expected a list of texts"])
        return list(await scope.embed(texts, lm=self.lm, step="embed")) if texts else []


class KNN(Module):
    """
    The ``k`` examples whose inputs are most like the given ones: ``examples = await self.knn(question=question)``.

    Likeness is the cosine of the vectors of ``"name: value | name: value"``. The examples' vectors are made once, when
    they are first needed, and kept with this module; what it returns does not depend on who made them.

    Args:
        k: The number of examples.
        examples: Examples or mappings.
        vectorizer: An ``Embed``, or any function from texts to vectors, such as a local model's.
        fields: The inputs that count; None takes those that are given and that an example has.

    Raises:
        ValueError: ``k`` is below 1, or there are no examples.
    """

    def __init__(
        self,
        k: int,
        examples: Sequence[Mapping[str, object]],
        vectorizer: Embed | Vectorizer,
        *,
        fields: Sequence[str] | None = None,
    ) -> None:
        if k < 1 or not examples:
            raise ValueError(f"k={k} must be at least 1, and there must be examples ({len(examples)})")
        self.k = k
        self.examples = tuple(each if isinstance(each, Example) else Example(each) for each in examples)
        self.vectorizer = vectorizer
        self.fields = tuple(fields) if fields is not None else None
        self._vectors: dict[tuple[str, ...], list[Vector]] = {}  # a memo: the same for whoever fills it

    async def forward(self, **inputs: object) -> list[Example]:
        """
        Return the nearest examples, the nearest first; equals in their order.

        Raises:
            MissingInput: None of the inputs is a field of the examples.
            LMError: The provider's last word.
        Cancellation: the running call is cancelled.
        """
        names = self.fields if self.fields is not None else tuple(sorted(inputs))
        names = tuple(name for name in names if name in inputs and any(name in each for each in self.examples))
        if not names:
            raise MissingInput("KNN", unexpected=sorted(inputs) or ["nothing"])
        known = self._vectors.get(names)
        texts = [_text(inputs, names)]
        if known is None:
            texts += [_text(each, names) for each in self.examples]
        vectors = await self._vectors_of(texts)
        if known is None:
            known = self._vectors[names] = [_unit(each) for each in vectors[1:]]
        query = _unit(vectors[0])
        likeness = [sum(map(mul, query, each)) for each in known]
        nearest = sorted(range(len(known)), key=lambda at: -likeness[at])
        return [self.examples[at] for at in nearest[: self.k]]

    async def _vectors_of(self, texts: Sequence[str]) -> Sequence[Vector]:
        if isinstance(self.vectorizer, Embed):
            return await self.vectorizer.forward(texts)
        found = self.vectorizer(texts)
        return await found if inspect.isawaitable(found) else found

    def __repr__(self) -> str:
        return f"KNN(k={self.k}, {len(self.examples)} examples)"


def _text(fields: Mapping[str, object], names: Sequence[str]) -> str:
    return " | ".join(f"{name}: {fields[name]}" for name in names if name in fields)


def _unit(vector: Vector) -> array[float]:
    """Return the vector with length 1; one without length stays as it is, and is like nothing."""
    length = sqrt(sum(map(mul, vector, vector)))
    return array("d", [each / length for each in vector] if length else vector)
