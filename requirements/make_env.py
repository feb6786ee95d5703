"""
Make the virtual environment ENV, or let it grow: install requirements/NAME.lock and this project into it.

    python3 requirements/make_env.py ENV NAME

The lock is installed as it stands: without dependencies, which a test knows to be all locked, and nothing but files
whose hashes are locked. An environment that is whole has the file ``.whole``, and ``.stamp-NAME`` for what is in it;
one that was interrupted has neither, and is made from scratch the next time.
"""

from __future__ import annotations

import os
import re
import selectors
import shutil
import subprocess
import sys
import time
import tomllib
import venv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
STEPS: Final = 5
"""How often the progress is told where it cannot be told in place."""
PATIENCE: Final = 20.0
"""Seconds after which it is told anyhow."""
FETCHING: Final = re.compile(r"^\s*(?:Collecting|Processing|Requirement already satisfied:?) (?P<what>\S+)(?: .*)?$")
FILE: Final = re.compile(r"^(?:.*/)?(?P<name>[A-Za-z0-9._]+)-(?P<version>[^-]+)(?:-.*\.whl|\.tar\.gz)$")
SIZE: Final = re.compile(r"\((?P<size>[\d.]+ [kMG]B)\)$")
# Settings of pip's that would put the packages elsewhere, or others beside them.
UNWANTED: Final = ("TARGET", "PREFIX", "ROOT", "CONSTRAINT", "REQUIREMENT", "PYTHON", "NO_BINARY", "QUIET", "VERBOSE")

NETWORK: Final = (
    "the package index cannot be reached. Look at the network; behind a proxy set HTTPS_PROXY; an index of your own is "
    "named by PIP_INDEX_URL or in pip.conf"
)
DAMAGED: Final = (
    "the index gave a file that is not the locked one: an index or a proxy changes files, or pip's cache is damaged "
    "(try again with PIP_NO_CACHE_DIR=1)"
)
LACKS: Final = (
    "the index lacks this file for Python {python} on {platform}, or cannot be reached. Look at PIP_INDEX_URL, "
    "PIP_NO_INDEX and pip.conf; or take another Python: `make distclean`, then PYTHON=/path/to/python3"
)
UNBUILT: Final = (
    "there is no ready-made file for Python {python} on {platform}, and building one failed. Take another Python: "
    "`make distclean`, then PYTHON=/path/to/python3"
)
ADVICE: Final = (
    (r"No space left on device|Errno 28\b", "the disk is full: free some space in {env}, in {tmp} or in {cache}"),
    (r"Errno (?:13|30)\b|Permission denied", "a folder cannot be written: see whose {env} and {tmp} are"),
    (r"DO NOT MATCH THE HASHES", DAMAGED),
    (r"SSLError|CERTIFICATE_VERIFY_FAILED", "the index's certificate is not trusted: name yours with PIP_CERT"),
    (r"Connection\w*Error|Timeout|[Tt]imed out|resolution|ProxyError|Max retries|Connection broken", NETWORK),
    (r"from versions: none|No matching distribution", LACKS),
    (r"subprocess-exited-with-error|Failed building|metadata-generation-failed", UNBUILT),
)
"""What is found in pip's words, and what to try."""


class Failed(Exception):
    """A step failed; the message says which and what to try."""


