"""Decisions about a request: its answer and its fault. They are made at once; the connection carries them out."""

import dataclasses
import hashlib
import hmac
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from dspex.simulator._arrival_log import ArrivalLog, attempt_of, call_of
from dspex.simulator._shape import REFUSED, failure_of, refusal, shaped, twist_of
from dspex.simulator._stats import Counters
from dspex.simulator.dialects import (
    DIALECTS,
    Dialect,
    ErrorAnswer,
    OpenAIChatDialect,
    Response,
    Twist,
    fallback,
)
from dspex.simulator.faults import Fault, FaultKind, FaultPlan, FaultPlanInvalid
from dspex.simulator.judge import ConformanceReport, judge
from dspex.simulator.limits import Limits, Meter
from dspex.simulator.training import FineTuning, TrainingPlan

__all__ = ["AnswerPlan", "ReceivedRequest", "RequestHandler"]

_KEPT = 4096  # replies; they are pure, so forgetting one costs time only
_KEPT_BYTES = 64 * 1024  # of each; many vectors are made again instead
_METERS = 1024  # keys whose limits are kept
_JSON = (("content-type", "application/json"),)
_WHOLE = (FaultKind.NONE, FaultKind.SPLIT, FaultKind.DRIP, FaultKind.CLOSE)
_TWISTED = (FaultKind.EMPTY, FaultKind.REFUSAL, FaultKind.FILTERED)


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """A request as it was read off a connection; header names are lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    query: str = ""
    connection: int = 0

    @property
    def target(self) -> str:
        """The path with its query."""
        return f"{self.path}?{self.query}" if self.query else self.path


@dataclass(frozen=True, slots=True)
class AnswerPlan:
    """The response to send and the fault in it; `outcome` is counted at the end, None is not counted."""

    response: Response
    fault: Fault
    outcome: str | None
    request_id: tuple[str, str] | None = None
    arrival: int = 0


@dataclass(frozen=True, slots=True)
class _Verdict:
    """The decision about a request: its response, its fault, and the facts to note about it."""

    response: Response
    fault: Fault
    outcome: str
    retry_after: float | None = None


class RequestHandler:
    """Everything about a simulator but its sockets."""

    def __init__(
        self,
        faults: FaultPlan,
        key: str | None,
        dialects: tuple[Dialect, ...] = DIALECTS,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
        training: TrainingPlan | None = None,
    ) -> None:
        self.faults = faults
        self.training = FineTuning(training)
        self.counters = Counters()
        self.arrival_log = ArrivalLog()
        self._key = key
        chat = OpenAIChatDialect(self.training.taught)
        spoken = [chat if type(each) is OpenAIChatDialect else each for each in dialects]
        self._dialects: tuple[Dialect, ...] = (*spoken, self.training)
        self._limits = limits
        self._meters: OrderedDict[str, Meter] = OrderedDict()
        self._clock = clock
        self._kept: OrderedDict[tuple[str, str, bytes, Twist], Response] = OrderedDict()

    def plan(self, request: ReceivedRequest) -> AnswerPlan:
        """Decide about a request; one that is counted stays in flight until `leave` is told its outcome."""
        if request.path.startswith("/_simulator/") or request.path == "/health":
            return AnswerPlan(self._control(request), Fault(), None)
        asked = (request.method, request.path, request.headers)
        dialect = next((one for one in self._dialects if one.claims(*asked)), None)
        speaks = dialect or fallback(request.path, self._dialects)
        digest = hashlib.sha256(request.body).digest()
        seen, ahead = self.counters.arrive(request.path, digest)
        refused = self._refusal(dialect, request)
        if dialect is None or refused is not None:
            failure = refused or ErrorAnswer(status=404, message="")
            verdict = _Verdict(speaks.failure(failure), Fault(), "rejected")
        else:
            fault = self.faults.scripted(request.path, ahead) or self.faults.decide(digest, seen)
            verdict = self._verdict(dialect, request, digest, fault)
        request_id = (speaks.request_id_header, f"req_{digest.hex()[:20]}_{seen}")
        arrival = self._note(request, digest, verdict)
        return AnswerPlan(verdict.response, verdict.fault, verdict.outcome, request_id, arrival)

    def leave(self, plan: AnswerPlan, outcome: str) -> None:
        """Count how a request ended."""
        if plan.outcome is not None:
            self.counters.leave(outcome)
            self.arrival_log.end(plan.arrival, self._clock(), outcome)

    def stale(self, request: ReceivedRequest) -> None:
        """Note a request that was written to a connection closed before it."""
        digest = hashlib.sha256(request.body).digest()
        number = self._note(request, digest, _Verdict(Response(0, (), ()), Fault(), "stale"))
        self.arrival_log.end(number, self._clock(), "stale")

    def _note(self, request: ReceivedRequest, digest: bytes, verdict: _Verdict) -> int:
        named_by, call = call_of(request.headers, digest)
        return self.arrival_log.begin(
            call=call,
            named_by=named_by,
            attempt=attempt_of(request.headers),
            at=self._clock(),
            path=request.path,
            connection=request.connection,
            in_flight=self.counters.in_flight,
            status=verdict.response.status,
            retry_after=verdict.retry_after,
            should_retry=verdict.fault.should_retry if verdict.fault.kind in REFUSED else None,
        )

    def _refusal(self, dialect: Dialect | None, request: ReceivedRequest) -> ErrorAnswer | None:
        if dialect is None:
            message = f"Unknown request URL: {request.method} {request.path}."
            return ErrorAnswer(status=404, message=message, code="unknown_url")
        if (header := dialect.lacks(request.headers)) is not None:
            return ErrorAnswer(status=400, message=f"{header}: header is required")
        given = dialect.key(request.headers, request.query) or ""
        if self._key is None or hmac.compare_digest(given.encode(), self._key.encode()):
            return None
        return ErrorAnswer(status=401, message="Incorrect API key provided.", code="invalid_api_key")

    def _verdict(self, dialect: Dialect, request: ReceivedRequest, digest: bytes, fault: Fault) -> _Verdict:
        now = datetime.now(UTC)
        if dialect is not self.training:
            answer = self._answer(dialect, request, digest, twist_of(fault))
        elif failure_of(fault) is not None:
            answer = _said(200, {})  # refused below: nothing is done
        else:
            answer = self.training.act(request.method, request.target, request.headers, request.body)
        meter = self._meter(dialect, request)
        short = None if meter is None else meter.take(self._clock(), answer.prompt + answer.completion)
        told = () if meter is None else dialect.allowance(meter.left(self._clock()), now)
        if short is not None:
            counted, wait = short
            message = f"Rate limit reached for {counted} per minute. Please try again in {wait:.3f}s."
            failure = ErrorAnswer(
                status=429, message=message, code="rate_limit_exceeded", counted=counted, retry_after=wait
            )
            return _Verdict(_with(dialect.failure(failure), told), Fault(delay=fault.delay), "limited", wait)
        if (refused := failure_of(fault)) is not None:
            response = refusal(dialect, refused, fault, now)
            return _Verdict(_with(response, told), fault, fault.kind.value, refused.retry_after)
        is_wrong = 400 <= answer.status < 500
        if is_wrong and fault.kind in _TWISTED:
            fault = dataclasses.replace(fault, kind=FaultKind.NONE)
        response, left = shaped(dialect, answer, fault, request.target)
        outcome = "rejected" if is_wrong and fault.kind in _WHOLE else fault.kind.value
        return _Verdict(_with(response, told), left, outcome)

    def _meter(self, dialect: Dialect, request: ReceivedRequest) -> Meter | None:
        """Return what a key has left; listing models is free."""
        if self._limits is None or request.method != "POST":
            return None
        key = dialect.key(request.headers, request.query) or ""
        meter = self._meters.setdefault(key, Meter(self._limits))
        self._meters.move_to_end(key)
        if len(self._meters) > _METERS:
            self._meters.popitem(last=False)
        return meter

    def _answer(self, dialect: Dialect, request: ReceivedRequest, digest: bytes, twist: Twist) -> Response:
        name = (dialect.name, request.target, digest, twist)
        kept = self._kept.get(name)
        if kept is None:
            kept = dialect.respond(request.target, request.body, twist)
            if sum(map(len, kept.parts)) <= _KEPT_BYTES:
                self._kept[name] = kept
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(name)
        return kept

    def judge(self) -> ConformanceReport:
        """Judge the clients by everything that has arrived."""
        return judge(self.arrival_log.arrivals())

    def reset(self) -> None:
        """Forget what has arrived and what it has used up."""
        self.counters.reset()
        self.arrival_log.reset()
        self.training.reset()
        self._kept.clear()  # the answers of trained models
        self._meters.clear()

    def _control(self, request: ReceivedRequest) -> Response:
        """Answer the simulator's own routes: health, stats, arrivals, faults, reset."""
        match request.method, request.path:
            case "GET", "/health":
                return _said(200, {"status": "ok"})
            case "GET", "/_simulator/stats":
                return _said(200, dataclasses.asdict(self.counters.snapshot()))
            case "GET", "/_simulator/arrivals":
                return _said(200, {"arrivals": [dataclasses.asdict(one) for one in self.arrival_log.arrivals()]})
            case "GET", "/_simulator/report":
                return _said(200, self.judge().to_json())
            case "GET", "/_simulator/trainings":
                return _said(200, {"trainings": [dataclasses.asdict(one) for one in self.training.runs.values()]})
            case "POST", "/_simulator/training":
                return self._set_training(request.body)
            case "GET", "/_simulator/faults":
                return _said(200, self.faults.to_json())
            case "POST", "/_simulator/reset":
                self.reset()
                return _said(200, {})
            case "POST", "/_simulator/faults":
                return self._set_faults(request.body)
        return _said(404, {"error": {"message": f"No such route: {request.method} {request.path}"}})

    def _set_training(self, body: bytes) -> Response:
        try:
            self.training.plan = TrainingPlan(**json.loads(body))
        except (ValueError, TypeError, RecursionError) as error:
            return _said(400, {"error": {"message": str(error)}})
        return _said(200, dataclasses.asdict(self.training.plan))

    def _set_faults(self, body: bytes) -> Response:
        try:
            self.set_faults(FaultPlan.from_json(json.loads(body)))
        except (FaultPlanInvalid, ValueError, RecursionError) as error:
            return _said(400, {"error": {"message": str(error)}})
        return _said(200, self.faults.to_json())

    def set_faults(self, plan: FaultPlan) -> None:
        """Replace the plan: its script starts at the next request, its rates go on counting arrivals."""
        self.faults = plan
        self.counters.paths.clear()


def _with(response: Response, headers: tuple[tuple[str, str], ...]) -> Response:
    return dataclasses.replace(response, headers=(*response.headers, *headers)) if headers else response


def _said(status: int, value: object) -> Response:
    return Response(status, _JSON, (json.dumps(value).encode(),))
