"""Limits of several processes against a provider that counts: it never has to refuse, whatever happens on our side."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from dspex.services.lm.slices import ARRIVES, ModelShare, SliceBucket
from dspex.services.shared.rate_cell import SLICE, BucketAsk, RateAsk, RateCell, exchange_rates
from dspex.simulator.limits import Limits, Meter

KINDS = ("requests", "tokens")


@dataclass
class Process:
    """One process, and what its calls have taken that are to be settled."""

    share: ModelShare
    taken: list[int] = field(default_factory=list)


class Rates(RuleBasedStateMachine):
    """Processes send what their slices cover, ask, and die; answers get lost; the store dies for all at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.skew = 0.0
        self.text: str | None = None
        self.names = 0
        self.up = True
        self.slack = 1e-3
        self.processes: dict[str, Process] = {}
        self.arriving: list[tuple[float, int]] = []

    @initialize(rpm=st.integers(1, 600), tpm=st.integers(100, 6_000))
    def open(self, rpm: int, tpm: int) -> None:
        self.rpm, self.tpm = rpm, tpm
        self.meter = Meter(Limits(rpm=rpm, tpm=tpm))
        self.join()
        self.join()

    @precondition(lambda self: self.up and len(self.processes) < 4)
    @rule()
    def join(self) -> None:
        self.names += 1
        share = ModelShare("limits/x", f"p{self.names}")
        for kind, limit in zip(KINDS, (self.rpm, self.tpm), strict=True):
            share.bucket(kind, limit, self.now)
        self.processes[share.holder] = Process(share)

    def draw(self, data: st.DataObject) -> Process:
        return self.processes[data.draw(st.sampled_from(sorted(self.processes)))]

    @rule(data=st.data(), tokens=st.integers(1, 400), delay=st.floats(0, ARRIVES * 0.9), many=st.integers(1, 20))
    def send(self, data: st.DataObject, tokens: int, delay: float, many: int) -> None:
        """Send as many as go out; the provider hears of each after a while."""
        self.send_all(self.draw(data), tokens, delay, many)

    def send_all(self, process: Process, tokens: int, delay: float, many: int) -> None:
        buckets, live = process.share.buckets, process.share.live
        if not self.up and (self.rpm < live or self.tpm < tokens * live):
            return  # shares of less than a call: those who have saved up may send at the same time
        for _ in range(many):
            if buckets["requests"].wait(1, self.now) or buckets["tokens"].wait(tokens, self.now):
                return
            buckets["requests"].take(1, self.now)
            buckets["tokens"].take(tokens, self.now)
            heapq.heappush(self.arriving, (self.now + delay, tokens))

    @rule(tokens=st.integers(1, 40), delay=st.floats(0, ARRIVES * 0.9))
    def flood(self, tokens: int, delay: float) -> None:
        """Everybody wants all there is."""
        for process in self.processes.values():
            for bucket in process.share.buckets.values():
                bucket.queued(600)
            self.send_all(process, tokens, delay, 1)
            self.exchange(process, "answered" if self.up else "down")
            self.send_all(process, tokens, delay, 600)

    @rule(data=st.data(), fate=st.sampled_from(["answered", "answered", "answered", "lost on its way", "answer lost"]))
    def ask(self, data: st.DataObject, fate: str) -> None:
        process = self.draw(data)
        self.exchange(process, "down" if not self.up else fate)

    def exchange(self, process: Process, fate: str) -> None:
        share = process.share
        asked = share.ask(self.now)
        if fate == "down":
            share.fail("gone", self.now)
        elif fate != "lost on its way":
            self.text, answer = share.step(asked, f"o{self.now}")(self.text, self.now + self.skew)
            if fate == "answered":
                share.hear(asked, answer, self.now)

    @precondition(lambda self: self.up)
    @rule(loses=st.booleans())
    def die(self, loses: bool) -> None:
        """All have heard how many they are; then the store is gone, with or without what it held."""
        for process in self.processes.values():
            self.exchange(process, "answered")
        for process in self.processes.values():
            self.exchange(process, "answered")
        self.up = False
        self.slack = ARRIVES  # alone, a process counts as it sends, as with limits of its own
        if loses:
            self.text = None

    @precondition(lambda self: not self.up)
    @rule()
    def come_back(self) -> None:
        """Each tells what it has sent meanwhile, before anybody sends more."""
        self.up = True
        for process in self.processes.values():
            self.exchange(process, "answered")

    @precondition(lambda self: self.up and len(self.processes) > 1)
    @rule(data=st.data())
    def kill(self, data: st.DataObject) -> None:
        """Not while the store is away: nobody could tell what the dead one has sent of its fair share meanwhile."""
        del self.processes[data.draw(st.sampled_from(sorted(self.processes)))]

    @rule(seconds=st.floats(0.01, 0.5) | st.floats(0, 90))
    def time(self, seconds: float) -> None:
        """Requests arrive meanwhile, and none is refused."""
        until = self.now + seconds
        while self.arriving and self.arriving[0][0] <= until:
            at, tokens = heapq.heappop(self.arriving)
            refused = self.meter.take(at, tokens)
            # Whole calls alone can be sent: after an outage of the store, one of them may be too early by its own size.
            call = max(60 / self.rpm, 60 * tokens / self.tpm) if self.slack == ARRIVES else 0.0
            assert refused is None or refused[1] < self.slack + call, f"the provider refuses: {refused}"
        self.now = until

    @rule(seconds=st.floats(0, 50))
    def set_back(self, seconds: float) -> None:
        """Somebody sets the clock of the store back."""
        self.skew -= seconds