class Progress:
    """Reads what pip says and tells how far it is: one line, rewritten on a terminal, said now and then elsewhere."""

    def __init__(self, env: Path, lock: Path, purpose: str) -> None:
        self.changed = False
        self._env = env
        self._purpose = purpose
        self._site = next((env / "lib").glob("python3*/site-packages"))
        self._before = self._unpacked()
        self._doing = "fetched"
        self._done = 0
        self._total = len(re.findall(r"^\S+==", lock.read_text(), re.MULTILINE))
        self._what = ""
        self._in_place = sys.stdout.isatty()
        self._said: tuple[str, int] = ("", 0)
        self._when = time.monotonic()

    def read(self, line: str | None) -> None:
        """Take the next line of pip's, None when it has said nothing for a while."""
        if line is not None:
            self._understand(line)
        if self.changed:
            self._done = min(self._unpacked() - self._before, self._total)
        if self._done:
            self._tell(f"  {self._doing} {self._done} of {self._total}" + (self._what and f": {self._what}"))

    def end(self) -> None:
        """Leave the line that is rewritten."""
        if self._in_place:
            sys.stdout.write("\r\033[K")
            sys.stdout.flush()

    def _understand(self, line: str) -> None:
        if line.startswith("Ignoring "):
            self._total -= 1  # it is locked for another system or Python
        elif found := FETCHING.match(line):
            if not self._done:
                say(f"Installing {self._total} packages into {self._env.name}, for {self._purpose}")
            self._done += 1
            self._what = FILE.sub(r"\g<name>==\g<version>", found["what"])
        elif size := SIZE.search(line):
            self._what = f"{self._what.split(' (')[0]} ({size['size']})"
        elif line.startswith("Installing collected packages"):
            self.changed = True
            self._doing, self._total, self._what = "unpacked", line.count(",") + 1, ""
        elif line.startswith("WARNING: Retrying"):
            self.end()
            say("  the package index does not answer; trying again")

    def _tell(self, text: str) -> None:
        if self._in_place:
            sys.stdout.write(f"\r\033[K{text[: shutil.get_terminal_size().columns - 1]}")
        else:
            step, now = (self._doing, self._done * STEPS // self._total), time.monotonic()
            if step == self._said and now - self._when < PATIENCE:
                return
            self._said, self._when = step, now
            sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    def _unpacked(self) -> int:
        return len(list(self._site.glob("*.dist-info")))


def say(text: str) -> None:
    """Say one line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def has(*command: str) -> bool:
    """Run a command and return whether it succeeds."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return done.returncode == 0


def make(env: Path) -> Path:
    """Make an empty environment, unless there is a whole one, and return its interpreter."""
    python = env / "bin" / "python"
    if (env / ".whole").exists() and has(str(python), "-c", ""):
        return python
    base = Path(getattr(sys, "_base_executable", sys.executable))
    say(f"Making {env} with {base} ({sys.version.split()[0]})")
    try:
        with_pip = has(str(base), "-c", "import ensurepip")
        builder = venv.EnvBuilder(clear=True, symlinks=True, with_pip=with_pip)
        builder.create(env)
    except (OSError, subprocess.CalledProcessError) as error:
        free = shutil.disk_usage(env.parent).free // 1_000_000
        hint = f"{free} MB are free there; if that is enough, take another Python: PYTHON=/path/to/python3"
        raise Failed(f"{env} cannot be made: {error}\n  {hint}") from error
    return python


def pip_of(env: Path, python: Path) -> list[str]:
    """Return the command that installs into the environment."""
    if has(str(python), "-m", "pip", "--version"):
        return [str(python), "-m", "pip"]
    # without ensurepip: the base interpreter's own pip, 22.3 or newer, installs into the environment
    base = str(getattr(sys, "_base_executable", sys.executable))
    if not has(base, "-m", "pip", "--python", str(env), "--version"):
        raise Failed(f"{base} has neither ensurepip nor pip 22.3: install its venv package (Debian: python3-venv)")
    return [base, "-m", "pip", "--python", str(env)]


def settings() -> dict[str, str]:
    """Return the environment in which pip runs: the user's index and proxy, and nothing that leads elsewhere."""
    unwanted = {f"PIP_{name}" for name in UNWANTED} | {"PYTHONPATH", "PYTHONHOME"}
    kept = {name: value for name, value in os.environ.items() if name not in unwanted}
    ours = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PIP_ROOT_USER_ACTION": "ignore"}
    return kept | ours | {"PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0"}


def lines_of(child: subprocess.Popen[bytes]) -> Iterator[str | None]:
    """Yield what the child writes, line by line, and None each second in which it writes nothing."""
    assert child.stdout is not None
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while True:
            if not selector.select(timeout=1.0):
                yield None
                continue
            read = os.read(child.stdout.fileno(), 65_536)
            if not read:
                break
            *lines, rest = (rest + read).split(b"\n")
            yield from (line.decode(errors="replace") for line in lines)
    if rest:
        yield rest.decode(errors="replace")


def run_pip(command: list[str], heard: Callable[[str | None], None]) -> tuple[int, list[str]]:
    """Run pip, pass on what it says as it says it, and return its exit code and all that it said."""
    said: list[str] = []
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=settings(),
        cwd=ROOT,
    ) as child:
        for line in lines_of(child):
            if line is not None:
                said.append(line)
            heard(line)
    return child.returncode, said


def failure(what: str, env: Path, said: list[str]) -> str:
    """Show the end of what pip said, and return what failed, the likely cause and what to try."""
    retry, noise = "WARNING: Retrying", ("Ignoring ", "WARNING: Location")
    shown = {line.startswith(retry) or line: line for line in said if not line.startswith(noise)}  # one retry of many
    for line in list(shown.values())[-12:]:
        sys.stderr.write(f"  pip: {line[:300]}\n")
    text = "\n".join(said)
    hint = next((hint for pattern, hint in ADVICE if re.search(pattern, text)), "look at what pip says above")
    hint = hint.format(
        env=env,
        tmp=os.environ.get("TMPDIR", "/tmp"),
        cache=os.environ.get("PIP_CACHE_DIR", "pip's cache"),
        python=".".join(map(str, sys.version_info[:2])),
        platform=sys.platform,
    )
    return f"{what} could not be installed into {env.name}: {hint}"


def install(env: Path, name: str, purpose: str) -> None:
    """Install a lock and the project."""
    lock = ROOT / "requirements" / f"{name}.lock"
    began = time.monotonic()
    python = make(env)
    pip = [*pip_of(env, python), "install", "--progress-bar", "off", "--no-color", "--no-deps"]
    whole, stamps = env / ".whole", {stamp: stamp.stat().st_mtime_ns for stamp in env.glob(".stamp-*")}
    for path in (whole, *stamps):  # before pip changes anything: who interrupts it leaves no whole environment
        path.unlink(missing_ok=True)
    progress = Progress(env, lock, purpose)
    try:
        code, said = run_pip([*pip, "--require-hashes", "-r", str(lock)], progress.read)
    finally:
        progress.end()
    if code:
        if not progress.changed:  # what was there before still is; what could not be fetched can be another time
            whole.touch()
            for stamp, when in stamps.items():
                stamp.touch()
                os.utime(stamp, ns=(when, when))
        raise Failed(failure(f"the packages of requirements/{lock.name}", env, said))
    code, said = run_pip([*pip, "--no-build-isolation", "-e", "."], lambda _: None)
    if code:
        raise Failed(failure("dspex itself", env, said))
    whole.touch()
    (env / f".stamp-{name}").touch()
    say(f"Installed in {time.monotonic() - began:.0f} s")


def main(arguments: list[str]) -> int:
    """Return the exit code."""
    env, name = Path(arguments[0]), arguments[1]
    locks = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["dspex"]["locks"]
    try:
        install((ROOT / env), name, locks[name]["for"])
    except KeyboardInterrupt:
        sys.stderr.write(f"make: interrupted; {env} is not whole and will be made anew\n")
        return 130
    except BrokenPipeError:  # nobody reads us any more, and nobody may hear of that again while the interpreter ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Failed as error:
        sys.stderr.write(f"make: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
