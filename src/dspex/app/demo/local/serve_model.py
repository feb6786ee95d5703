"""
Serve a GGUF file with llama.cpp on this machine: ``python serve_model.py MODEL PORT``.

A program for the environment in which ``xllamacpp`` is installed; it uses nothing else, dspex included. It listens on
127.0.0.1, speaks OpenAI's protocol, answers 503 while it loads, and ends on SIGTERM.
"""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until a signal ends the process; returns 1 when the server cannot start."""
    parser = argparse.ArgumentParser(prog="serve_model.py", description="Serve a GGUF file with llama.cpp.")
    parser.add_argument("model", help="the GGUF file")
    parser.add_argument("port", type=int, help="the port on 127.0.0.1")
    parser.add_argument("--slots", type=int, default=8, help="requests that are answered at once")
    parser.add_argument("--context", type=int, default=32_768, help="tokens of all slots together")
    parser.add_argument("--threads", type=int, default=2, help="threads that compute")
    parser.add_argument("--packages", help="a folder with xllamacpp, where the environment has none")
    parser.add_argument("--embeddings", action="store_true", help="serve embeddings instead of chats")
    flags = parser.parse_args(arguments)
    if flags.packages:
        sys.path.insert(0, flags.packages)
    llama = importlib.import_module("xllamacpp")  # it is not where dspex is, but where this program runs
    params = llama.CommonParams()
    params.model.path = flags.model
    params.hostnames, params.port = ["127.0.0.1"], flags.port
    params.n_parallel, params.n_ctx = flags.slots, flags.context
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = flags.threads
    if flags.embeddings:
        params.embedding = True
        params.pooling_type = llama.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN  # one vector for a text
    try:
        server = llama.Server(params)
    except RuntimeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.stdout.write(f"serving {server.listening_address}\n")
    sys.stdout.flush()
    signal.pause()
    return 0


if __name__ == "__main__":
    sys.exit(main())
