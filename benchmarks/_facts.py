"""Facts about the machine and the packages that a reader of the results needs; none names either's owner."""

from __future__ import annotations

import importlib.metadata
import platform

import pyperf  # type: ignore[import-not-found]  # it is in the environment of the benchmarks only

__all__ = ["facts", "versions"]

_MACHINE = ("cpu_count", "cpu_model_name", "python_implementation", "python_version")
_PACKAGES = (
    "aiohttp",
    "anyio",
    "dspex",
    "dspy",
    "h11",
    "httpcore",
    "httptools",
    "httpx",
    "pydantic",
    "pykka",
    "pyperf",
    "uvloop",
)


def facts() -> dict[str, object]:
    """Return Python, cores, processor, system and package versions; no host name, no path."""
    collected = pyperf.Run([1.0], collect_metadata=True).get_metadata()
    machine = {name: str(collected[name]) for name in _MACHINE if name in collected}
    machine["python_version"] = machine.get("python_version", "").split(" ", maxsplit=1)[0]
    return {**machine, "system": f"{platform.system()} {platform.machine()}", "packages": versions()}


def versions() -> dict[str, str]:
    """Return the installed version of every package that takes part."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
