"""
Contracts that implementations of dspex's protocols are held to, dspex's own among them.

A contract is a class of tests. Make a subclass whose name begins with ``Test``, say how the thing is made, and run
pytest; no plugin is needed, and each test makes the thing anew::

    class TestMyWire(WireContract):
        def make_wire(self) -> Wire:
            return MyWire()

Optimizers are held to theirs in a ``ScriptedWorld``, without a model and without a loop.
"""

from dspex.testing._world import ScriptedWorld, Simulated, rows_of, simulate
from dspex.testing.conformance._adapter import AdapterContract
from dspex.testing.conformance._algorithm import AlgorithmContract
from dspex.testing.conformance._cache import CacheStoreContract
from dspex.testing.conformance._cells import CellsContract
from dspex.testing.conformance._executor import ExecutorContract
from dspex.testing.conformance._retriever import RetrieverContract
from dspex.testing.conformance._tier import SharedTierContract
from dspex.testing.conformance._wire import Recorded, WireContract

__all__ = [
    "AdapterContract",
    "AlgorithmContract",
    "CacheStoreContract",
    "CellsContract",
    "ExecutorContract",
    "Recorded",
    "RetrieverContract",
    "ScriptedWorld",
    "SharedTierContract",
    "Simulated",
    "WireContract",
    "rows_of",
    "simulate",
]
