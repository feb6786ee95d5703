"""OpenAI's fine-tuning: files, jobs and their events; a trained model answers as if shown what it was trained on."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from dspex.simulator.dialects import BodyInvalid, Response, Twist
from dspex.simulator.dialects._checks import Json, parsed, whole
from dspex.simulator.dialects._openai import CREATED, OpenAI, whole_response
from dspex.simulator.dialects.openai_chat import asked_of
from dspex.simulator.learner import Body, Role, tokens

__all__ = ["FineTuning", "TrainingPlan", "TrainingRun"]

FEWEST = 10
"""Examples that a training file must have."""

SHOWN = 16
"""Examples that a trained model answers by."""

MOST_KEPT = 1_000
"""Files, and jobs, that are kept; beyond, more are refused."""

_EPOCHS = 3  # where the provider is to choose
_SHOWN_TOKENS = 8_192
_JOBS = "/v1/fine_tuning/jobs"
_ENDED = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """
    How trainings go.

    Attributes:
        looks: The number of times that a job is looked at until it ends; many make it slow.
        fails: Words that every training fails with; empty lets it succeed.
    """

    looks: int = 3
    fails: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.looks, bool) or not isinstance(self.looks, int) or self.looks < 1:
            raise ValueError("training plan: looks must be at least 1")
        if not isinstance(self.fails, str):
            raise ValueError("training plan: fails must be text")


@dataclass(slots=True)
class TrainingRun:
    """
    One job.

    Attributes:
        status: ``validating_files``, ``queued``, ``running``, ``succeeded``, ``failed`` or ``cancelled``.
        looks: The number of times that it was looked at.
        examples: Training examples, as role and text of their messages.
        events: Its events, the newest first.
    """

    id: str
    model: str
    file: str
    suffix: str
    seed: int
    epochs: int
    metadata: Mapping[str, str]
    status: str = "validating_files"
    looks: int = 0
    trained_model: str | None = None
    trained_tokens: int | None = None
    error: dict[str, str | None] = field(default_factory=dict)
    examples: tuple[tuple[tuple[Role, str], ...], ...] = ()
    events: list[dict[str, Any]] = field(default_factory=list)


class FineTuning(OpenAI):
    """The dialect of files and fine-tuning jobs, and what it keeps of them."""

    def __init__(self, plan: TrainingPlan | None = None) -> None:
        self.plan = plan or TrainingPlan()
        self.runs: dict[str, TrainingRun] = {}
        self._files: dict[str, tuple[str, bytes]] = {}
        self._models: dict[str, TrainingRun] = {}

    def reset(self) -> None:
        """Forget files, jobs and trained models."""
        self.runs.clear()
        self._files.clear()
        self._models.clear()

    def claims(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> bool:
        """Say whether this dialect answers a method and path."""
        known = any(path == each or path.startswith(f"{each}/") for each in ("/v1/files", _JOBS))
        return known and method in ("GET", "POST")

    def respond(self, target: str, body: bytes, twist: Twist = Twist.PLAIN) -> Response:
        """Answer a request that only reads."""
        return self.act("GET", target, {}, body)

    def act(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Response:
        """Answer a request, and remember what it asks for."""
        path, _, query = target.partition("?")
        try:
            return whole_response(200, self._answer(method, path, parse_qs(query), headers, body))
        except BodyInvalid as error:
            return self.failure(error.failure())

    def _answer(
        self, method: str, path: str, query: Mapping[str, list[str]], headers: Mapping[str, str], body: bytes
    ) -> dict[str, object]:
        if path == "/v1/files":
            if method == "POST":
                return self._upload(headers, body)
            return {"object": "list", "data": [_file(name, *held) for name, held in self._files.items()]}
        if path.startswith("/v1/files/"):
            name = path.removeprefix("/v1/files/")
            if name not in self._files:
                raise _missing("file", name)
            return _file(name, *self._files[name])
        if path == _JOBS:
            return _job(self._create(parsed(body))) if method == "POST" else self._list(query)
        name, _, what = path.removeprefix(f"{_JOBS}/").partition("/")
        run = self.runs.get(name)
        if run is None:
            raise _missing("fine-tuning job", name)
        if (method, what) == ("POST", "cancel"):
            return _job(self._cancel(run))
        if (method, what) == ("GET", "events"):
            page = _page(run.events, query)
            return {"object": "list", **page}
        if method == "GET" and not what:
            self._look(run)
            return _job(run)
        raise BodyInvalid("url", f"Invalid URL ({method} {path})", code="unknown_url", status=404)

    # --- files ----------------------------------------------------------------------------------------------

    def _upload(self, headers: Mapping[str, str], body: bytes) -> dict[str, object]:
        parts = _multipart(headers.get("content-type", ""), body)
        if parts.get("purpose", ("", b""))[1] != b"fine-tune":
            raise BodyInvalid("purpose", "'fine-tune'")
        if "file" not in parts:
            raise BodyInvalid("file", "a file")
        if len(self._files) >= MOST_KEPT:
            raise BodyInvalid("file", f"at most {MOST_KEPT} files")
        name, data = parts["file"]
        digest = hashlib.sha256(data + b"%d" % len(self._files)).hexdigest()
        found = f"file-{digest[:24]}"
        self._files[found] = (name, data)
        return _file(found, name, data)

    # --- jobs -----------------------------------------------------------------------------------------------

    def _create(self, body: Json) -> TrainingRun:
        model, file = body.get("model"), body.get("training_file")
        if not isinstance(model, str) or not model:
            raise BodyInvalid("model", "a model's name")
        if not isinstance(file, str) or file not in self._files:
            raise BodyInvalid("training_file", f"File '{file}' does not exist", code="invalid_training_file")
        suffix = body.get("suffix") or ""
        if not isinstance(suffix, str) or len(suffix) > 64:
            raise BodyInvalid("suffix", "a text of up to 64 characters")
        if len(self.runs) >= MOST_KEPT:
            raise BodyInvalid("model", f"at most {MOST_KEPT} jobs")
        number = len(self.runs)
        name = f"ftjob-{hashlib.sha256(f'{number} {file}'.encode()).hexdigest()[:24]}"
        seed = whole(body, "seed", 0, 2**31 - 1)
        run = TrainingRun(name, model, file, suffix, seed or 0, _epochs(body), _metadata(body.get("metadata")))
        self.runs[name] = run
        _tell(run, f"Created fine-tuning job: {name}")
        _tell(run, f"Validating training file: {file}")
        return run

    def _look(self, run: TrainingRun) -> None:
        """Let a job go on by one step."""
        if run.status in _ENDED:
            return
        run.looks += 1
        if run.looks == 1:
            try:
                run.examples = _examples(self._files[run.file][1])
            except ValueError as error:
                self._fail(run, "invalid_training_file", str(error), "training_file")
                return
            run.status = "running"
            _tell(run, "Fine-tuning job started")
        if run.looks >= self.plan.looks:
            if self.plan.fails:
                self._fail(run, "training_failed", self.plan.fails, None)
            else:
                self._succeed(run)
        elif run.looks > 1:
            _tell(run, f"Step {run.looks - 1}/{self.plan.looks}: training loss={1 / run.looks:.2f}")

    def _succeed(self, run: TrainingRun) -> None:
        run.status = "succeeded"
        run.trained_tokens = run.epochs * sum(tokens(text) for each in run.examples for _, text in each)
        run.trained_model = f"ft:{run.model}:simulator:{run.suffix}:{run.id[-8:]}"
        self._models[run.trained_model] = run
        _tell(run, f"New fine-tuned model created: {run.trained_model}")
        _tell(run, "The job has successfully completed")

    @staticmethod
    def _fail(run: TrainingRun, code: str, message: str, param: str | None) -> None:
        run.status = "failed"
        run.error = {"code": code, "message": message, "param": param}
        _tell(run, message, "error")

    @staticmethod
    def _cancel(run: TrainingRun) -> TrainingRun:
        if run.status in _ENDED:
            raise BodyInvalid("id", f"Job has already completed: {run.id}", code="invalid_status")
        run.status = "cancelled"
        _tell(run, "The job was cancelled", "warn")
        return run

    def _list(self, query: Mapping[str, list[str]]) -> dict[str, object]:
        wanted = {name[9:-1]: values[0] for name, values in query.items() if re.fullmatch(r"metadata\[.+\]", name)}
        runs = [each for each in reversed(self.runs.values()) if wanted.items() <= each.metadata.items()]
        return {"object": "list", **_page([_job(each) for each in runs], query)}

    # --- trained models -------------------------------------------------------------------------------------

    def taught(self, body: Body) -> Body:
        """
        Return what a model sees: a trained one also sees the examples that begin as this prompt does.

        Raises:
            BodyInvalid: There is no such trained model.
        """
        if not body.model.startswith("ft:"):
            return body
        run = self._models.get(body.model)
        if run is None:
            message = f"The model `{body.model}` does not exist or you do not have access to it."
            raise BodyInvalid("model", message, code="model_not_found", status=404)
        system = _system(body.messages)
        fitting = [each for each in run.examples if _system(each) == system][:SHOWN]
        shown: list[tuple[Role, str]] = []
        for each in fitting:
            turns = each[len(system) :]
            if tokens("".join(text for _, text in (*shown, *turns))) > _SHOWN_TOKENS:
                break
            shown += turns
        messages = (*body.messages[: len(system)], *shown, *body.messages[len(system) :])
        return dataclasses.replace(body, messages=messages)


def _system(messages: tuple[tuple[Role, str], ...]) -> tuple[tuple[Role, str], ...]:
    """Return the turns of the system that messages begin with."""
    count = next((at for at, (role, _) in enumerate(messages) if role != "system"), len(messages))
    return messages[:count]


def _examples(data: bytes) -> tuple[tuple[tuple[Role, str], ...], ...]:
    """Read a training file; raises ValueError where it is none, in the provider's way of saying it."""
    found = []
    for number, line in enumerate(data.splitlines(), 1):
        try:
            asked = asked_of({"model": "any", "messages": json.loads(line)["messages"]})
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            raise ValueError(f"Invalid file format. Line {number}: {error}") from error
        if asked.body.messages[-1][0] != "assistant":
            raise ValueError(f"Invalid file format. Line {number}: the last message must be from the assistant")
        found.append(asked.body.messages)
    if len(found) < FEWEST:
        raise ValueError(f"Training file has {len(found)} example(s), but must have at least {FEWEST} examples")
    return tuple(found)


