"""The commands of ``dspex cache``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dspex.app.cli._interrupt import interruptible

__all__ = ["cache_commands"]

cache_commands = typer.Typer(
    no_args_is_help=True, help="Count, write out, read in and clear the answers of a file, a Redis or a Postgres."
)

_Target = Annotated[str, typer.Argument(help="A cache file, redis://… or postgresql://…", show_default=False)]
_Namespace = Annotated[str | None, typer.Option(help="Only entries of this namespace.")]
_Model = Annotated[str | None, typer.Option(help="Only entries of models with this in their name.")]


@cache_commands.command()
def stats(target: _Target, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> int:
    """Print how many answers there are, of which model, how large and how old."""
    from dspex.app.cli import _cache

    interruptible()
    return _cache.stats(target, as_json=as_json)


@cache_commands.command()
def export(
    target: _Target,
    file: Annotated[Path, typer.Argument(help="Where the entries go, one JSON object a line.")],
    namespace: _Namespace = None,
    model: _Model = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file that is there.")] = False,
) -> int:
    """Write answers to a file, for `import` elsewhere: with cache="only" a run is replayed there without a key."""
    from dspex.app.cli import _cache

    interruptible()
    return _cache.export(target, file, namespace=namespace, model=model, overwrite=overwrite)


@cache_commands.command(name="import")
def import_(
    target: _Target,
    file: Annotated[Path, typer.Argument(help="A file that `export` has written.")],
    namespace: Annotated[str | None, typer.Option(help="Put all of them into this namespace.")] = None,
) -> int:
    """Read answers from a file; newer ones that are there stay. Exit code 1: some lines could not be read."""
    from dspex.app.cli import _cache

    interruptible()
    return _cache.import_(target, file, namespace=namespace)


@cache_commands.command()
def clear(
    target: _Target,
    namespace: _Namespace = None,
    model: _Model = None,
    older_than: Annotated[
        str | None, typer.Option(help="Only entries older than that, such as 90s, 30m, 12h or 7d.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> int:
    """Remove answers: those that fit all that is given, or all of them."""
    from dspex.app.cli import _cache

    interruptible()
    seconds = None if older_than is None else _cache.seconds_of(older_than)
    return _cache.clear(target, namespace=namespace, model=model, older_than=seconds, yes=yes)
