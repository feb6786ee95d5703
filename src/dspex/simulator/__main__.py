"""
The simulator as its own process: ``python -m dspex.simulator``.

The first line of standard output is the base URL. It runs until standard input closes, so that it cannot outlive
whoever started it, or until SIGINT or SIGTERM.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace

from dspex.simulator.faults import FaultPlan, FaultPlanInvalid, Latency
from dspex.simulator.server import Simulator

__all__ = ["main"]

_CANNOT_START = 2
_RATES = ("rate_429", "rate_500", "rate_reset", "rate_hang", "rate_truncate")


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=program, description="A provider in a box.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 takes a free one")
    parser.add_argument("--key", help="the only API key accepted; any when left out")
    parser.add_argument("--plan", help="a whole fault plan as JSON; the flags below change it")
    parser.add_argument("--seed", type=int, help="seed of the fault plan")
    parser.add_argument("--latency-median", type=float, metavar="SECONDS", help="median time to the first byte")
    parser.add_argument("--latency-p95", type=float, metavar="SECONDS", help="its 95th percentile; fixed when left out")
    for name in _RATES:
        what = name.removeprefix("rate_")
        parser.add_argument(f"--rate-{what}", type=float, metavar="SHARE", help=f"share of requests that meet: {what}")
    parser.add_argument("--retry-after", type=float, metavar="SECONDS", help="what a 429 asks to wait")
    parser.add_argument("--reset-after-bytes", type=int, metavar="BYTES", help="how much is sent before a reset")
    return parser


def _plan(flags: argparse.Namespace) -> FaultPlan:
    plan = FaultPlan() if flags.plan is None else FaultPlan.from_json(json.loads(flags.plan))
    given = {name: getattr(flags, name) for name in ("seed", *_RATES, "retry_after", "reset_after_bytes")}
    if flags.latency_median is not None or flags.latency_p95 is not None:
        latency = Latency(median=flags.latency_median or 0.0, p95=flags.latency_p95 or 0.0)
        plan = replace(plan, latency=latency)
    return replace(plan, **{name: value for name, value in given.items() if value is not None})


async def _run(simulator: Simulator) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    async with simulator:
        sys.stdout.write(f"{simulator.url}\n")
        sys.stdout.flush()
        # A daemon thread: a blocked read of a terminal or a file can be neither polled nor cancelled.
        threading.Thread(target=_watch_input, args=(loop, ended), name="stdin", daemon=True).start()
        await ended.wait()


def _watch_input(loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    with contextlib.suppress(RuntimeError):  # the loop has ended first
        loop.call_soon_threadsafe(ended.set)


def main(arguments: Sequence[str] | None = None, program: str = "python -m dspex.simulator") -> int:
    """
    Run the simulator until standard input closes or a signal comes.

    Args:
        arguments: The command line; that of the process when None.

    Returns:
        0, or 2 when it cannot start; the reason is one line on standard error.
    """
    flags = _parser(program).parse_args(arguments)
    try:
        simulator = Simulator(host=flags.host, port=flags.port, faults=_plan(flags), key=flags.key)
        asyncio.run(_run(simulator))
    except (OSError, OverflowError) as error:
        sys.stderr.write(f"simulator: cannot listen on {flags.host}:{flags.port}: {error}\n")
        return _CANNOT_START
    except (FaultPlanInvalid, ValueError) as error:
        sys.stderr.write(f"simulator: {error}\n")
        return _CANNOT_START
    return 0


if __name__ == "__main__":
    sys.exit(main())
