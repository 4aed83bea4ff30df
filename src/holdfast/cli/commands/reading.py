"""Commands that only read manifests and digests: no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from holdfast.cli.output import AsJson, emit
from holdfast.cli.refs import RunFolder


def register(app: typer.Typer) -> None:
    """Add `ls`, `best` and `verify`."""
    app.command("ls", epilog="Example: holdfast ls runs/translate")(list_checkpoints)
    app.command(epilog="Example: holdfast best runs/translate --metric val_bleu --mode max")(best)
    app.command(epilog="Example: holdfast verify runs/translate")(verify)


def list_checkpoints(run: RunFolder, as_json: AsJson = False) -> None:
    """List the committed checkpoints of a run, oldest first, from their manifests alone."""
    from holdfast.cli import listing

    catalog = listing.catalog_of(run)
    emit(listing.as_data(catalog), listing.as_table(catalog), as_json)


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
    emit({"path": path, "metrics": listing.json_metrics(winner.metrics)}, path, as_json)


def verify(
    path: Annotated[Path, typer.Argument(help="A run folder or one checkpoint.")],
    as_json: AsJson = False,
) -> None:
    """Read every byte and compare it with the digests; exit with 3 if there is damage."""
    from holdfast.cli import checking

    outcome = checking.check(path)
    emit(outcome.as_data(), outcome.as_text(), as_json)
    if outcome.damaged:
        raise typer.Exit(3)
