"""Budgets are read strictly and judged in their own direction."""

import pytest

from benchmarks._budget import Budget, BudgetInvalid


def test_at_most_bounds_our_cost_over_the_peers() -> None:
    """``<= 2.0x``: we may cost up to twice what the peer costs."""
    budget = Budget.parse("<= 2.0x")

    assert budget.ratio(3.0, 2.0) == 1.5
    assert budget.verdict(2.0) == "met"
    assert budget.verdict(2.01) == "missed"
    assert str(budget) == "≤ 2x"


def test_at_least_bounds_the_peers_cost_over_ours() -> None:
    """``>= 12x``: the peer must cost at least twelve times as much."""
    budget = Budget.parse(">= 12x")

    assert budget.ratio(2.0, 26.0) == 13.0
    assert budget.verdict(12.0) == "met"
    assert budget.verdict(11.9) == "missed"
    assert str(budget) == "≥ 12x"


def test_what_is_above_the_peer_may_be_bounded() -> None:
    """``<= 150us``: our cost may be that much above the peer's."""
    budget = Budget.parse("<= 150us")

    assert budget.ratio(200e-6, 80e-6) == pytest.approx(120.0)
    assert budget.verdict(150.0) == "met"
    assert budget.verdict(150.1) == "missed"
    assert str(budget) == "≤ 150 µs"


@pytest.mark.parametrize("text", [">= 150us", "<= 9 us", "", "2x", "<2x", "<= 2", ">= x", "<= 2.0x ", "== 1x", "<= 0x"])
def test_anything_else_is_refused(text: str) -> None:
    """A budget that cannot be read must not silently pass."""
    with pytest.raises(BudgetInvalid, match="is not a budget"):
        Budget.parse(text)
