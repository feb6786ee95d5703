"""The judge's findings in arrivals, and the things that it lets pass."""

from dataclasses import replace

import pytest

from dspex.simulator import Arrival, Finding, FindingKind, NotResilient, judge


def _arrivals(*given: Arrival) -> list[Arrival]:
    return [replace(one, number=number) for number, one in enumerate(given, 1)]


def _one(
    at: float = 0.0,
    outcome: str = "ok",
    *,
    took: float = 0.1,
    call: str = "a",
    named_by: str = "idempotency-key",
    attempt: int | None = None,
    status: int = 200,
    retry_after: float | None = None,
    should_retry: bool | None = None,
    in_flight: int = 1,
    connection: int = 1,
) -> Arrival:
    return Arrival(
        call=call,
        named_by=named_by,
        attempt=attempt,
        at=at,
        ended=at + took,
        path="/v1/x",
        outcome=outcome,
        status=status,
        retry_after=retry_after,
        should_retry=should_retry,
        in_flight=in_flight,
        connection=connection,
    )


def _kinds(*given: Arrival) -> list[str]:
    return [one.kind.value for one in judge(_arrivals(*given)).findings]


def test_a_polite_retry_is_no_finding() -> None:
    """It waited as long as it was asked to, numbered its attempts, and stopped once it was answered."""
    report = judge(
        _arrivals(
            _one(0, "429", status=429, retry_after=1.0, attempt=1),
            _one(1.1, "reset", attempt=2),
            _one(1.3, "ok", attempt=3, connection=2),
        )
    )

    assert (report.calls, report.requests, report.answered, report.reconnected) == (1, 3, 1, 1)
    assert report.extra_load == 2.0
    assert not report.findings
    report.assert_resilient(max_extra_load=2.0)


def test_a_retry_that_comes_too_early() -> None:
    """The line says how long it waited and how long it should have."""
    (found,) = judge(_arrivals(_one(0, "429", status=429, retry_after=1.0), _one(0.6))).findings

    assert (found.kind, found.arrivals) == (FindingKind.EARLY_RETRY, (1, 2))
    assert found.text == "call a on /v1/x was sent again after 0.500 s; Retry-After was 1 s"


@pytest.mark.parametrize(
    ("before", "kind"),
    [
        (_one(0, "quota", status=429), "quota_retried"),
        (_one(0, "billing", status=402), "quota_retried"),
        (_one(0, "rejected", status=400), "caller_error_retried"),
        (_one(0, "401", status=401), "caller_error_retried"),
        (_one(0, "context", status=400), "caller_error_retried"),
        (_one(0, "refusal"), "caller_error_retried"),
        (_one(0, "500", status=500, should_retry=False), "retry_forbidden"),
        (_one(0, "ok"), "repeated_after_answer"),
    ],
)
def test_what_must_not_be_sent_again(before: Arrival, kind: str) -> None:
    """Money, the caller's own errors, what the server forbade, and what was answered."""
    assert _kinds(before, _one(5)) == [kind]


@pytest.mark.parametrize(
    "before",
    [
        _one(0, "400", status=408),
        _one(0, "400", status=409),
        _one(0, "400", status=400, should_retry=True),
        _one(0, "500", status=500),
        _one(0, "cancelled"),
        _one(0, "hang"),
        _one(0, "cut_stream"),
        _one(0, "empty"),
    ],
)
def test_what_may_be_sent_again(before: Arrival) -> None:
    """A failure that passes by itself, and a request that the server asked to have again."""
    assert _kinds(before, _one(5)) == []


def test_the_same_call_twice_at_once() -> None:
    """A duplicate is one while the first has not ended; who hedges may allow it."""
    report = judge(_arrivals(_one(0, took=2), _one(1)))

    assert [one.kind for one in report.findings] == [FindingKind.CONCURRENT_DUPLICATE]
    report.assert_resilient(allow={FindingKind.CONCURRENT_DUPLICATE})


@pytest.mark.parametrize(("first", "second"), [(1, 1), (2, 1), (1, None)])
def test_attempts_that_are_not_counted(first: int, second: int | None) -> None:
    """A number that stays, falls or is lost."""
    assert _kinds(_one(0, "500", attempt=first), _one(1, attempt=second)) == ["attempt_number"]


def test_calls_known_by_their_body_may_be_made_again() -> None:
    """After an answer, or with attempts that begin afresh, the same body is another call."""
    again = judge(_arrivals(_one(0, named_by="body"), _one(1, named_by="body")))
    afresh = judge(
        _arrivals(
            _one(0, "500", named_by="body", attempt=0),
            _one(1, "500", named_by="body", attempt=1),
            _one(2, "ok", named_by="body", attempt=0),
        )
    )

    assert (again.calls, again.extra_load, again.findings) == (2, 0.0, ())
    assert (afresh.calls, afresh.findings) == (2, ())


def test_concurrency_that_rises_while_asked_to_wait() -> None:
    """As many as before are all right, more are not; after the wait they may rise again."""
    told = _one(0, "429", status=429, retry_after=1.0, in_flight=4)
    held = _one(0.5, call="b", in_flight=4)
    raised = _one(0.6, call="c", in_flight=6)
    later = _one(2, call="d", in_flight=9)

    assert _kinds(told, held, later) == []
    assert _kinds(told, held, raised, later) == ["concurrency_raised"]


def test_what_was_written_to_a_closed_connection_has_to_come_again() -> None:
    """The one that never did is a finding."""
    assert _kinds(_one(0, "stale", took=0)) == ["not_reconnected"]
    assert _kinds(_one(0, "stale", took=0), _one(1, connection=2)) == []


def test_redirects_are_no_retries() -> None:
    """Following one is what was asked for."""
    followed = judge(_arrivals(_one(0, "redirect", status=307), _one(0.2)))
    refused = judge(_arrivals(_one(0, "redirect", status=307)))

    assert (followed.requests, followed.answered, followed.extra_load, followed.findings) == (1, 1, 0.0, ())
    assert (refused.requests, refused.calls, refused.answered) == (1, 1, 0)


def test_failing_says_everything_line_by_line() -> None:
    """The error holds the findings, and load beyond what is allowed is one of them."""
    report = judge(_arrivals(_one(0, "quota", status=429), _one(1)))
    with pytest.raises(NotResilient) as caught:
        report.assert_resilient(max_extra_load=0.5)

    kinds = [one.kind for one in caught.value.findings]
    assert kinds == [FindingKind.QUOTA_RETRIED, FindingKind.EXTRA_LOAD]
    assert "retries added 100% load to 1 calls; 50% is allowed" in str(caught.value)
    assert str(report).startswith("1 calls, 1 answered, 2 requests, 100% extra\n")
    assert report.of(FindingKind.QUOTA_RETRIED) == (caught.value.findings[0],)


def test_nothing_arrived() -> None:
    """An empty report is resilient."""
    report = judge([])

    assert (report.calls, report.extra_load) == (0, 0.0)
    report.assert_resilient(max_extra_load=0)
    assert isinstance(report.to_json()["extra_load"], float)
    assert Finding(FindingKind.EXTRA_LOAD, "x").arrivals == ()
