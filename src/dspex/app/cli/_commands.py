"""The commands: each imports what it needs when it is called, so that none waits for the others' libraries."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from dspex.app.cli._boundary import at_the_boundary
from dspex.app.cli._cache_commands import cache_commands
from dspex.app.cli._interrupt import interruptible
from dspex.app.cli._job_commands import job_commands
from dspex.errors import MissingExtra

__all__ = ["run"]

_commands = typer.Typer(
    name="dspex",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

_commands.add_typer(job_commands, name="jobs")
_commands.add_typer(cache_commands, name="cache")
_index = typer.Typer(no_args_is_help=True, help="Make an index of files, and look into it.")
_commands.add_typer(_index, name="index")

_Home = Annotated[Path, typer.Option(help="The App's folder for journals and jobs.")]
_Program = Annotated[str, typer.Argument(help="The program, as module:Name; a class is made an instance of.")]
_Metric = Annotated[str, typer.Option(help="exact_match, f1, or module:function of your own.")]
_Field = Annotated[str, typer.Option(help="The field that exact_match and f1 compare.")]
_Lm = Annotated[str | None, typer.Option(help="The default model, such as openai/gpt-5-mini.")]
_ApiBase = Annotated[str | None, typer.Option(help="The address of another server that speaks the model's protocol.")]
_Adapter = Annotated[str | None, typer.Option(help="The form of prompts: auto (the default), chat, json, xml or tool.")]
_Retriever = Annotated[Path | None, typer.Option(help="The default retriever: a SqliteIndex.")]
_Cache = Annotated[
    str | None, typer.Option(help="Where the answers of models are kept: a file, redis://… or postgresql://…")
]
_Load = Annotated[Path | None, typer.Option(help="A saved program's state to load first.")]
_Concurrency = Annotated[int, typer.Option(help="Rows under way at once.", min=1)]
_Deadline = Annotated[float, typer.Option(help="Seconds for each row.")]
_Usd = Annotated[str | None, typer.Option(help="The most that all of it may cost, in US dollars.")]
_AcceptChanged = Annotated[
    list[str] | None,
    typer.Option(help="A part that may have changed since the journal was begun; may be given again."),
]
_Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the file that is there.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_HOME = Path(".dspex")


def run(arguments: Sequence[str] | None) -> int:
    """Run the command line; errors that are the user's to put right become one line and a code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = typer.main.get_command(_commands)
    return at_the_boundary(lambda: command.main(args=given, prog_name="dspex", standalone_mode=False))


def _print_version(wanted: bool) -> None:
    if wanted:
        from dspex.app.cli import _version

        raise typer.Exit(_version.run())


@_commands.callback()
def dspex(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the versions, as `version` does."
        ),
    ] = False,
) -> None:
    """Language-model programs that run as supervised actors."""


@_commands.command()
def demo(
    lm: Annotated[
        str | None,
        typer.Option(help="Ask a real model, such as openai/gpt-5-mini; its key comes from the environment."),
    ] = None,
    api_base: Annotated[
        str | None, typer.Option(help="The address of another server that speaks the model's protocol.")
    ] = None,
    local: Annotated[
        bool, typer.Option("--local", help="Ask a real model on this machine, fetched once (500 MB); needs no key.")
    ] = False,
    gguf: Annotated[Path | None, typer.Option(help="With --local: a model of your own, as a GGUF file.")] = None,
    questions: Annotated[
        int | None,
        typer.Option(
            help="How many questions to ask: 300, or 40 of a real model, 60 with --local.", show_default=False
        ),
    ] = None,
    chaos: Annotated[
        bool | None,
        typer.Option(help="Kill actors while they work; of itself not with --lm.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed, the same questions and scores.")] = 0,
    port: Annotated[int, typer.Option(help="The simulator's port, or the local model's; 0 takes a free one.")] = 0,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask before a real model is paid, or fetched.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it on a page as well, whose address is printed.")
    ] = False,
) -> int:
    """See it work, in a minute: an index, a tree of actors, questions answered while actors die, and an optimizer."""
    from dspex.app.cli import _demo

    interruptible()
    if not local and gguf is not None:
        raise typer.BadParameter("--gguf needs --local, which runs it")
    if local:
        if watch:
            raise typer.BadParameter("--watch shows the demo of the simulator, or of --lm: leave --local out")
        if lm is not None:
            raise typer.BadParameter("--local runs a model of its own: leave --lm out")
        return _demo.run_with_local_model(
            gguf=gguf, api_base=api_base, questions=questions, chaos=chaos, seed=seed, port=port, yes=yes
        )
    return _demo.run(
        lm=lm, api_base=api_base, questions=questions, chaos=chaos, seed=seed, port=port, yes=yes, watch=watch
    )


