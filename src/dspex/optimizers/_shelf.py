"""Which answers a journal has, in little memory: the answers themselves stay on disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

__all__ = ["Shelf"]


class Shelf:
    """
    The keys of recorded answers.

    Runs are kept as one bit for each row, so 1,000 candidates on 10,000 rows take about a megabyte.
    """

    __slots__ = ("_others", "_rows")

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}
        self._others: set[str] = set()

    def add(self, key: str) -> None:
        """Note that the answer with this key is recorded; runs have keys such as ``run/<candidate>/<how>/<row>``."""
        if key.startswith("run/"):
            prefix, _, row = key.rpartition("/")
            self._rows[prefix] = self._rows.get(prefix, 0) | 1 << int(row)
        else:
            self._others.add(key)

    def __contains__(self, key: str) -> bool:
        if key.startswith("run/"):
            prefix, _, row = key.rpartition("/")
            return bool(self._rows.get(prefix, 0) >> int(row) & 1)
        return key in self._others

    def known(self, prefix: str, rows: Sequence[int]) -> list[int]:
        """Return those of ``rows`` that are recorded under a run's prefix."""
        bits = self._rows.get(prefix, 0)
        return [row for row in rows if bits >> row & 1] if bits else []

    def __len__(self) -> int:
        return sum(bits.bit_count() for bits in self._rows.values()) + len(self._others)

    def __iter__(self) -> Iterator[str]:
        yield from self._others
        for prefix, bits in self._rows.items():
            yield from (f"{prefix}/{row}" for row in range(bits.bit_length()) if bits >> row & 1)
