"""Saved programs: JSON in the shape that DSPy 3 writes, with a schema number of ours; never keys, never code."""

from __future__ import annotations

import logging
import platform
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from dspex._files import json_text, parse_json, write_private
from dspex.errors import FileError, FileMissing, SignatureError, StateError, TargetExists
from dspex.programs.adapters._adapter import ADAPTER_NAMES, AdapterName
from dspex.programs.adapters._plain_json import to_plain
from dspex.programs.example import Example
from dspex.programs.fields import AnySignature, Field
from dspex.programs.portable import portable_fields, restored_fields
from dspex.protocols.json_values import Json
from dspex.protocols.model import LM, LMChoice, LMParams, LMPool

if TYPE_CHECKING:
    from dspex.programs.predict import Predict

__all__ = ["dump", "load", "read", "write"]

SCHEMA = 1
"""Raised when a file could no longer be read by the release before."""

MAX_BYTES = 256 * 2**20
"""Larger files are refused unread."""

_log = logging.getLogger("dspex.programs")
_SHARED = ("temperature", "max_tokens", "top_p", "stop", "n", "seed")
"""Parameters that DSPy, too, hands to its models."""
_OWN = ("reasoning", "logprobs", "parallel_tool_calls", "extra_body")
_PARAMS = (*_SHARED, *_OWN)
_CONFIG = (*_PARAMS, "repair_turns")
_SECRET = re.compile(r"key|token$|secret|password|auth|credential|header", re.IGNORECASE)
_DSPY_DEFAULTS: Mapping[str, object] = {
    "_dspy_lm_class": "dspy.clients.lm.LM",
    "cache": True,
    "finetuning_model": None,
    "launch_kwargs": {},
    "model_type": "chat",
    "num_retries": 3,
    "train_kwargs": {},
}
"""Settings of a model that DSPy writes here and dspex has elsewhere; another value is reported."""

Predictors = Mapping[str, "Predict"]


# --- writing ----------------------------------------------------------------------------------------------------


def dump(predictors: Predictors) -> dict[str, object]:
    """Return the state of these predictors as JSON values."""
    state: dict[str, object] = {path: _dump_one(predictor) for path, predictor in predictors.items()}
    versions = {"python": ".".join(platform.python_version_tuple()[:2])}
    state["metadata"] = {"dependency_versions": versions, "dspex": {"schema": SCHEMA}}
    return state


def _dump_one(predictor: Predict) -> dict[str, object]:
    signature = predictor.signature
    fields = [
        {"prefix": _prefix(each.name), "description": each.desc or f"${{{each.name}}}"}
        for each in signature.fields.values()
    ]
    state: dict[str, object] = {
        "traces": [],
        "train": [],
        "demos": _dump_demos(predictor),
        "signature": {"instructions": signature.instructions, "fields": fields},
        "lm": _dump_lm(predictor.lm),
    }
    config = _dump_params(predictor.params)
    if shared := {name: value for name, value in config.items() if name in _SHARED}:
        state["config"] = shared  # DSPy takes it as its own
    if own := _own(predictor, config):
        state["dspex"] = own
    return state


def _own(predictor: Predict, config: Mapping[str, object]) -> dict[str, object]:
    """Return what DSPy has no word for, and would hand to its model as a parameter."""
    own: dict[str, object] = {}
    if predictor.lm is not None and (lm := _dump_own_lm(predictor.lm)):
        own["lm"] = lm
    if config := {name: value for name, value in config.items() if name in _OWN}:
        own["config"] = config
    if predictor.repair_turns != 1:
        own["repair_turns"] = predictor.repair_turns
    if predictor.adapter is not None:
        own["adapter"] = predictor.adapter.name
    return own


def _dump_demos(predictor: Predict) -> list[dict[str, object]]:
    found = []
    for number, demo in enumerate(predictor.demos):
        try:
            found.append(portable_fields(predictor.signature, demo))
        except TypeError as error:
            raise StateError(f"demonstration {number} of {predictor.signature.__name__}: {error}") from error
    return found


def _dump_lm(lm: LMChoice) -> dict[str, object] | None:
    """Return what DSPy can read of a model: nothing of a name of the App's, and nothing of a pool."""
    if isinstance(lm, str):
        return {"model": lm} if "/" in lm else None
    if lm is None or isinstance(lm, LMPool):
        return None
    shared = {name: value for name, value in _dump_params(lm.params).items() if name in _SHARED}
    return {"model": lm.model, **({"api_base": lm.api_base} if lm.api_base else {}), **shared}