@_commands.command()
def dashboard(
    port: Annotated[int, typer.Option(help="The page's port; 0 takes a free one.", min=0, max=65_535)] = 8765,
    capture: Annotated[bool, typer.Option("--capture", help="Show conversations, too.")] = False,
    chaos: Annotated[bool, typer.Option(help="Kill an actor every few seconds.")] = True,
    seed: Annotated[int, typer.Option(help="The same seed asks the same questions.")] = 0,
    seconds: Annotated[
        float | None, typer.Option(help="End by itself after so long.", show_default=False, min=0)
    ] = None,
) -> int:
    """Look at the page before you use it: a small App that is never at rest, until Ctrl-C. It asks no real model."""
    from dspex.app.cli import _dashboard

    interruptible()
    return _dashboard.run(port=port, capture=capture, chaos=chaos, seed=seed, seconds=seconds)


@_commands.command()
def top(
    what: Annotated[
        str,
        typer.Argument(
            help="A name, a process id, a socket's path, or the address of a page; without it, the only App there is.",
            show_default=False,
        ),
    ] = "",
    view: Annotated[
        str, typer.Option(help="The view that is shown first: now, tree, models, stores, jobs, evaluations or kept.")
    ] = "now",
    once: Annotated[bool, typer.Option("--once", help="Print one screen, and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the snapshot as JSON, and end.")] = False,
    record: Annotated[
        Path | None,
        typer.Option(
            help="Write what is seen to this file; without a terminal, until the App ends.", show_default=False
        ),
    ] = None,
    most: Annotated[int, typer.Option(help="MiB that the recording may have.", min=1)] = 256,
    width: Annotated[
        int | None, typer.Option(help="Columns of what --once prints.", show_default="the terminal's", min=40)
    ] = None,
) -> int:
    """Watch an App that runs, in this terminal: App(watch=True), or DSPEX_WATCH=1, lets it be watched."""
    from dspex.app.cli import _top

    interruptible()
    return _top.run(what, view=view, once=once, as_json=as_json, trace=record, most=most, width=width)


@_commands.command()
def replay(
    trace: Annotated[Path, typer.Argument(help="A file that `dspex top --record` has written.")],
    html: Annotated[
        Path | None,
        typer.Option(help="Write it as a page that plays itself, in one file, instead.", show_default=False),
    ] = None,
    speed: Annotated[float, typer.Option(help="Seconds of the recording that pass in one.", min=0.1, max=1000)] = 1.0,
    at: Annotated[
        float | None,
        typer.Option(help="Print the screen at this second, and end.", show_default=False, min=0),
    ] = None,
    view: Annotated[str, typer.Option(help="The view that is shown first, as in `dspex top`.")] = "now",
) -> int:
    """Play a recording of an App in this terminal, or make a page of it."""
    from dspex.app.cli import _replay

    interruptible()
    return _replay.run(trace, html=html, speed=speed, at=at, view=view)


@_commands.command()
def probe(
    model: Annotated[
        str, typer.Argument(help="The model, such as llamacpp/mine or openai/gpt-5-mini; or a server's address.")
    ],
    api_base: Annotated[
        str | None, typer.Option(help="The address of another server that speaks the model's protocol.")
    ] = None,
) -> int:
    """Find out, in a minute, which forms a model can write, what its server really does, and how fast it is."""
    from dspex.app.cli import _probe

    interruptible()
    return _probe.run(model, api_base=api_base)


