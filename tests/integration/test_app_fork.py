"""An App that was open when its process forked: it says so in the child, at once, and the parent goes on."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

SYNC = """
    import os, signal, sys, dspex
    from dspex.testing import ScriptedLM
    ask = dspex.Predict("question -> answer")

    def fork(in_child):
        pid = os.fork()
        if pid == 0:
            signal.alarm(20)  # a hang is not the end of a test run
            in_child()
            sys.exit(0)
        status = os.waitpid(pid, 0)[1]
        print("child:", os.waitstatus_to_exitcode(status), flush=True)

    def told(call):
        try:
            call()
        except BaseException as error:
            print(type(error).__name__, flush=True)
        else:
            print("nothing", flush=True)

    lm = ScriptedLM(lambda request: {"answer": "a"})
"""

ASYNC = (
    SYNC
    + """
    import asyncio
    async def main():
        app = dspex.App(lm, home=HOME)
        async with app:
            await app.run(ask, question="q")
            pid = os.fork()
            if pid == 0:
                signal.alarm(20)
                BODY
                os._exit(0)
            print("child:", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
            print((await app.run(ask, question="again")).answer, flush=True)
    asyncio.run(main())
"""
)


def said(code: str, home: Path) -> list[str]:
    code = textwrap.dedent(code).replace("HOME", repr(str(home)))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1]


USES = (
    "app.run(ask, question='q')",
    "app.start(ask, question='q')",
    "app.stream(ask, question='q').__enter__()",
    "app.map(ask, [{'id': 1, 'question': 'q'}]).__enter__()",
    "app.evaluate(ask, [{'question': 'q'}], lambda e, p: 1.0)",
    "app.compile(ask, dspex.LabeledFewShot(1), trainset=[{'question': 'q'}])",
    "app.estimate(ask, question='q')",
    "app.tree()",
    "app.options(deadline=1e6).run(ask, question='q')",
    "request.result()",
    "request.cancel()",
    "app.open()",
)


@pytest.mark.parametrize("deadline", ["2", pytest.param("1e6", marks=pytest.mark.slow)])
def test_every_use_in_the_child_is_told_at_once(deadline: str, tmp_path: Path) -> None:
    """Whatever its deadline; and the parent's App is untouched."""
    forks = "\n        ".join(f"fork(lambda: told(lambda: {call}))" for call in USES)
    code = f"""{SYNC}
    with dspex.App(lm, deadline={deadline}, home=HOME).sync() as app:
        request = app.start(ask, question="q")
        {forks}
        print(app.run(ask, question="again").answer)
    """
    assert said(code, tmp_path) == ["WrongProcess", "child: 0"] * len(USES) + ["a"]


def test_a_child_that_does_not_touch_it_ends_as_always(tmp_path: Path) -> None:
    """Also by leaving the block, by closing, and when it asks for its health; what it starts itself runs."""
    code = f"""{SYNC}
    def own():
        with dspex.App(lm, home=HOME).sync() as other:
            print(other.run(ask, question="mine").answer, flush=True)

    with dspex.App(lm, home=HOME).sync() as app:
        app.run(ask, question="q")
        fork(lambda: None)
        fork(lambda: told(app.close))
        fork(lambda: print(app.health()['ready'], 'was forked' in app.health()['down'][0], flush=True))
        fork(own)
        print(app.run(ask, question="again").answer)
    """
    ended = ["child: 0", "nothing", "child: 0", "False True", "child: 0", "a", "child: 0", "a"]
    assert said(code, tmp_path) == ended


def test_a_script_that_forgets_to_close_ends(tmp_path: Path) -> None:
    """So does its child, which has none of the parent's threads."""
    code = f"""{SYNC}
    app = dspex.App(lm, home=HOME).sync().open()
    print(app.run(ask, question="q").answer, flush=True)
    fork(lambda: None)
    """
    assert said(code, tmp_path) == ["a", "child: 0"]


def test_multiprocessing_by_fork_is_told_too(tmp_path: Path) -> None:
    """The error crosses back to the parent by its text and number."""
    code = f"""{SYNC}
    import multiprocessing, concurrent.futures
    with dspex.App(lm, home=HOME).sync() as app:
        app.run(ask, question="q")
        def work(question): return app.run(ask, question=question).answer
        fork_context = multiprocessing.get_context("fork")
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=fork_context) as pool:
            try: print(pool.submit(work, "q").result(timeout=20))
            except dspex.WrongProcess as error: print(error.started_in == os.getpid())
    """
    assert said(code, tmp_path) == ["True"]


def test_an_async_app_is_told_in_the_child_of_its_loop(tmp_path: Path) -> None:
    """The loop itself was inherited, too."""
    uses = ("app.start(ask, question='q')", "app.tree()", "app.runtime", "app.start().send(None)")
    body = "; ".join(f"told(lambda: {use})" for use in uses)
    assert said(ASYNC.replace("BODY", body), tmp_path) == ["WrongProcess"] * 4 + ["child: 0", "a"]
