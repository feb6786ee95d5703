"""Contenders written in Erlang: compiled into a folder of the run, asked with the same lines as the others."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

__all__ = ["command_of", "compiled", "installed", "release"]

SOURCES = Path(__file__).parent / "erlang"

_FLAGS = (
    "-noshell",
    "+S 1:1",  # one scheduler, as one loop
    "+sbwt none +sbwtdcpu none +sbwtdio none",  # a scheduler with nothing to do must not burn CPU time
    "+P 4000000",
)


def installed() -> bool:
    """Say whether Erlang's compiler and emulator are there."""
    return shutil.which("erlc") is not None and shutil.which("erl") is not None


def release() -> str:
    """Return the number of the installed Erlang/OTP release."""
    command = ["erl", "-noshell", "-eval", "io:put_chars(erlang:system_info(otp_release)), halt()."]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def compiled(folder: Path) -> Path:
    """Compile the contenders into ``folder`` and return it."""
    subprocess.run(["erlc", "-o", str(folder), *map(str, sorted(SOURCES.glob("*.erl")))], check=True)
    return folder


def command_of(name: str, beams: Path) -> list[str]:
    """Return what runs the contender ``erlang:function@beam``."""
    function = name.partition(":")[2].partition("@")[0]
    flags = [word for flag in _FLAGS for word in flag.split()]
    return ["erl", *flags, "-pa", str(beams), "-run", "bench", "main", function]