TestRates = Rates.TestCase


@given(st.lists(st.permutations(range(4)), min_size=10, max_size=14), st.integers(2, 4))
def test_nearly_all_of_the_limit_is_used(rounds: list[list[int]], count: int) -> None:
    """Several processes that always want more, and exchange in turn, each round in another order: little is lost."""
    shares = [ModelShare("limits/x", f"p{number}") for number in range(count)]
    for share in shares:
        share.bucket("requests", 600, 0.0)
    text: str | None = None
    sent, now = 0, 0.0
    for turn in [turn for each in rounds * 4 for turn in each if turn < count]:
        share = shares[turn]
        bucket = share.buckets["requests"]
        now += 0.05
        bucket.queued(500)
        while bucket.wait(1, now) == 0:
            bucket.take(1, now)
            sent += 1
        asked = share.ask(now)
        text, answer = share.step(asked, "o")(text, now)
        share.hear(asked, answer, now)
        while bucket.wait(1, now) == 0:
            bucket.take(1, now)
            sent += 1
    allowed = 600 + 10 * now
    assert sent <= allowed + 1
    assert sent >= 0.95 * allowed - 2 * 10


def test_a_large_call_is_not_overtaken_for_ever() -> None:
    """Small calls of others wait behind it, and what is given back is for it."""
    cell = RateCell("o")
    first = exchange_rates(cell, RateAsk("a", 1, {"tokens": BucketAsk(1000, 60, need=1000, want=1000)}), 0.0)
    assert first.buckets["tokens"].granted == 1000
    used = BucketAsk(1000, 60, taken=1000)
    exchange_rates(cell, RateAsk("a", 2, {"tokens": used}), 0.1)
    large = exchange_rates(cell, RateAsk("b", 1, {"tokens": BucketAsk(1000, 60, need=500, want=500)}), 0.2)
    assert large.buckets["tokens"].granted == 0
    assert 29 < large.buckets["tokens"].wait < 31
    now, turn, got = 0.2, 2, 0.0
    while not got:
        now, turn = now + 1.0, turn + 1
        small = exchange_rates(cell, RateAsk("a", turn, {"tokens": used._replace(need=5, want=5)}), now)
        assert small.buckets["tokens"].granted == 0, "it was overtaken"
        got = (
            exchange_rates(cell, RateAsk("b", turn, {"tokens": BucketAsk(1000, 60, need=500, want=500)}), now)
            .buckets["tokens"]
            .granted
        )
    assert now < 32


@given(st.integers(1, 5), st.integers(2, 20))
def test_a_share_of_less_than_a_call_is_saved_up(rpm: int, live: int) -> None:
    """Without the store, as many calls go out as a share has room for, also where it is less than one a minute."""
    bucket, minutes, sent = SliceBucket(rpm, now=0.0), 20, 0
    bucket.fail(live, 0.0)
    for second in range(60 * minutes):
        while bucket.wait(1, second) == 0:
            bucket.take(1, second)
            sent += 1
    assert minutes * rpm / live - 1 <= sent <= minutes * rpm / live + 1