def _epochs(body: Json) -> int:
    method = body.get("method")
    kind = method.get("type") if isinstance(method, Mapping) else None
    held = method.get(kind) if isinstance(method, Mapping) and isinstance(kind, str) else None
    given = (held or {}).get("hyperparameters") if isinstance(held, Mapping) else body.get("hyperparameters")
    if method is not None and kind not in ("supervised", "dpo", "reinforcement"):
        raise BodyInvalid("method.type", "'supervised', 'dpo' or 'reinforcement'")
    if given is not None and not isinstance(given, Mapping):
        raise BodyInvalid("hyperparameters", "an object")
    if (given or {}).get("n_epochs") in (None, "auto"):
        return _EPOCHS
    return whole(given or {}, "n_epochs", 1, 50) or _EPOCHS


def _metadata(value: object) -> Mapping[str, str]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or len(value) > 16:
        raise BodyInvalid("metadata", "an object of up to 16 texts")
    for name, text in value.items():
        if not isinstance(text, str) or len(name) > 64 or len(text) > 512:
            raise BodyInvalid("metadata", "names of up to 64 characters and texts of up to 512")
    return dict(value)


def _tell(run: TrainingRun, message: str, level: str = "info") -> None:
    number = len(run.events)
    told = {
        "object": "fine_tuning.job.event",
        "id": f"ftevent-{run.id[-12:]}-{number}",
        "created_at": CREATED + number,
        "level": level,
        "message": message,
        "type": "message",
        "data": {},
    }
    run.events.insert(0, told)


