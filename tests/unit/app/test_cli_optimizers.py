"""The optimizers that the command line knows by name."""

import pytest

from dspex.app.cli._program import find_optimizer
from dspex.errors import ConfigError
from dspex.evaluation import exact_match
from dspex.optimizers import LabeledFewShot


@pytest.mark.parametrize("name", ["BootstrapFewShot", "COPRO", "GEPA", "LabeledFewShot", "MIPROv2", "SIMBA"])
def test_an_optimizer_has_its_name_and_the_metric(name: str) -> None:
    """The metric is given by its name, whatever an optimizer's first argument is."""
    assert type(find_optimizer(name, exact_match())).__name__ == name
    labeled = find_optimizer("LabeledFewShot", exact_match())
    assert isinstance(labeled, LabeledFewShot)
    assert labeled.metric is not None


def test_one_that_needs_more_says_how_to_name_it() -> None:
    """A sequence of optimizers has no defaults."""
    with pytest.raises(ConfigError, match=r"BetterTogether needs arguments .*; name an instance as module:name"):
        find_optimizer("BetterTogether", exact_match())
