"""Jobs that index passages: supervised, resumable, with the App's limits and budgets."""

from dspex.indexing.job import IndexJob
from dspex.indexing.record import IndexCounts, IndexMode, IndexReport
from dspex.indexing.service import INDEXINGS, IndexService, IndexSettings
from dspex.indexing.target import IndexTarget, target_of

__all__ = [
    "INDEXINGS",
    "IndexCounts",
    "IndexJob",
    "IndexMode",
    "IndexReport",
    "IndexService",
    "IndexSettings",
    "IndexTarget",
    "target_of",
]
