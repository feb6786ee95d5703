"""When a streamed answer is given up, for any schedule of heads, pings and tokens: in virtual time, against a model."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import AsyncIterator
from typing import NamedTuple

import httpx
from hypothesis import example, given
from hypothesis import strategies as st

from dspex.errors import TransportFailed
from dspex.services.lm.transport import HttpxTransport, Timeouts

PING, TOKEN = b": ping\n\n", b"data: token\n\n"


class Jumping(selectors.SelectSelector):
    """Waits for nothing: where nothing is ready, the time to the next timer has passed."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is not None:
            self.now += timeout
        return ready


class JumpingLoop(asyncio.SelectorEventLoop):
    """A loop whose time is that of its selector."""

    def __init__(self) -> None:
        self.selector = Jumping()
        super().__init__(self.selector)

    def time(self) -> float:
        return self.selector.now


class Piece(NamedTuple):
    """A piece that comes too long after the one before it."""

    gap: int
    is_token: bool


class Scheduled(httpx.AsyncBaseTransport):
    """Sends the head after ``head`` seconds, and then the pieces."""

    def __init__(self, head: int, pieces: list[Piece]) -> None:
        self.head = head
        self.pieces = pieces

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer."""

        async def body() -> AsyncIterator[bytes]:
            for piece in self.pieces:
                await asyncio.sleep(piece.gap)
                yield TOKEN if piece.is_token else PING

        await asyncio.sleep(self.head)
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=body())


class Ended(NamedTuple):
    """How many pieces were read, when it was over, and what was said."""

    read: int
    at: float
    why: str


async def read(head: int, pieces: list[Piece], timeouts: Timeouts) -> Ended:
    """Read as the LM room does: what is a token is told."""
    transport = HttpxTransport(Scheduled(head, pieces), timeouts=timeouts)
    now, count = asyncio.get_running_loop().time, 0
    try:
        async with transport.stream("http://llm.test/v1", {}, b"{}") as answer:
            async for data in answer:
                count += 1
                if data == TOKEN:
                    answer.begun()
    except TransportFailed as error:
        return Ended(count, now(), "not begun" if "had not begun" in str(error) else "silent")
    return Ended(count, now(), "")


def expected(head: int, pieces: list[Piece], first_byte: float, silence: float) -> Ended:
    """Return what a reader of the documentation expects."""
    now, begun = 0.0, False
    for count, (gap, is_token) in enumerate([Piece(head, is_token=False), *pieces]):
        limit = silence if begun else first_byte - now
        if gap > limit:
            return Ended(max(0, count - 1), now + limit, "silent" if begun else "not begun")
        now += gap
        begun = begun or is_token
    return Ended(len(pieces), now, "")


# Halves, so that nothing happens just when a time is over.
limits = st.integers(0, 30).map(lambda seconds: seconds + 0.5)


@given(
    head=st.integers(0, 30),
    pieces=st.lists(st.builds(Piece, st.integers(0, 20), st.booleans()), max_size=8),
    first_byte=limits,
    silence=limits,
)
@example(head=0, pieces=[Piece(1, is_token=False)] * 20, first_byte=10.5, silence=5.5)  # pings for ever
@example(head=0, pieces=[Piece(9, is_token=True), Piece(9, is_token=True)], first_byte=20.5, silence=5.5)
def test_a_stream_is_given_up_when_its_first_token_or_its_next_piece_is_late(
    head: int, pieces: list[Piece], first_byte: float, silence: float
) -> None:
    """``first_byte`` is one time for all that comes before the first token; ``read`` begins anew with each piece."""
    timeouts = Timeouts(first_byte=first_byte, read=silence)
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        ended = runner.run(read(head, pieces, timeouts))

    assert (ended.read, round(ended.at, 6), ended.why) == expected(head, pieces, first_byte, silence)