@_commands.command()
def signature(
    text: Annotated[str, typer.Argument(help="For example 'question, context: list[str] -> answer: bool'.")],
) -> int:
    """Print a signature string as the class to paste."""
    from dspex.app.cli import _signature

    interruptible()
    return _signature.run(text)


@_commands.command(name="map")
def map_(
    program: Annotated[str, typer.Argument(help="The program, as module:Name; a class is made an instance of.")],
    source: Annotated[Path, typer.Argument(help="A file with one JSON object a line.")],
    target: Annotated[
        Path, typer.Argument(help="Where the same lines go, with 'value' or 'error' added; - prints them.")
    ],
    lm: Annotated[str | None, typer.Option(help="The default model, such as openai/gpt-5-mini.")] = None,
    api_base: Annotated[
        str | None, typer.Option(help="The address of another server that speaks the model's protocol.")
    ] = None,
    adapter: _Adapter = None,
    retriever: Annotated[Path | None, typer.Option(help="The default retriever: a SqliteIndex.")] = None,
    cache: _Cache = None,
    load: Annotated[Path | None, typer.Option(help="A saved program's state to load first.")] = None,
    journal: Annotated[
        Path | None, typer.Option(help="Where ended rows are recorded.", show_default="TARGET.journal")
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="The field that tells rows apart.", show_default="the line's number")
    ] = None,
    max_concurrency: Annotated[int, typer.Option(help="Rows under way at once.", min=1)] = 64,
    deadline: Annotated[float, typer.Option(help="Seconds for each row.")] = 120.0,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run again what failed before.")] = False,
    version: Annotated[
        str | None, typer.Option(help="Stands for the program's code in the journal.", show_default="the code itself")
    ] = None,
    accept_changed: _AcceptChanged = None,
    wait_out: Annotated[
        float, typer.Option(help="Seconds to wait while the provider is down; 0 fails rows at once.", min=0)
    ] = 600.0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a TARGET that this run has not written.")
    ] = False,
) -> int:
    """Run a program on every line of a file; started again, it goes on where it was. Exit code 1: some rows failed."""
    from dspex.app.cli import _map

    interruptible()
    files = _map.MapOptions(
        program=program,
        source=source,
        target=target,
        lm=lm,
        api_base=api_base,
        adapter=adapter,
        retriever=retriever,
        cache=cache,
        state=load,
        journal=journal,
        key=key,
        max_concurrency=max_concurrency,
        deadline=deadline,
        retry_failed=retry_failed,
        version=version,
        accept_changed=tuple(accept_changed or ()),
        overwrite=overwrite,
        wait_out=wait_out,
    )
    return _map.run(files)


@_commands.command(name="eval")
def eval_(
    program: _Program,
    source: Annotated[Path, typer.Argument(help="A file with one JSON object a line: inputs and labels.")],
    metric: _Metric = "exact_match",
    field: _Field = "answer",
    lm: _Lm = None,
    api_base: _ApiBase = None,
    adapter: _Adapter = None,
    retriever: _Retriever = None,
    cache: _Cache = None,
    load: _Load = None,
    save: Annotated[Path | None, typer.Option(help="Write every row to this .csv or .jsonl file.")] = None,
    max_concurrency: _Concurrency = 64,
    max_failed: Annotated[float, typer.Option(help="The share of rows that may fail.", min=0, max=1)] = 0.05,
    deadline: _Deadline = 120.0,
    usd: _Usd = None,
    as_json: _Json = False,
    overwrite: _Overwrite = False,
) -> int:
    """Score a program on every line of a file. Exit code 1: some rows failed."""
    from dspex.app.cli import _eval, _flags

    interruptible()
    asked = _flags.AppFlags(lm, api_base, retriever, cache, _HOME, deadline, usd, adapter)
    return _eval.run(
        _eval.EvalOptions(
            program,
            source,
            asked,
            metric,
            field,
            load,
            save,
            max_concurrency,
            max_failed,
            as_json=as_json,
            overwrite=overwrite,
        )
    )


