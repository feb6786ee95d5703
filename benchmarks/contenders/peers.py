"""Other actor libraries."""

from __future__ import annotations

from benchmarks._contender import Run, Setup

__all__ = ["pykka_ask"]


async def pykka_ask(setup: Setup) -> Run:
    """pykka's ``ask`` of an actor on its thread, from this thread."""
    import pykka

    class Echo(pykka.ThreadingActor):
        def on_receive(self, message: object) -> object:
            return message

    ref = Echo.start()
    setup.stack.callback(ref.stop)

    def run(operations: int) -> None:
        for _ in range(operations):
            ref.ask("ping", timeout=5.0)

    return run
