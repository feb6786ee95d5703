"""A person's word to a job: read from JSON, and checked against the job's journal before it is sent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dspex.errors import ConfigError
from dspex.optimizers.candidate import Candidate
from dspex.optimizers.journal import read_keyed
from dspex.optimizers.plans import Steer
from dspex.protocols.json_values import Json

if TYPE_CHECKING:
    from typing import Any

    from dspex.optimizers.plans import Algorithm

__all__ = ["TriedCandidate", "check_steer", "heard", "steer_from", "tried_candidate"]

LONGEST: Final = 8_000
"""Characters of a hint, and of an instruction."""

STUDENT: Final = Candidate().key


class TriedCandidate:
    """
    A candidate that a journal has, and the words of the program that was given.

    Attributes:
        key: Its whole key.
        candidate: The candidate.
        own: The given program's ``instructions`` and ``demos`` by predictor path.
    """

    __slots__ = ("candidate", "key", "own")

    def __init__(self, candidate: Candidate, own: Json) -> None:
        self.key = candidate.key
        self.candidate = candidate
        self.own = own

    @property
    def instructions(self) -> dict[str, str]:
        """The instructions of all predictors, as this candidate has them."""
        given = {path: str(each.get("instructions", "")) for path, each in self.own.items()}
        return given | dict(self.candidate.instructions)


def tried_candidate(path: Path, key: str) -> TriedCandidate:
    """
    Return a candidate that a job has tried, by its key or the beginning of it. Blocks.

    Raises:
        ConfigError: There is none, or more than one.
        OptimizationError: The journal cannot be read.
    """
    told = f"{key[:40]!r} is not the key of a candidate that this job has tried"
    if not key or not path.is_file():  # a job that asks no model may have no file
        raise ConfigError(told)
    first = read_keyed(path, "proposed", STUDENT, 1)
    found = {str(each.data["candidate"]): each for each in read_keyed(path, "proposed", key, 100)}
    if not first or not found:
        raise ConfigError(told)
    if len(found) > 1:
        raise ConfigError(f"{key[:40]!r} is the beginning of {len(found)} keys: {', '.join(sorted(found)[:5])}")
    return TriedCandidate(Candidate.of(next(iter(found.values())).data["_content"]), first[0].data.get("_own", {}))


def check_steer(steer: Steer, optimizer: type[Algorithm[Any]]) -> None:
    """Raise ConfigError where nothing is said, or where an optimizer has no use for what is said."""
    said = [name for name, has in (("hint", steer.hint), ("add", steer.add is not None), ("drop", steer.drop)) if has]
    if not said:
        raise ConfigError("steer takes a hint, a candidate to add, or the key of a candidate to drop")
    refused = [name for name in said if name not in optimizer.steered_by]
    if refused:
        uses = ", ".join(sorted(optimizer.steered_by)) or "nothing"
        raise ConfigError(f"{optimizer.__name__} has no use for {' and '.join(refused)}: it can be steered by {uses}")


def steer_from(data: Mapping[str, object], path: Path) -> Steer:
    """
    Return a word that came as JSON. Blocks.

    Args:
        data: ``hint``, a text; ``drop``, a candidate's key or its beginning; ``add``, an object with ``instructions``
            by predictor path, and with ``base``, the key of the candidate that they change (without it: the program
            that was given).
        path: The job's journal.

    Raises:
        ConfigError: It makes no sense, or does not fit the job.
        OptimizationError: The journal cannot be read.
    """
    unknown = data.keys() - {"hint", "drop", "add"}
    if unknown:
        raise ConfigError(f"steer has no {min(unknown)!r:.40}: it takes hint, drop and add")
    hint, drop, add = data.get("hint", ""), data.get("drop", ""), data.get("add")
    if not isinstance(hint, str) or not isinstance(drop, str) or len(hint) > LONGEST:
        raise ConfigError(f"steer: hint and drop are texts, hint of up to {LONGEST} characters")
    added = _added(add, path) if add is not None else None
    return Steer(hint, added, tried_candidate(path, drop).key if drop else "")


def heard(word: str, optimizer: type[Algorithm[Any]]) -> Steer | None:
    """Return what another process has said to a search; None where it makes no sense: a job goes on without it."""
    verb, _, said = word.partition(" ")
    if verb != "steer":
        return None
    try:
        steer = Steer.of(json.loads(said))
        check_steer(steer, optimizer)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError, ConfigError):
        return None
    return steer


def _added(add: object, path: Path) -> Candidate:
    if not isinstance(add, Mapping) or not add.keys() <= {"instructions", "base"}:
        raise ConfigError("steer: add is an object with instructions and base")
    words, base = add.get("instructions"), add.get("base", "")
    if not isinstance(words, Mapping) or not words or not isinstance(base, str):
        raise ConfigError("steer: add needs instructions, an object of texts by predictor path; base is a key")
    known = tried_candidate(path, base or STUDENT)
    for name, text in words.items():
        if name not in known.own:
            raise ConfigError(f"steer: there is no predictor {name!r:.60}; there is {', '.join(known.own) or 'none'}")
        if not isinstance(text, str) or not text.strip() or len(text) > LONGEST:
            raise ConfigError(f"steer: the instructions of {name} are a text of 1 to {LONGEST} characters")
    return Candidate(dict(words)).over(known.candidate)