@_commands.command(name="compile")
def compile_(
    program: _Program,
    trainset: Annotated[Path, typer.Argument(help="A file with one JSON object a line: rows to learn from.")],
    target: Annotated[Path, typer.Argument(help="Where the program's state is written, for --load and load().")],
    optimizer: Annotated[
        str, typer.Option(help="The name of an optimizer, such as GEPA, or module:name of your own.")
    ] = "BootstrapFewShot",
    metric: _Metric = "exact_match",
    field: _Field = "answer",
    lm: _Lm = None,
    api_base: _ApiBase = None,
    adapter: _Adapter = None,
    retriever: _Retriever = None,
    cache: _Cache = None,
    load: _Load = None,
    valset: Annotated[Path | None, typer.Option(help="Rows to choose by.")] = None,
    holdset: Annotated[Path | None, typer.Option(help="Rows that only the verdict reads.")] = None,
    job: Annotated[
        str | None, typer.Option(help="The job's name.", show_default="made of program, optimizer and target")
    ] = None,
    home: _Home = _HOME,
    seed: Annotated[int, typer.Option(help="Where all random choices come from.")] = 0,
    minutes: Annotated[float | None, typer.Option(help="How long it may search.")] = None,
    max_concurrency: _Concurrency = 64,
    deadline: _Deadline = 120.0,
    usd: _Usd = None,
    accept_changed: _AcceptChanged = None,
    overwrite: _Overwrite = False,
) -> int:
    """Look for a better program; started again, it goes on where it was. `dspex jobs` steers it meanwhile."""
    from dspex.app.cli import _compile, _flags

    interruptible()
    asked = _flags.AppFlags(lm, api_base, retriever, cache, home, deadline, usd, adapter)
    return _compile.run(
        _compile.CompileOptions(
            program,
            trainset,
            target,
            asked,
            optimizer,
            metric,
            field,
            load,
            valset,
            holdset,
            job,
            seed,
            minutes,
            max_concurrency,
            tuple(accept_changed or ()),
            overwrite=overwrite,
        )
    )


@_commands.command()
def serve(
    program: _Program,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on; 0 takes a free one.", min=0, max=65_535)] = 8000,
    app: Annotated[str | None, typer.Option(help="An App of your own, as module:name, instead of --lm.")] = None,
    lm: _Lm = None,
    api_base: _ApiBase = None,
    adapter: _Adapter = None,
    retriever: _Retriever = None,
    cache: _Cache = None,
    load: _Load = None,
    deadline: _Deadline = 120.0,
    usd: _Usd = None,
    max_body: Annotated[int, typer.Option(help="Bytes of a request's body.", min=1)] = 2**20,
    drain: Annotated[float, typer.Option(help="Seconds in which running requests may finish.", min=0)] = 10.0,
    linger: Annotated[
        float, typer.Option(help="Seconds between 'not ready' and the end of listening, at SIGTERM.", min=0)
    ] = 0.0,
) -> int:
    """Serve a program over HTTP: JSON, streams, OpenAPI, health. SIGTERM drains, SIGHUP loads it anew."""
    if any(importlib.util.find_spec(name) is None for name in ("starlette", "uvicorn")):
        raise MissingExtra("serve", "dspex serve")
    from dspex.app.cli import _flags, _serve

    interruptible()
    flags = _flags.AppFlags(lm, api_base, retriever, cache, _HOME, deadline, usd, adapter)
    return _serve.run(_serve.ServeOptions(program, flags, app, load, host, port, max_body, drain, linger))