def _dump_own_lm(lm: str | LM | LMPool) -> dict[str, object]:
    """Return the rest of a model."""
    if isinstance(lm, str):
        return {} if "/" in lm else {"name": lm}
    if isinstance(lm, LMPool):
        members = [{**(_dump_lm(each) or {}), **_dump_own_lm(each)} for each in lm.members]
        found = {"members": members, "weights": list(lm.weights)}
        return {"pool": {**found, "hedge_after": lm.hedge_after, "hedge_share": lm.hedge_share}}
    own = {name: value for name, value in _dump_params(lm.params).items() if name in _OWN}
    return {**own, **({"capabilities": dict(lm.capabilities)} if lm.capabilities else {})}


def _dump_params(params: LMParams) -> dict[str, object]:
    """Return what differs from the defaults; what looks like a secret is left out."""
    defaults = LMParams()
    names = [name for name in _PARAMS if name != "extra_body" and getattr(params, name) != getattr(defaults, name)]
    found = {name: getattr(params, name) for name in names}
    if "stop" in found:
        found["stop"] = list(found["stop"])
    extra = {name: to_plain(value) for name, value in params.extra_body.items() if not _SECRET.search(name)}
    return {**found, **({"extra_body": extra} if extra else {})}


def _prefix(name: str) -> str:
    """Return the label DSPy gives a field: ``text2number`` is ``Text 2 Number:``."""
    spaced = re.sub(r"([a-z\d])([A-Z])|([A-Z]+)(?=[A-Z][a-z])", r"\1\3_\2", name)
    spaced = re.sub(r"(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z])", "_", spaced)
    words = [word if word.isupper() else word.capitalize() for word in spaced.split("_") if word]
    return " ".join(words) + ":"


def write(path: Path, state: Json, *, overwrite: bool = False) -> None:
    """
    Write JSON to a file beside ``path`` and rename it: no reader ever sees half a file.

    The state of a bare predictor stands at the top of its file, as DSPy has it.

    Raises:
        TargetExists: Something else than a state of this program stands there, and is not to be overwritten.
        FileError: It cannot be written.
    """
    if not overwrite:
        _check_target(path, state)
    if state.keys() == {"self", "metadata"}:
        state = {**state["self"], "metadata": state["metadata"]}
    write_private(path, json_text(state, indent=2) + "\n")


def _check_target(path: Path, state: Json) -> None:
    """See that the file, if there is one, is an older state of the same program."""
    if not path.exists():
        return
    if not path.is_file():
        raise FileError(path, "it is not a file")
    try:
        found = read(path)
    except StateError:
        raise TargetExists(path, "it is not a saved program") from None
    there = {name for name in found if name != "metadata"}
    if "signature" in there and "demos" in there:  # a bare predictor's, at the top of the file
        there = {"self"}
    if there != {name for name in state if name != "metadata"}:
        raise TargetExists(path, "it is the state of another program")


# --- reading ----------------------------------------------------------------------------------------------------