def test_what_others_have_sent_is_counted_once() -> None:
    """The provider has counted it, and its sender has not yet said so."""
    cell = RateCell("o")
    full = BucketAsk(60, 60, need=1, want=40)
    assert exchange_rates(cell, RateAsk("a", 1, {"requests": full}), 0.0).buckets["requests"].granted == 40
    assert exchange_rates(cell, RateAsk("b", 1, {"requests": full}), 0.0).buckets["requests"].granted == 10.5
    seen = BucketAsk(60, 60, taken=10, under_way=10, left=60 - 40 - 10)
    rest = exchange_rates(cell, RateAsk("b", 2, {"requests": seen}), 0.0)
    assert rest.buckets["requests"].level == 10
    foreign = exchange_rates(cell, RateAsk("b", 3, {"requests": seen._replace(left=2)}), 0.0)
    assert foreign.buckets["requests"].level == 3, "somebody else uses the key"


def test_what_the_dead_held_comes_back_with_time() -> None:
    cell = RateCell("o")
    exchange_rates(cell, RateAsk("a", 1, {"requests": BucketAsk(60, 60, need=1, want=60)}), 0.0)
    alive = RateAsk("b", 1, {"requests": BucketAsk(60, 60, need=1, want=100)})
    assert exchange_rates(cell, alive, 0.0).buckets["requests"].granted == 0
    later = exchange_rates(cell, alive._replace(turn=2), SLICE + 0.1)
    assert later.live == 1
    assert exchange_rates(cell, alive._replace(turn=3), SLICE + 60).buckets["requests"].level >= 0


def test_the_smaller_limit_holds_while_its_holder_lives() -> None:
    cell = RateCell("o")
    loose, tight = BucketAsk(600, 60, need=1, want=600), BucketAsk(60, 60)
    exchange_rates(cell, RateAsk("a", 1, {"requests": tight}), 0.0)
    answer = exchange_rates(cell, RateAsk("b", 1, {"requests": loose}), 0.0)
    assert answer.buckets["requests"].capacity == 60
    assert answer.buckets["requests"].granted <= 60
    answer = exchange_rates(cell, RateAsk("b", 2, {"requests": loose}), SLICE + 1)
    assert answer.buckets["requests"].capacity == 600


def test_one_process_finds_out_for_all_whether_the_provider_is_back() -> None:
    """And when it dies on it, another one."""
    cell, turn = RateCell("o"), 0

    def say(holder: str, now: float, **words: object) -> tuple[bool, bool]:
        nonlocal turn
        turn += 1
        answer = exchange_rates(cell, RateAsk(holder, turn, **words), now)  # type: ignore[arg-type]  # as tests mean it
        return answer.down, answer.probe

    assert say("a", 0.0, opened=1.0) == (True, False)
    assert say("b", 0.5, wants_probe=True) == (True, False), "it is too early"
    assert say("b", 1.1, wants_probe=True) == (True, True)
    assert say("a", 1.2, wants_probe=True) == (True, False)
    assert say("b", 1.3, wants_probe=True) == (True, True)
    assert say("a", 1.3 + SLICE, wants_probe=True) == (True, False), "b may still be at it"
    assert say("a", 1.4 + SLICE, wants_probe=True) == (True, True), "b is dead"
    assert say("a", 1.5 + SLICE, closed=True) == (False, False)
    assert say("b", 1.6 + SLICE) == (False, False)


def test_a_pause_is_for_all_and_ends() -> None:
    cell = RateCell("o")
    exchange_rates(cell, RateAsk("a", 1, pause=5.0), 0.0)
    assert exchange_rates(cell, RateAsk("b", 1), 1.0).pause == 4.0
    assert exchange_rates(cell, RateAsk("b", 2, pause=1.0), 1.0).pause == 4.0
    assert exchange_rates(cell, RateAsk("b", 3), 6.0).pause == 0.0


@given(st.text(max_size=200))
def test_any_text_in_a_cell_is_limits_or_a_typed_error(text: str) -> None:
    try:
        RateCell.decode(text)
    except ValueError:
        return