def _page(values: list[dict[str, Any]], query: Mapping[str, list[str]]) -> dict[str, object]:
    after, limit = query.get("after", [""])[0], query.get("limit", ["20"])[0]
    at = next((at + 1 for at, each in enumerate(values) if each["id"] == after), 0)
    most = min(100, int(limit)) if limit.isdecimal() and int(limit) else 20
    return {"data": values[at : at + most], "has_more": at + most < len(values)}


def _job(run: TrainingRun) -> dict[str, object]:
    hyperparameters = {"n_epochs": run.epochs, "batch_size": 1, "learning_rate_multiplier": 1.0}
    ended = CREATED + run.looks if run.status in _ENDED else None
    return {
        "object": "fine_tuning.job",
        "id": run.id,
        "created_at": CREATED,
        "finished_at": ended,
        "model": run.model,
        "fine_tuned_model": run.trained_model,
        "organization_id": "org-simulator",
        "status": run.status,
        "hyperparameters": hyperparameters,
        "method": {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
        "training_file": run.file,
        "validation_file": None,
        "result_files": [],
        "trained_tokens": run.trained_tokens,
        "estimated_finish": None,
        "seed": run.seed,
        "integrations": [],
        "metadata": dict(run.metadata),
        "error": run.error or {"code": None, "message": None, "param": None},
    }


def _file(name: str, filename: str, data: bytes) -> dict[str, object]:
    return {
        "object": "file",
        "id": name,
        "bytes": len(data),
        "created_at": CREATED,
        "filename": filename,
        "purpose": "fine-tune",
        "status": "processed",
    }


def _missing(what: str, name: str) -> BodyInvalid:
    return BodyInvalid("id", f"Could not find {what}: {name}", code="not_found", status=404)


_BOUNDARY = re.compile(r'multipart/form-data\s*;.*?boundary="?([^";]{1,70})"?', re.IGNORECASE)
_NAMED = re.compile(r'\b(name|filename)="([^"]*)"')


def _multipart(kind: str, body: bytes) -> dict[str, tuple[str, bytes]]:
    """Return the parts of a form by name: each with its file's name, and its bytes."""
    found = _BOUNDARY.match(kind)
    if found is None:
        raise BodyInvalid("content-type", "multipart/form-data with a boundary")
    parts: dict[str, tuple[str, bytes]] = {}
    for part in (b"\r\n" + body).split(b"\r\n--" + found[1].encode())[1:]:
        head, separator, data = part.partition(b"\r\n\r\n")
        named = dict(_NAMED.findall(head.decode("utf-8", "replace")))
        if separator and "name" in named:
            parts[named["name"]] = (named.get("filename", ""), data)
    return parts
