"""One connection: requests read, decided and answered one after the other, faults carried out on its socket."""

import asyncio
import contextlib
import http
import socket
import struct

import h11

from dspex.simulator._request_handler import AnswerPlan, ReceivedRequest, RequestHandler
from dspex.simulator.dialects import Response
from dspex.simulator.faults import Fault, FaultKind

__all__ = ["Connection"]

_REASONS = {one.value: one.phrase.encode() for one in http.HTTPStatus}
_MOST_BODY = 16 * 2**20
_CHUNK = 64 * 1024
_NO_FAULT = Fault()
_BROKEN = (FaultKind.RESET, FaultKind.TRUNCATE, FaultKind.HANG, FaultKind.HANG_BODY)
_HANGS = (FaultKind.HANG, FaultKind.HANG_BODY)


class _ConnectionGone(Exception):
    """The client has closed the connection."""


class Connection:
    """Serves one client until it leaves, breaks the protocol, or a fault ends the connection."""

    def __init__(self, handler: RequestHandler, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._handler = handler
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.SERVER)
        self._number = 0

    async def serve(self) -> None:
        """Answer requests until the connection ends; it is closed when this returns."""
        self._number = self._handler.counters.connect()
        try:
            while True:
                plan = self._handler.plan(await self._request())
                await self._carry_out(plan)
                if plan.fault.kind in _BROKEN or self._http.our_state is not h11.DONE:
                    return
                if self._http.their_state is not h11.DONE:
                    return
                self._http.start_next_cycle()
                if plan.fault.kind is FaultKind.CLOSE:
                    await self._close_early()
                    return
        except h11.RemoteProtocolError as error:
            self._refuse(error.error_status_hint)
        except (_ConnectionGone, ConnectionError):
            pass  # the client left; what it left behind has been counted
        finally:
            self._handler.counters.disconnect()
            self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def _request(self) -> ReceivedRequest:
        event = await self._event()
        if not isinstance(event, h11.Request):
            raise _ConnectionGone
        body = bytearray()
        while isinstance(data := await self._event(), h11.Data):
            body += data.data
            if len(body) > _MOST_BODY:
                raise h11.RemoteProtocolError("the body is too large", error_status_hint=413)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
        path, _, query = event.target.decode("latin-1").partition("?")
        return ReceivedRequest(event.method.decode("latin-1"), path, headers, bytes(body), query, self._number)

    async def _event(self) -> object:
        while True:
            event = self._http.next_event()
            if event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                raise _ConnectionGone
            if event is not h11.NEED_DATA:
                return event
            if self._http.they_are_waiting_for_100_continue:
                self._write(self._http.send(h11.InformationalResponse(status_code=100, headers=[])))
            await self._receive()

    async def _receive(self) -> None:
        data = await self._reader.read(_CHUNK)
        if not data and self._http.their_state in (h11.IDLE, h11.DONE):
            raise _ConnectionGone
        self._http.receive_data(data)

    async def _close_early(self) -> None:
        """Close a connection that was to be kept; a request that is written to it all the same is not answered."""
        if self._writer.can_write_eof():
            self._writer.write_eof()
        self._handler.stale(await self._request())

    async def _carry_out(self, plan: AnswerPlan) -> None:
        outcome = "cancelled"  # unless it comes to the end
        try:
            await self._wait(None if plan.fault.kind is FaultKind.HANG else plan.fault.delay)
            await self._answer(plan)
            outcome = plan.outcome or ""
        except _ConnectionGone:
            outcome = plan.outcome or "" if plan.fault.kind in _HANGS else "cancelled"
            raise
        finally:
            self._handler.leave(plan, outcome)

    async def _wait(self, seconds: float | None) -> None:
        """Let time pass, for ever when None; a client that leaves meanwhile ends it."""
        if seconds == 0:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    await self._receive()  # a pipelined request is kept for later

    async def _answer(self, plan: AnswerPlan) -> None:
        parts = self._framed(plan)
        fault = plan.fault
        match fault.kind:
            case FaultKind.RESET:
                self._write(b"".join(parts)[: fault.after_bytes or 0])
                self._reset()
                return
            case FaultKind.TRUNCATE | FaultKind.HANG_BODY:
                body = b"".join(parts[1:])
                kept = len(body) // 2 if fault.after_bytes is None else fault.after_bytes
                self._write(parts[0] + body[: max(0, min(kept, len(body) - 1))])
                if fault.kind is FaultKind.HANG_BODY:
                    await self._writer.drain()
                    await self._wait(None)
            case FaultKind.SPLIT | FaultKind.DRIP:
                for at, part in enumerate(parts):
                    if at > 1 and part:  # between the pieces, not after the head or the last
                        await self._writer.drain()
                        await (asyncio.sleep(0) if fault.kind is FaultKind.SPLIT else self._wait(fault.pause))
                    self._write(part)
            case _ if plan.response.is_stream:
                for at, part in enumerate(parts):
                    if fault.gap and at > 1 and part:  # between the events
                        await self._wait(fault.gap)
                    self._write(part)
                    await self._writer.drain()
            case _:
                self._write(b"".join(parts))
        await self._writer.drain()

    def _framed(self, plan: AnswerPlan) -> list[bytes]:
        """Frame a response: its head, its parts, and what ends it."""
        response = plan.response
        sent = response.parts
        if plan.fault.kind in (FaultKind.SPLIT, FaultKind.DRIP):  # anywhere: inside events, lines and characters too
            whole, size = b"".join(sent), plan.fault.piece
            sent = tuple(whole[at : at + size] for at in range(0, len(whole), size))
        headers = [*response.headers, *([plan.request_id] if plan.request_id else [])]
        if not response.is_stream:
            headers.append(("content-length", str(sum(map(len, response.parts)))))
        else:
            headers.append(("transfer-encoding", "chunked"))
        events = [
            h11.Response(status_code=response.status, headers=headers, reason=_REASONS.get(response.status, b"")),
            *map(h11.Data, sent),
        ]
        return [self._http.send(event) or b"" for event in (*events, h11.EndOfMessage())]

    def _write(self, data: bytes | None) -> None:
        if data:
            self._writer.write(data)

    def _reset(self) -> None:
        """Close with a reset instead of an end: linger for no time at all."""
        raw = self._writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    def _refuse(self, status: int) -> None:
        """Answer what is not HTTP, if the protocol still allows an answer."""
        with contextlib.suppress(h11.LocalProtocolError):
            body = b'{"error":{"message":"This is not a valid HTTP request."}}'
            response = Response(status, (("content-type", "application/json"), ("connection", "close")), (body,))
            for data in self._framed(AnswerPlan(response, _NO_FAULT, None)):
                self._write(data)
