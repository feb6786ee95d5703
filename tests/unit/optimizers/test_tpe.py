"""The sampler from Optuna."""

import logging
from random import Random

import pytest

import dspex
from dspex.errors import ConfigError
from dspex.optimizers import MIPROv2
from dspex.optimizers._thompson import Seen
from dspex.optimizers._tpe import draw_tpe

SIZES = (3, 4)


def metric(example: dspex.Example, prediction: object) -> bool:
    """Never called."""
    return True


def test_it_learns_what_gains() -> None:
    """Where only option 2 of the first choice gains, most draws have it; at random a third would."""
    pairs = [(one, other) for one in range(3) for other in range(4)]
    seen = [Seen(pair, 1.0 if pair[0] == 2 else 0.0, 35) for pair in pairs]

    drawn = [draw_tpe(SIZES, seen, Random(seed)) for seed in range(20)]

    assert sum(options[0] == 2 for options in drawn) >= 12
    assert all(0 <= option < size for options in drawn for option, size in zip(options, SIZES, strict=True))


def test_a_draw_is_repeated_exactly() -> None:
    """It depends on what was seen, in its order, and on the source alone."""
    seen = [Seen((at % 3, at % 4), at / 20, 35) for at in range(14)]

    assert draw_tpe(SIZES, seen, Random(5)) == draw_tpe(SIZES, seen, Random(5))


def test_it_writes_no_log(capfd: pytest.CaptureFixture[str]) -> None:
    """Optuna's own lines are for its own users; its level is put back."""
    before = logging.getLogger("optuna").level
    draw_tpe(SIZES, [], Random(0))

    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("optuna").level == before


def test_another_sampler_is_refused() -> None:
    """At once, with the names there are."""
    with pytest.raises(ConfigError, match=r"sampler='cma' must be one of thompson, tpe"):
        MIPROv2(metric, sampler="cma")  # type: ignore[arg-type]  # what is tested
