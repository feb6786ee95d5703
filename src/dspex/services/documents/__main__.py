"""The process that reads files: one request a line on standard input, the passages of a file a line each."""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import sys
from collections.abc import Callable
from functools import partial

from dspex.services.documents.limits import PassageSizes, ReadLimits
from dspex.services.documents.parsing import BadFile, parse_file

__all__ = ["main"]


def main() -> None:
    """
    Answer requests until standard input ends.

    Each file has its time; a file that takes longer ends the process, whatever library holds it. The memory of the
    process is bounded from its first file on.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: it closes our input
    bounded = False
    for line in sys.stdin.buffer:
        request = json.loads(line)
        limits = ReadLimits(**request["limits"])
        if not bounded:
            _bound_memory(int(limits.memory))
            bounded = True
        signal.setitimer(signal.ITIMER_REAL, limits.seconds)  # also when the parent is gone: it kills us
        sizes = PassageSizes(**request["sizes"])
        _answer(partial(parse_file, request["path"], request["kind"], request["encoding"], limits, sizes))
        signal.setitimer(signal.ITIMER_REAL, 0)


def _answer(read: Callable[[], dict[str, object]]) -> None:
    try:
        answer = json.dumps(read())
    except BadFile as bad:
        answer = json.dumps({"bad": str(bad)})
    except MemoryError:
        answer = json.dumps({"bad": "reading it takes more memory than it may"})
    except RecursionError:
        answer = json.dumps({"bad": "it is nested too deep"})
    except Exception as error:  # noqa: BLE001 - whatever a library raises at a damaged file is the file's fault
        answer = json.dumps({"bad": f"it is damaged ({type(error).__name__}: {str(error)[:300]})"})
    sys.stdout.write(f"{answer}\n")
    sys.stdout.flush()


def _bound_memory(most: int) -> None:
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
