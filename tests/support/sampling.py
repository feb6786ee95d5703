"""Parameters of a model as the tests of wires write them: names that are not ours are the provider's own."""

from __future__ import annotations

from collections.abc import Mapping

from dspex.protocols.params import LMParams


def sampling(given: Mapping[str, object]) -> LMParams:
    """Return the parameters; what has no field of its own goes into ``extra_body``."""
    own = {name: value for name, value in given.items() if name not in LMParams.__dataclass_fields__}
    known = {name: value for name, value in given.items() if name not in own}
    return LMParams().merged({"extra_body": own}).merged(known)
