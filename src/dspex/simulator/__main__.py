"""
The simulator as its own process: ``python -m dspex.simulator``.

The first line of standard output is the base URL for OpenAI's clients; then one line for each provider, with the base
that dspex takes as ``api_base``. It runs until SIGINT or SIGTERM. With ``--until-stdin-closes`` it also ends when its
standard input does, so that it cannot outlive whoever holds the other end.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import textwrap
import threading
from collections.abc import Sequence

from dspex.simulator.faults import RETRY_FORMS, FaultKind, FaultPlan, FaultPlanInvalid
from dspex.simulator.limits import Limits
from dspex.simulator.server import Simulator
from dspex.simulator.training import TrainingPlan

__all__ = ["main"]

_CANNOT_START = 2
_RATES = ("rate_429", "rate_500", "rate_reset", "rate_hang", "rate_truncate")
_MEMBERS = ("seed", *_RATES, "retry_after", "retry_form", "reset_after_bytes", "piece", "pause")
_VERSIONS = {"anthropic": "/v1", "gemini": "/v1beta"}
"""The end of an ``api_base`` for protocols whose own clients leave it out."""
_WIRES = """\
what it speaks:
  openai     POST /v1/chat/completions, /v1/responses, /v1/embeddings; GET /v1/models
             /v1/files, /v1/fine_tuning/jobs, and the jobs' events and cancel
  anthropic  POST /v1/messages, /v1/messages/count_tokens; GET /v1/models
  gemini     POST /v1beta/models/NAME:generateContent, :streamGenerateContent, :countTokens,
             :embedContent, :batchEmbedContents; GET /v1beta/models
  azure      POST /openai/v1/chat/completions, /openai/v1/embeddings,
             /openai/deployments/NAME/chat/completions, /openai/deployments/NAME/embeddings

kinds of faults, for --rate and --script:
"""
_DONE = """
it prints the address of each provider as api_base= takes it; Anthropic's and Google's own clients leave out the version
at its end.
what a client did can be read at /_simulator/report, /_simulator/arrivals and /_simulator/stats.
"""


def _parser(program: str) -> argparse.ArgumentParser:
    kinds = textwrap.fill(", ".join(FaultKind), width=100, initial_indent="  ", subsequent_indent="  ")
    parser = argparse.ArgumentParser(
        prog=program,
        description="A provider in a box. It runs until Ctrl-C or SIGTERM, whatever becomes of its standard input.",
        epilog=f"{_WIRES}{kinds}\n{_DONE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 takes a free one")
    parser.add_argument(
        "--until-stdin-closes", action="store_true", help="end when standard input does, as that of a dead parent"
    )
    parser.add_argument("--key", help="the only API key accepted; any when left out")
    parser.add_argument("--plan", help="a whole fault plan as JSON; the flags below change it")
    parser.add_argument("--seed", type=int, help="seed of the fault plan")
    parser.add_argument("--latency-median", type=float, metavar="SECONDS", help="median time to the first byte")
    parser.add_argument("--latency-p95", type=float, metavar="SECONDS", help="its 95th percentile; fixed when left out")
    parser.add_argument("--latency-gap", type=float, metavar="SECONDS", help="time between the events of a stream")
    for name in _RATES:
        what = name.removeprefix("rate_")
        parser.add_argument(f"--rate-{what}", type=float, metavar="SHARE", help=f"share of requests that meet: {what}")
    parser.add_argument(
        "--rate", action="append", default=[], metavar="KIND=SHARE", help="share of any kind; may be repeated"
    )
    parser.add_argument(
        "--script",
        action="append",
        default=[],
        metavar="PATH=KIND,KIND",
        help="what the first requests on a path meet, in order; may be repeated",
    )
    parser.add_argument("--retry-after", type=float, metavar="SECONDS", help="what a refusal asks to wait")
    parser.add_argument("--retry-form", choices=RETRY_FORMS, help="how it asks")
    parser.add_argument("--reset-after-bytes", type=int, metavar="BYTES", help="how much is sent before a reset")
    parser.add_argument("--piece", type=int, metavar="BYTES", help="how much split and drip send at a time")
    parser.add_argument("--pause", type=float, metavar="SECONDS", help="how long a drip waits between the pieces")
    parser.add_argument("--rpm", type=int, metavar="N", help="requests a minute that each key may send")
    parser.add_argument("--tpm", type=int, metavar="N", help="tokens a minute that each key may use")
    parser.add_argument("--training-looks", type=int, default=3, metavar="N", help="looks until a fine-tuning ends")
    parser.add_argument("--training-fails", default="", metavar="WORDS", help="what every fine-tuning fails with")
    return parser


def _plan(flags: argparse.Namespace) -> FaultPlan:
    given = {} if flags.plan is None else FaultPlan.from_json(json.loads(flags.plan)).to_json()
    given |= {name: value for name in _MEMBERS if (value := getattr(flags, name)) is not None}
    latency = {name: getattr(flags, f"latency_{name}") or 0.0 for name in ("median", "p95", "gap")}
    if any(latency.values()):
        given["latency"] = latency
    if flags.rate:
        given["shares"] = {kind: _share(value) for kind, value in map(_pair, flags.rate)}
    if flags.script:
        given["script"] = {path: kinds.split(",") for path, kinds in map(_pair, flags.script)}
    return FaultPlan.from_json(given)


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def _share(text: str) -> object:
    try:
        return float(text)
    except ValueError:
        return text  # the plan says what it should have been


async def _run(simulator: Simulator, *, until_stdin_closes: bool) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    async with simulator:
        bases = {name: url + _VERSIONS.get(name, "") for name, url in sorted(simulator.urls.items())}
        lines = [simulator.url, *(f"{name:<9}  {url}" for name, url in bases.items())]
        sys.stdout.write("".join(f"{line}\n" for line in lines))
        sys.stdout.flush()
        if until_stdin_closes:
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
    Run the simulator until a signal comes, or, where the command line says so, until standard input closes.

    Args:
        arguments: The command line; that of the process when None.

    Returns:
        0, or 2 when it cannot start; the reason is one line on standard error.
    """
    flags = _parser(program).parse_args(arguments)
    try:
        limits = Limits(rpm=flags.rpm, tpm=flags.tpm) if flags.rpm is not None or flags.tpm is not None else None
        simulator = Simulator(
            host=flags.host,
            port=flags.port,
            faults=_plan(flags),
            key=flags.key,
            limits=limits,
            training=TrainingPlan(looks=flags.training_looks, fails=flags.training_fails),
        )
        asyncio.run(_run(simulator, until_stdin_closes=flags.until_stdin_closes))
    except (OSError, OverflowError) as error:
        sys.stderr.write(f"simulator: cannot listen on {flags.host}:{flags.port}: {error}\n")
        return _CANNOT_START
    except (FaultPlanInvalid, ValueError) as error:
        sys.stderr.write(f"simulator: {error}\n")
        return _CANNOT_START
    return 0


if __name__ == "__main__":
    sys.exit(main())
