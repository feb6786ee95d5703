"""OpenAI's fine-tuning: files, jobs and their events, as of its API reference of 2026."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlencode

from dspex.errors import LMError, RequestRejected, ResponseInvalid
from dspex.protocols.printable import printable
from dspex.protocols.training import TrainingCall, TrainingEvent, TrainingJob, TrainingOrder, TrainingStatus
from dspex.services.lm.wires._errors import document_of, openai_failure
from dspex.services.lm.wires._json import SHOWN, string, to_json

__all__ = ["OpenAIFineTuning"]

_JOBS: Final = "/fine_tuning/jobs"
_MARK: Final = "dspex"
"""The name of our mark among a job's metadata."""
_PAGE: Final = 100
_EVENTS: Final = 50
_LONGEST: Final = 256
"""Characters of a name that a provider makes up."""
_JSON: Final = "application/json"
_ENDS: Final[Mapping[str, TrainingStatus]] = {
    "succeeded": "succeeded",
    "failed": "failed",
    "cancelled": "cancelled",
}


@dataclass(frozen=True, slots=True)
class OpenAIFineTuning:
    """The wire of ``POST {base}/files`` and ``{base}/fine_tuning/jobs``."""

    def upload(self, name: str, lines: Sequence[Mapping[str, object]]) -> TrainingCall:
        """
        Return the form with the data as JSON Lines.

        Raises:
            RequestRejected: A line cannot be written as JSON.
        """
        try:
            data = b"".join(_line(each) for each in lines)
        except (TypeError, ValueError) as error:
            raise RequestRejected(f"the training data cannot be written as JSON: {error}; nothing was sent") from error
        boundary = f"dspex-{hashlib.sha256(data).hexdigest()[:32]}"
        head = (
            f'--{boundary}\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
            f'--{boundary}\r\ncontent-disposition: form-data; name="file"; filename="{name}"\r\n'
            f"content-type: application/jsonl\r\n\r\n"
        )
        body = head.encode() + data + f"\r\n--{boundary}--\r\n".encode()
        return TrainingCall("POST", "/files", body, f"multipart/form-data; boundary={boundary}")

    def read_upload(self, status: int, headers: Mapping[str, str], body: bytes) -> str:
        """Return the id of the file."""
        return _name(_document(status, headers, body), "id", headers, status)

    def submit(self, order: TrainingOrder) -> TrainingCall:
        """Return the request; the mark goes into the metadata, where it can be looked for."""
        given = dict(order.options)
        seed, suffix, epochs = (given.pop(name, None) for name in ("seed", "suffix", "epochs"))
        hyperparameters = {**({"n_epochs": epochs} if epochs is not None else {}), **given}
        fields: dict[str, object] = {  # JSON
            "model": order.model,
            "training_file": order.file,
            "method": {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
            "metadata": {_MARK: order.mark},
            **({"seed": seed} if seed is not None else {}),
            **({"suffix": suffix} if suffix else {}),
        }
        return TrainingCall("POST", _JOBS, to_json(fields), _JSON)

    def look(self, job: str) -> TrainingCall:
        """Return the request for a job."""
        return TrainingCall("GET", f"{_JOBS}/{quote(job, safe='')}")

    def cancel(self, job: str) -> TrainingCall:
        """Return the request that cancels a job."""
        return TrainingCall("POST", f"{_JOBS}/{quote(job, safe='')}/cancel", b"{}", _JSON)

    def read_job(self, status: int, headers: Mapping[str, str], body: bytes) -> TrainingJob:
        """Return a job."""
        return _job(_document(status, headers, body), headers, status)

    def jobs(self, mark: str, after: str) -> TrainingCall:
        """Return the request for a page of jobs with the mark."""
        query = {"limit": _PAGE, f"metadata[{_MARK}]": mark, **({"after": after} if after else {})}
        return TrainingCall("GET", f"{_JOBS}?{urlencode(query)}")

    def read_jobs(self, status: int, headers: Mapping[str, str], body: bytes) -> tuple[tuple[TrainingJob, ...], str]:
        """Return the jobs of a page, and the id that the next begins after."""
        document = _document(status, headers, body)
        found = tuple(_job(each, headers, status) for each in _entries(document, headers, status))
        more = document.get("has_more") is True and bool(found)
        return found, found[-1].id if more else ""

    def events(self, job: str) -> TrainingCall:
        """Return the request for the latest events."""
        return TrainingCall("GET", f"{_JOBS}/{quote(job, safe='')}/events?limit={_EVENTS}")

    def read_events(self, status: int, headers: Mapping[str, str], body: bytes) -> tuple[TrainingEvent, ...]:
        """Return the events: the provider sends the newest first."""
        entries = _entries(_document(status, headers, body), headers, status)[:_EVENTS]
        return tuple(
            TrainingEvent(_name(each, "id", headers, status), printable(string(each, "message"))[:SHOWN])
            for each in reversed(entries)
        )


_BREAKS: Final = {number: f"\\u{number:04x}" for number in (0x1C, 0x1D, 0x1E, 0x85, 0x2028, 0x2029)}
"""Characters that end a line for some readers of text; JSON may write them as escapes."""


def _line(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False).translate(_BREAKS).encode() + b"\n"


def _document(status: int, headers: Mapping[str, str], body: bytes) -> Mapping[str, object]:
    document = document_of(status, headers, body, _invalid)
    if not 200 <= status < 300:
        raise openai_failure(status, headers, document, body)
    if not isinstance(document, dict):
        raise _invalid("not an object", headers, status)
    return document


def _invalid(problem: str, headers: Mapping[str, str], status: int) -> LMError:
    return ResponseInvalid(
        f"the answer about a training is {problem}", status=status, request_id=headers.get("x-request-id")
    )


def _entries(document: Mapping[str, object], headers: Mapping[str, str], status: int) -> list[Mapping[str, object]]:
    data = document.get("data")
    if not isinstance(data, list) or not all(isinstance(each, dict) for each in data):
        raise _invalid("without a list of objects as its data", headers, status)
    return data


def _name(document: Mapping[str, object], field: str, headers: Mapping[str, str], status: int) -> str:
    found = document.get(field)
    if not isinstance(found, str) or not 0 < len(found) <= _LONGEST or not found.isprintable() or " " in found:
        raise _invalid(f"without a name as its {field}", headers, status)
    return found


def _job(document: Mapping[str, object], headers: Mapping[str, str], status: int) -> TrainingJob:
    word, counted = string(document, "status"), document.get("trained_tokens")
    state = _ENDS.get(word, "under way")
    error = document.get("error")
    told = string(error, "message") or string(error, "code") if isinstance(error, dict) else ""
    return TrainingJob(
        _name(document, "id", headers, status),
        state,
        string(document.get("metadata"), _MARK)[:_LONGEST],
        _name(document, "fine_tuned_model", headers, status) if state == "succeeded" else "",
        counted if type(counted) is int and 0 <= counted < 2**53 else None,
        printable(told or word)[:SHOWN],
    )