def read(path: Path) -> Json:
    """
    Return the content of a state file.

    Raises:
        StateError: It is not a JSON object, or too large.
        FileMissing, FileError: It is not there, or cannot be read.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise StateError(f"{path} is larger than {MAX_BYTES} bytes; that is not a saved program")
        text = path.read_bytes()
    except FileNotFoundError:
        raise FileMissing(path, "there is no such file") from None
    except OSError as error:
        raise FileError(path, f"it cannot be read: {error.strerror or error}") from error
    try:
        state = parse_json(text)
    except ValueError as error:
        raise StateError(f"{path} is not a saved program: it is not JSON ({error})") from error
    return _mapping(state, str(path))


def load(predictors: Predictors, state: Mapping[str, object], *, allow_api_base: bool) -> dict[str, Predict]:
    """
    Return changed copies of the predictors, by path.

    Raises:
        StateError: The state is damaged, newer than this release, or belongs to another program.
    """
    try:
        return _load(predictors, state, allow_api_base)
    except StateError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise StateError(f"the state is damaged: {type(error).__name__}: {error}") from error


def _load(predictors: Predictors, state: Mapping[str, object], allow_api_base: bool) -> dict[str, Predict]:
    state = _mapping(state, "the state")
    metadata = _mapping(state.get("metadata", {}), "metadata")
    schema = _mapping(metadata.get("dspex", {}), "metadata.dspex").get("schema", SCHEMA)
    if not isinstance(schema, int) or schema > SCHEMA:
        raise StateError(f"the state has schema {schema!r}; this release reads up to {SCHEMA}: upgrade dspex")
    if predictors.keys() == {"self"} and "self" not in state:
        state = {"self": {name: each for name, each in state.items() if name != "metadata"}}
    saved = {path for path in state if path != "metadata"}
    if saved != predictors.keys():
        missing, unknown = sorted(predictors.keys() - saved), sorted(saved - predictors.keys())
        raise StateError(f"the state belongs to another program: it lacks {missing} and has {unknown}")
    return {path: _load_one(path, each, state[path], allow_api_base) for path, each in predictors.items()}


def _load_one(path: str, predictor: Predict, state: object, allow_api_base: bool) -> Predict:
    entry = _mapping(state, path)
    signature = _load_signature(path, predictor.signature, _mapping(entry.get("signature"), f"{path}.signature"))
    changed = predictor.with_signature(signature).with_demos(_load_demos(path, predictor, entry.get("demos", [])))
    own = _mapping(entry.get("dspex") or {}, f"{path}.dspex")
    lm = {
        **_mapping(entry.get("lm") or {}, f"{path}.lm"),
        **_mapping(own.get("lm") or {}, f"{path}.dspex.lm"),
    }
    if lm or entry.get("lm") is not None:
        changed = changed.with_lm(_load_lm(path, lm, allow_api_base))
    rest = {name: value for name, value in own.items() if name not in ("lm", "config", "adapter")}
    given = dict(_mapping(entry.get("config") or {}, f"{path}.config"))
    adapter = own.get("adapter", given.pop("adapter", None))
    config = _params(f"{path}.config", given, _CONFIG)
    config |= _params(f"{path}.dspex.config", _mapping(own.get("config") or {}, f"{path}.dspex.config"), _OWN)
    config |= _params(f"{path}.dspex", rest, ("repair_turns",))
    changed = _with_adapter(path, changed, adapter)
    _report(path, [name for name in ("traces", "train", "fields") if entry.get(name)])
    return changed.with_config(**config) if config else changed


def _with_adapter(path: str, predictor: Predict, name: object) -> Predict:
    """Return the predictor with the adapter of that name; its own where it has that name."""
    if name is None or (predictor.adapter is not None and predictor.adapter.name == name):
        return predictor
    if name not in ADAPTER_NAMES:
        raise StateError(
            f"{path}.dspex: the adapter {name!r} is not one of {', '.join(ADAPTER_NAMES)}: load into a program whose "
            f"predictor has an adapter of that name"
        )
    return predictor.with_adapter(cast("AdapterName", name))


def _report(where: str, uncarried: list[str]) -> None:
    """Say what of a file was left behind."""
    if uncarried:
        _log.warning("%s: not carried over: %s", where, ", ".join(uncarried))


def _load_signature(path: str, signature: AnySignature, state: Mapping[str, object]) -> AnySignature:
    """Return the signature with saved instructions and descriptions; fields are matched by position."""
    instructions = state.get("instructions")
    entries = state.get("fields")
    if not isinstance(instructions, str) or not isinstance(entries, list):
        raise StateError(f"{path}.signature: expected a text `instructions` and a list `fields`")
    fields: list[Field] = list(signature.fields.values())
    if len(entries) != len(fields):
        raise StateError(f"{path}: saved with {len(entries)} fields, this signature has {len(fields)}")
    for field, entry in zip(fields, entries, strict=True):
        desc = _mapping(entry, f"{path}.signature.fields").get("description", field.desc)
        if not isinstance(desc, str):
            raise StateError(f"{path}.signature: the description of {field.name} is not a text")
        if entry.get("prefix", _prefix(field.name)) != _prefix(field.name):
            _report(f"{path}.signature", [f"the prefix of {field.name}, which no prompt shows"])
        desc = "" if desc == f"${{{field.name}}}" else desc
        if desc != field.desc:
            signature = signature.with_updated_fields(field.name, desc=desc)
    if instructions == signature.instructions:
        return signature
    try:
        signature = signature.with_instructions(instructions)
    except SignatureError as error:
        raise StateError(f"{path}.signature: {error}") from error
    return signature


def _load_demos(path: str, predictor: Predict, state: object) -> list[Example]:
    """Return demonstrations; labelled data need not fit its field, and is shown as it is."""
    if not isinstance(state, list):
        raise StateError(f"{path}.demos: expected a list, got {type(state).__name__}")
    demos = []
    for number, entry in enumerate(state):
        where = f"{path}.demos[{number}]"
        try:
            demos.append(Example(restored_fields(predictor.signature, _mapping(entry, where))))
        except ValueError as error:
            raise error if isinstance(error, StateError) else StateError(f"{where}.{error}") from error
    return demos


def _load_lm(path: str, state: Mapping[str, object], allow_api_base: bool) -> str | LM | LMPool:
    if "pool" in state:
        return _load_pool(path, _mapping(state["pool"], f"{path}.lm.pool"), allow_api_base)
    if isinstance(state.get("name"), str):
        return str(state["name"])
    where = f"{path}.lm"
    model = state.get("model")
    base = state.get("api_base") or state.get("base_url")
    if not isinstance(model, str) or not (base is None or isinstance(base, str)):
        raise StateError(f"{where}: expected texts `model` and, if any, `api_base`")
    if base is not None and not allow_api_base:
        raise StateError(f"{where} names the server {base!r}: load with allow_api_base=True if it may have your key")
    known = {"model", "api_base", "base_url", "capabilities", "extra", *_PARAMS}
    _report(where, [name for name in sorted(state.keys() - known) if _DSPY_DEFAULTS.get(name, _log) != state[name]])
    given = {name: value for name, value in state.items() if name in (*_PARAMS, "extra")}
    params = _params(where, given, _PARAMS)
    try:
        return LM(model, api_base=base, capabilities=_mapping(state.get("capabilities") or {}, where), **params)
    except (ValueError, TypeError) as error:
        raise StateError(f"{where}: {error}") from error


def _load_pool(path: str, state: Json, allow_api_base: bool) -> LMPool:
    try:
        members = [_load_lm(path, _mapping(each, f"{path}.lm.pool"), allow_api_base) for each in state["members"]]
        rest = {name: state[name] for name in ("hedge_after", "hedge_share") if name in state}
        return LMPool(tuple(members), tuple(state.get("weights", ())), **rest)
    except (KeyError, ValueError, TypeError) as error:
        raise StateError(f"{path}.lm.pool: {error}") from error


def _params(where: str, state: Mapping[str, object], names: tuple[str, ...]) -> dict[str, Any]:
    """Return parameters of these names, each checked for its type; files had ``extra`` for ``extra_body``."""
    if "extra" in state and "extra_body" in names:
        state = {"extra_body" if name == "extra" else name: value for name, value in state.items()}
    unknown = [name for name in state if name not in names]
    if unknown:
        raise StateError(f"{where}: unknown parameters {unknown}")
    found = {name: value for name, value in state.items() if value is not None}
    for name, value in found.items():
        if not _EXPECTED[name](value):
            raise StateError(f"{where}: {name} cannot be {value!r:.60}{_bound(name)}")
    return found


_MOST: Mapping[str, int] = {
    "temperature": 100,
    "top_p": 1,
    "max_tokens": 10_000_000,
    "n": 128,
    "seed": 2**63 - 1,
    "repair_turns": 20,
    "logprobs": 100,
}
"""The most that a file may ask for: each of these is paid, and nobody has read the file."""


def _bound(name: str) -> str:
    return f"; a file may say up to {_MOST[name]}, more by with_config() in code" if name in _MOST else ""


def _number_for(name: str) -> Callable[[object], bool]:
    def fits(value: object) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= _MOST[name]

    return fits


def _count_for(name: str) -> Callable[[object], bool]:
    is_number = _number_for(name)

    def fits(value: object) -> bool:
        return isinstance(value, int) and is_number(value)

    return fits


def _is_stop(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(each, str) for each in value))


_EXPECTED: Mapping[str, Callable[[object], bool]] = {
    **{name: _number_for(name) for name in ("temperature", "top_p")},
    **{name: _count_for(name) for name in ("max_tokens", "n", "seed", "repair_turns", "logprobs")},
    "stop": _is_stop,
    "reasoning": lambda value: isinstance(value, str),
    "parallel_tool_calls": lambda value: isinstance(value, bool),
    "extra_body": lambda value: isinstance(value, dict) and not any(_SECRET.search(name) for name in value),
}


def _mapping(value: object, where: str) -> Json:
    if not isinstance(value, Mapping):
        raise StateError(f"{where}: expected an object, got {type(value).__name__}")
    return value