@_commands.command(
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
def simulate(context: typer.Context) -> int:
    """Run the provider in a box until Ctrl-C; the first line is its address (--help lists the flags)."""
    from dspex.app.cli import _simulate

    interruptible()
    return _simulate.run(context.args)


@_commands.command()
def version() -> int:
    """Print the versions of dspex and Python."""
    from dspex.app.cli import _version

    interruptible()
    return _version.run()


# --- index ----------------------------------------------------------------------------------------------------

_IndexFile = Annotated[Path, typer.Argument(help="The index: one file.")]
_Sources = Annotated[list[Path], typer.Argument(help="Files and folders: text, Markdown, HTML, PDF, JSON Lines.")]
_Least = Annotated[int, typer.Option(help="Characters that are gathered for a passage.", min=1)]
_Most = Annotated[int, typer.Option(help="Characters that no passage exceeds.", min=1)]
_Overlap = Annotated[int, typer.Option(help="Characters repeated at the beginning of the next passage.", min=0)]
_Encoding = Annotated[str, typer.Option(help="The encoding of text that does not tell its own.")]
_Kind = Annotated[str, typer.Option(help="text, markdown, html, pdf or 'json lines', where names tell none.")]
_SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Go on after a file that cannot be read. Exit code 1.")]
_JobName = Annotated[str | None, typer.Option(help="The job's name.", show_default="made of the index's")]
_Embedder = Annotated[
    str | None,
    typer.Option(help="Makes vectors: provider/model, or hashing.", show_default="the index's own; none for words"),
]


@_index.command("build")
def index_build(
    index: _IndexFile,
    sources: _Sources,
    least: _Least = 400,
    most: _Most = 1_200,
    overlap: _Overlap = 0,
    encoding: _Encoding = "utf-8",
    kind: _Kind = "",
    skip_bad: _SkipBad = False,
    job: _JobName = None,
    embedder: _Embedder = None,
    api_base: _ApiBase = None,
    cache: _Cache = None,
    usd: _Usd = None,
    home: _Home = _HOME,
    overwrite: _Overwrite = False,
) -> int:
    """Make an index of these files and no others; searches see the old one whole until the new one is complete."""
    from dspex.app.cli import _flags
    from dspex.app.cli import _index as indexes

    interruptible()
    asked = _flags.AppFlags(None, None, None, cache, home, 120.0, usd)
    split = (least, most, overlap, encoding, kind)
    options = indexes.IndexOptions(
        index, tuple(sources), asked, "build", *split, skip_bad, job, overwrite, embedder, api_base
    )
    return indexes.run(options)


@_index.command("add")
def index_add(
    index: _IndexFile,
    sources: _Sources,
    least: _Least = 400,
    most: _Most = 1_200,
    overlap: _Overlap = 0,
    encoding: _Encoding = "utf-8",
    kind: _Kind = "",
    skip_bad: _SkipBad = False,
    job: _JobName = None,
    embedder: _Embedder = None,
    api_base: _ApiBase = None,
    cache: _Cache = None,
    usd: _Usd = None,
    home: _Home = _HOME,
) -> int:
    """Add these files to an index, and write over passages that have changed."""
    from dspex.app.cli import _flags
    from dspex.app.cli import _index as indexes

    interruptible()
    asked = _flags.AppFlags(None, None, None, cache, home, 120.0, usd)
    split = (least, most, overlap, encoding, kind)
    return indexes.run(
        indexes.IndexOptions(index, tuple(sources), asked, "add", *split, skip_bad, job, False, embedder, api_base)
    )


@_index.command("delete")
def index_delete(
    index: _IndexFile, ids: Annotated[list[str], typer.Argument(help="Ids of passages, as search --json has them.")]
) -> int:
    """Remove passages. Exit code 1: some were not there."""
    from dspex.app.cli import _index as indexes

    interruptible()
    return indexes.delete(index, ids)


@_index.command("search")
def index_search(
    index: _IndexFile,
    query: Annotated[str, typer.Argument(help="Any words.")],
    k: Annotated[int, typer.Option("-k", help="How many passages.", min=1)] = 5,
    where: Annotated[list[str] | None, typer.Option(help="NAME=VALUE in the metadata; may be repeated.")] = None,
    api_base: _ApiBase = None,
    as_json: _Json = False,
) -> int:
    """Print the best passages. Exit code 1: there are none."""
    from dspex.app.cli import _index as indexes

    interruptible()
    return indexes.search(index, query, k=k, conditions=where or (), as_json=as_json, api_base=api_base)


@_index.command("stats")
def index_stats(index: _IndexFile, as_json: _Json = False) -> int:
    """Print what an index holds."""
    from dspex.app.cli import _index as indexes

    interruptible()
    return indexes.stats(index, as_json=as_json)
