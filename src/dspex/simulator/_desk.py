"""What is answered to a request, and which fault it meets: decided at once, carried out by the connection."""

import dataclasses
import hashlib
import hmac
import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from dspex.simulator._stats import Counters
from dspex.simulator.faults import Fault, FaultKind, FaultPlan, FaultPlanInvalid
from dspex.simulator.wire import WIRES, Failure, Response, Wire

__all__ = ["Desk", "Plan", "Request"]

_KEPT = 4096  # replies; they are pure, so forgetting one costs time only
_JSON = (("content-type", "application/json"),)


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it was read off a connection; header names are lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send and what to break; `outcome` is counted when it is done, None for what is not counted."""

    response: Response
    fault: Fault
    outcome: str | None
    request_id: tuple[str, str] | None = None


class Desk:
    """Everything about a simulator but its sockets."""

    def __init__(self, faults: FaultPlan, key: str | None, wires: tuple[Wire, ...] = WIRES) -> None:
        self.faults = faults
        self.counters = Counters()
        self._key = key
        self._wires = wires
        self._kept: OrderedDict[tuple[str, bytes], Response] = OrderedDict()

    def plan(self, request: Request) -> Plan:
        """Decide about a request; one that is counted stays in flight until its outcome is."""
        if request.path.startswith("/_simulator/") or request.path == "/health":
            return Plan(self._control(request), Fault(), None)
        wire = next((one for one in self._wires if one.claims(request.method, request.path)), None)
        digest = hashlib.sha256(request.body).digest()
        seen, ahead = self.counters.arrive(request.path, digest)
        speaks = wire or self._wires[0]
        request_id = (speaks.request_id_header, f"req_{digest.hex()[:20]}_{seen}")
        refused = self._refusal(wire, request)
        if wire is None or refused is not None:
            return Plan(speaks.failure(refused or Failure(status=404, message="")), Fault(), "rejected", request_id)
        fault = self.faults.scripted(request.path, ahead) or self.faults.decide(digest, seen)
        response = self._failed(wire, fault) or self._answer(wire, request, digest)
        outcome = "rejected" if 400 <= response.status < 500 and fault.kind is FaultKind.NONE else fault.kind.value
        return Plan(response, fault, outcome, request_id)

    def _refusal(self, wire: Wire | None, request: Request) -> Failure | None:
        if wire is None:
            message = f"Unknown request URL: {request.method} {request.path}."
            return Failure(status=404, message=message, code="unknown_url")
        given = wire.key(request.headers) or ""
        if self._key is None or hmac.compare_digest(given.encode(), self._key.encode()):
            return None
        return Failure(status=401, message="Incorrect API key provided.", code="invalid_api_key")

    @staticmethod
    def _failed(wire: Wire, fault: Fault) -> Response | None:
        if fault.kind is FaultKind.RATE_LIMIT:
            wait = fault.retry_after
            message = f"Rate limit reached. Please try again in {wait:g}s."
            return wire.failure(Failure(status=429, message=message, code="rate_limit_exceeded", retry_after=wait))
        if fault.kind is FaultKind.SERVER_ERROR:
            message = "The server had an error while processing your request."
            return wire.failure(Failure(status=fault.status, message=message))
        return None

    def _answer(self, wire: Wire, request: Request, digest: bytes) -> Response:
        kept = self._kept.get((request.path, digest))
        if kept is None:
            kept = self._kept[request.path, digest] = wire.respond(request.path, request.body)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end((request.path, digest))
        return kept

    def _control(self, request: Request) -> Response:
        """Answer the simulator's own routes: health, stats, faults, reset."""
        match request.method, request.path:
            case "GET", "/health":
                return _said(200, {"status": "ok"})
            case "GET", "/_simulator/stats":
                return _said(200, dataclasses.asdict(self.counters.snapshot()))
            case "GET", "/_simulator/faults":
                return _said(200, self.faults.to_json())
            case "POST", "/_simulator/reset":
                self.counters.reset()
                return _said(200, {})
            case "POST", "/_simulator/faults":
                return self._set_faults(request.body)
        return _said(404, {"error": {"message": f"No such route: {request.method} {request.path}"}})

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


def _said(status: int, value: object) -> Response:
    return Response(status, _JSON, (json.dumps(value).encode(),))
