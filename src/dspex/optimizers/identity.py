"""The identity of a program's results: hashes by name, and words about each for the day when one has changed."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dspex.optimizers._sources import path_of, sources_of
from dspex.optimizers.fingerprint import described, digest
from dspex.programs import Module
from dspex.programs.predict import Predict
from dspex.protocols.model import LM, LMPool

__all__ = ["Identity", "differences", "is_accepted", "lm_text", "program_identity", "with_adapter"]

_SECRET = re.compile(r"key|token|secret|password|passwd|auth|credential|cookie|header", re.IGNORECASE)
_LONGEST = 60
_OURS = frozenset({"_frozen", "_predictor_paths_"})


@dataclass(frozen=True, slots=True)
class Identity:
    """
    The parts of which a result is made.

    Attributes:
        digests: The hash of each part, by its name; they decide.
        details: About each part, JSON values: written beside the hashes, for messages alone. Of source code the hashes
            of its lines, of values their beginnings; never what may be a secret.
        lines: The lines of source code, by the part's name; never written.
    """

    digests: Mapping[str, str]
    details: Mapping[str, object] = field(default_factory=dict)
    lines: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def with_parts(self, digests: Mapping[str, str], details: Mapping[str, object] | None = None) -> Identity:
        """Return an identity of more parts."""
        return Identity({**self.digests, **digests}, {**self.details, **(details or {})}, self.lines)


def program_identity(program: object, version: str | None = None) -> Identity:
    """
    Return what a program is: its predictors' state, what its modules were made with, and the users' code behind it.

    Args:
        program: A Module, or any object with an async ``forward``.
        version: Stands for the code, for who knows better when it changes.
    """
    details: dict[str, object] = {"program": path_of(program)}
    digests = {"program": digest(path_of(program))}
    behind: list[object] = [program]
    for path, module in _modules(program):
        behind.append(module)
        if isinstance(module, Predict):
            name = f"predictor {path or 'self'}"
            state = _state(module)
            digests[name], details[name] = digest(state), {key: _shown(key, each) for key, each in state.items()}
            behind += [each.annotation for each in module.signature.fields.values()]
            behind += [module.adapter] if module.adapter is not None else []
            continue
        for attribute, value in _attributes(module):
            name = f"argument {path}.{attribute}" if path else f"argument {attribute}"
            said = described(value, behind)
            digests[name], details[name] = digest(said), _shown(attribute, said)
    if version is not None:
        return Identity({**digests, "version": digest(version)}, {**details, "version": version[:_LONGEST]})
    lines = {f"source {name}": each for name, each in sources_of(behind).items()}
    digests |= {name: digest(each) for name, each in lines.items()}
    details |= {name: [_short_hash(line) for line in each] for name, each in lines.items()}
    return Identity(digests, details, lines)


def with_adapter(parts: Mapping[str, object], adapter: object) -> dict[str, object]:
    """
    Return the parts that a journal has, with ``adapter`` for that of predictors that have none of their own.

    Releases whose default was ``chat`` wrote it down only where somebody had chosen it; a journal whose parts hold no
    model is of something else.
    """
    return {"adapter": adapter, **parts} if "lm" in parts else dict(parts)


def _modules(program: object) -> list[tuple[str, object]]:
    """Return a program and the modules in it, by path, each once."""
    found: list[tuple[str, object]] = []
    seen: set[int] = set()
    waiting: list[tuple[str, object]] = [("", program)]
    while waiting:
        path, value = waiting.pop(0)
        if isinstance(value, (list, tuple)):
            waiting += [(f"{path}[{at}]", each) for at, each in enumerate(value)]
        elif isinstance(value, dict):
            waiting += [(f"{path}[{key!r}]", each) for key, each in value.items()]
        elif (not path or isinstance(value, Module)) and id(value) not in seen:
            seen.add(id(value))
            found.append((path, value))
            if isinstance(value, Module) and not isinstance(value, Predict):
                waiting += [(f"{path}.{name}" if path else name, each) for name, each in vars(value).items()]
    return found


def _state(predictor: Predict) -> dict[str, object]:
    """Return the state of a predictor, and the types of its fields, which the state does not have."""
    state = dict(predictor.dump_state()["self"])
    signature = state.pop("signature")
    fields = predictor.signature.fields.values()
    return {
        "instructions": signature["instructions"],
        **{f"{each.role} {each.name}": [each.type_text, each.desc, str(each.constraints)] for each in fields},
        **{name: each for name, each in state.items() if each and name not in ("traces", "train")},
    }


def _attributes(module: object) -> list[tuple[str, object]]:
    """Return what a module of the program, or an object with ``forward``, was made with."""
    found: dict[str, object] = dict(getattr(module, "__dict__", {}))
    return [(name, value) for name, value in found.items() if name not in _OURS and not _holds_modules(value)]


def _holds_modules(value: object) -> bool:
    if isinstance(value, Module):
        return True
    if isinstance(value, dict):
        value = list(value.values())
    return isinstance(value, (list, tuple)) and any(_holds_modules(each) for each in value)


# --- saying it --------------------------------------------------------------------------------------------------


def _shown(name: str, value: object) -> str:
    if _SECRET.search(name):
        return "(not shown)"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({digest(value)[:8]})"


def _short_hash(line: str) -> str:
    return hashlib.sha256(line.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def lm_text(lm: str | LM | LMPool) -> str:
    """Return a model and how it is asked; neither a key nor what goes into the body besides."""
    if isinstance(lm, str):
        return lm
    if isinstance(lm, LMPool):
        return " or ".join(lm_text(each) for each in lm.members)
    given = {name: each for name, each in lm.params.given().items() if name != "extra_body"}
    at = f" at {lm.api_base}" if lm.api_base else ""
    return f"{lm.model}{at}" + (f" {given}" if given else "")


def is_accepted(name: str, accepted: Sequence[str]) -> bool:
    """True when a part, or the group that its first word names, is among those that may have changed."""
    return name in accepted or name.partition(" ")[0] in accepted


def differences(names: Sequence[str], old: Mapping[str, object], new: Identity) -> list[str]:
    """Return a clause about each part of these names: what it was, and is now."""
    return [_difference(name, old.get(name), new.details.get(name), new.lines.get(name, ())) for name in names]


def _difference(name: str, old: object, new: object, lines: Sequence[str]) -> str:
    if old is None and new is None:
        return name
    if new is None:
        return f"{name} is no longer used"
    if old is None:
        return f"{name} is new"
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
        return f"{name}: " + ", ".join(f"{key} {old.get(key, 'nothing')} → {new.get(key, 'nothing')}" for key in keys)
    if isinstance(old, list) and isinstance(new, list):
        return f"{name}: {_changed_lines([*map(str, old)], [*map(str, new)], lines)}"
    return f"{name}: {old} → {new}"


def _changed_lines(old: list[str], new: list[str], lines: Sequence[str]) -> str:
    for how, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if how == "equal":
            continue
        if c == d:
            return f"{b - a} lines are gone after line {c}"
        now = lines[c].strip()[:_LONGEST] if c < len(lines) else "…"
        return f"line {c + 1} is now `{now}`"
    return "changed"
