"""The commands, and how errors become exit codes.

Exit codes: 0 done, 1 failed, 2 wrong use, 3 damage found, 4 no such checkpoint, 130 interrupted.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from holdfast.errors import CheckpointNotFoundError, ConfigError, DamagedError, HoldfastError

app = typer.Typer(
    name="holdfast",
    help="Checkpoints of PyTorch training runs: look at them, check them, see the example run.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

RunFolder = Annotated[Path, typer.Argument(help="The run folder.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document for programs.")]


@app.callback()
def _root() -> None:
    """Commands print data on standard output, notes and progress on standard error."""


@app.command("ls", epilog="Example: holdfast ls runs/translate")
def list_checkpoints(run: RunFolder, as_json: AsJson = False) -> None:
    """List the committed checkpoints of a run, oldest first, from their manifests alone."""
    from holdfast.cli import listing

    catalog = listing.catalog_of(run)
    _emit(listing.as_data(catalog), listing.as_table(catalog), as_json)


@app.command(epilog="Example: holdfast best runs/translate --metric val_bleu --mode max")
def best(
    run: RunFolder,
    metric: Annotated[str | None, typer.Option(help="Metric; default: the deciding one.")] = None,
    mode: Annotated[str | None, typer.Option(help='"min" or "max"; default: as saved.')] = None,
    as_json: AsJson = False,
) -> None:
    """Print the folder of the best checkpoint by a metric, for use in scripts."""
    from holdfast.cli import listing

    winner = listing.best_of(listing.catalog_of(run), metric, mode)
    path = str(run / winner.name)
    _emit({"path": path, "metrics": listing.json_metrics(winner.metrics)}, path, as_json)


@app.command(epilog="Example: holdfast verify runs/translate")
def verify(
    path: Annotated[Path, typer.Argument(help="A run folder or one checkpoint.")],
    as_json: AsJson = False,
) -> None:
    """Read every byte and compare it with the digests; exit with 3 if there is damage."""
    from holdfast.cli import checking

    outcome = checking.check(path)
    _emit(outcome.as_data(), outcome.as_text(), as_json)
    if outcome.damaged:
        raise typer.Exit(3)


@app.command(epilog="Example: holdfast demo --minutes 5 --data path/to/corpus")
def demo(
    minutes: Annotated[float, typer.Option(help="Minutes of training.")] = 5.0,
    data: Annotated[
        str | None,
        typer.Option(help="DIR, 'tatoeba' or 'gettext:de'; default: made from locale data."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="CPU threads for training; default: up to 4.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of data, weights and order.")] = 1,
    direction: Annotated[str, typer.Option(help="de-en or en-de.")] = "de-en",
    out: Annotated[Path | None, typer.Option(help="Run folder; default: runs/demo-<time>.")] = None,
) -> None:
    """Train a small translation Transformer, kill it, resume it, and choose the best model."""
    from holdfast.demo import DemoOptions, run

    raise typer.Exit(
        run(
            DemoOptions(
                minutes=minutes, data=data, threads=threads, seed=seed, direction=direction, out=out
            )
        )
    )


def main() -> None:
    """Entry point: run a command and turn holdfast's errors into a paragraph and an exit code."""
    try:
        app()
    except HoldfastError as error:
        print(f"holdfast: {error}", file=sys.stderr)
        sys.exit(_exit_code(error))


def _exit_code(error: HoldfastError) -> int:
    if isinstance(error, DamagedError):
        return 3
    if isinstance(error, CheckpointNotFoundError):
        return 4
    return 2 if isinstance(error, ConfigError) else 1


def _emit(data: Any, text: str, as_json: bool) -> None:
    print(json.dumps(data, indent=2) if as_json else text)
