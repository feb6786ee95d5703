"""The recipes of docs/how-to/deploy.md with their real servers: real workers, real SIGTERM, under load."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from dspex.simulator import FaultPlan, Latency, SimulatorStats, SimulatorThread
from tests.support.missing import missing

PAGE = Path(__file__).parents[2] / "docs/how-to/deploy.md"
PATIENCE = 60.0


def recipe(name: str, folder: Path) -> Path:
    """Write a recipe of the page into a folder, under the name in its first line."""
    found = re.search(rf"```python\n(# {re.escape(name)}\n.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None, name
    file = folder / name
    file.write_text(found[1])
    return file


def needs(*modules: str) -> None:
    for module in modules:
        try:
            __import__(module)
        except ImportError:
            missing(f"{module} is not installed")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def base() -> Iterator[str]:
    with SimulatorThread(faults=FaultPlan(latency=Latency(median=0.2))) as simulator:
        yield simulator.url


@contextmanager
def running(folder: Path, *command: str, **env: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command in a folder; whatever is left of it is killed."""
    log = folder / "log"
    with (
        log.open("w") as out,
        subprocess.Popen(
            [sys.executable, *command],
            cwd=folder,
            env={**os.environ, **env},
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as child,
    ):
        try:
            yield child
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)


def until_it_answers(client: httpx.Client, path: str) -> httpx.Response:
    """Ask until there is an answer of the service itself."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            answer = client.get(path)
        except httpx.TransportError:
            continue
        if answer.status_code == 200:
            return answer
    raise AssertionError(f"nothing answered {path}")


@pytest.mark.slow
def test_uvicorn_loses_nothing_when_it_is_told_to_end(tmp_path: Path, base: str) -> None:
    """Clients go by its readiness, as a balancer does: every request that they sent was answered."""
    needs("fastapi", "uvicorn")
    recipe("service.py", tmp_path)
    port, answers, lost = free_port(), list[str](), list[object]()
    url = f"http://127.0.0.1:{port}"
    told = threading.Event()

    def client() -> None:
        with httpx.Client(base_url=url, timeout=30.0) as http:
            while http.get("/ready").status_code == 200:
                try:
                    answer = http.get("/answer", params={"question": "q"})
                    (answers if answer.status_code == 200 else lost).append(answer.text)
                except httpx.HTTPError as error:
                    lost.append(error)
                if len(answers) > 40:
                    told.set()

    with running(tmp_path, "service.py", LM_BASE=base, PORT=str(port), LEAVE_AFTER="2") as child:
        with httpx.Client(base_url=url) as http:
            until_it_answers(http, "/ready")
        clients = [threading.Thread(target=client) for _ in range(16)]
        for each in clients:
            each.start()
        assert told.wait(PATIENCE)
        child.send_signal(signal.SIGTERM)
        for each in clients:
            each.join(PATIENCE)
        child.wait(PATIENCE)
    assert lost == []
    assert len(answers) > 40
    assert set(answers) == {"q"}


@pytest.mark.slow
def test_gunicorn_workers_have_an_app_each(tmp_path: Path, base: str) -> None:
    """With preload: two workers answer, from two processes, neither of them the master's, until SIGTERM."""
    needs("gunicorn", "flask")
    recipe("web.py", tmp_path)
    recipe("gunicorn.conf.py", tmp_path)
    port = free_port()
    command = ("-m", "gunicorn", "-w", "2", "--threads", "2", "-b", f"127.0.0.1:{port}", "web:web")
    with running(tmp_path, *command, LM_BASE=base) as child:
        pids: set[int] = set()
        end = time.monotonic() + PATIENCE
        while len(pids) < 2 and time.monotonic() < end:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}") as http:
                pid, answer = until_it_answers(http, "/answer/q").text.split()
            assert answer == "q"
            pids.add(int(pid))
        assert len(pids) == 2
        assert child.pid not in pids
        child.send_signal(signal.SIGTERM)
        assert child.wait(PATIENCE) == 0
    assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.slow
def test_celery_processes_have_an_app_each(tmp_path: Path, base: str) -> None:
    """The pool forks; tasks are answered from its processes, and SIGTERM ends the worker."""
    needs("celery")
    recipe("tasks.py", tmp_path)
    queue = tmp_path / "queue"
    queue.mkdir()
    env = {"LM_BASE": base, "QUEUE": str(queue)}
    ask = "import tasks\nprint([each.get(timeout=60) for each in [tasks.ask.delay(f'q{n}') for n in range(6)]])"
    command = ("-m", "celery", "-A", "tasks", "worker", "--concurrency", "2", "--pool", "prefork", "-l", "warning")
    with running(tmp_path, *command, **env, C_FORCE_ROOT="1") as child:
        done = subprocess.run(
            [sys.executable, "-c", ask],
            cwd=tmp_path,
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == str([f"q{n}" for n in range(6)])
        child.send_signal(signal.SIGTERM)
        assert child.wait(PATIENCE) == 0
    assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.slow
def test_a_client_that_hangs_up_ends_its_request(tmp_path: Path) -> None:
    """In a plain endpoint of FastAPI, with the recipe: the provider sees its socket closed."""
    needs("fastapi", "uvicorn")
    recipe("service.py", tmp_path)
    port = free_port()
    with (
        SimulatorThread(faults=FaultPlan(latency=Latency(median=600.0))) as simulator,
        running(tmp_path, "service.py", LM_BASE=simulator.url, PORT=str(port)),
    ):
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as http:
            until_it_answers(http, "/ready")
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET /answer?question=q HTTP/1.1\r\nhost: x\r\n\r\n")
            await_stats(simulator, lambda stats: stats.in_flight == 1)
        await_stats(simulator, lambda stats: stats.connections == 0)


def await_stats(simulator: SimulatorThread, holds: Callable[[SimulatorStats], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not holds(simulator.stats()):
        assert time.monotonic() < end, simulator.stats()


@pytest.mark.slow
def test_django_awaits_an_app_of_its_own_loop(tmp_path: Path, base: str) -> None:
    """An async view, asked as ASGI servers ask it."""
    needs("django")
    script = tmp_path / "ask.py"
    recipe("views.py", tmp_path)
    script.write_text(
        "import asyncio, os, dspex, views\n"
        "from django.conf import settings\n"
        "settings.configure(ALLOWED_HOSTS=['*'], ROOT_URLCONF='__main__')\n"
        "import django\n"
        "django.setup()\n"
        "from django.test import AsyncClient\n"
        "from django.urls import path\n"
        "urlpatterns = [path('answer', views.answer)]\n"
        "async def main():\n"
        "    lm = dspex.LM('openai/rules-1', api_base=os.environ['LM_BASE'], api_key='none')\n"
        "    async with dspex.App(lm) as views.lm_app:\n"
        "        print((await AsyncClient().get('/answer', {'question': 'q'})).json())\n"
        "if __name__ == '__main__':\n"
        "    asyncio.run(main())\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env={**os.environ, "LM_BASE": base},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "{'answer': 'q'}\n"), done.stderr
