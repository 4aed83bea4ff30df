"""Commands that only read manifests, small files and digests: no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from holdfast.cli.output import emit, progress
from holdfast.cli.refs import CheckpointRef, RunFolder


def register(app: typer.Typer) -> None:
    """Add `ls`, `show`, `best`, `history` and `verify`."""
    app.command(
        epilog="Example: holdfast ls runs/translate\n\n"
        "Example: holdfast ls runs/translate --metric val_bleu --sort=-val_bleu --limit 10"
    )(ls)
    app.command(
        epilog="Example: holdfast show runs/translate@latest\n\n"
        "Example: holdfast show runs/translate@best:val_bleu --tensors '*encoder*'"
    )(show)
    app.command(epilog="Example: holdfast best runs/translate --metric val_bleu --mode max")(best)
    app.command(
        epilog="Example: holdfast history runs/translate --last 20\n\n"
        "Example: holdfast history runs/translate --metric val_loss --csv"
    )(history)
    app.command(
        epilog="Example: holdfast verify runs/translate\n\n"
        "Example: holdfast verify runs/translate@best"
    )(verify)


def ls(
    run: RunFolder = Path(),
    metric: Annotated[
        list[str] | None, typer.Option(help="Show only this metric; may be repeated.")
    ] = None,
    sort: Annotated[
        str, typer.Option(help="step, time, size or a metric; with - before it, falling.")
    ] = "step",
    limit: Annotated[int | None, typer.Option(min=1, help="Only the last so many.")] = None,
) -> None:
    """List the committed checkpoints of a run, oldest first, from their manifests alone."""
    from holdfast.cli import listing

    catalog = listing.catalog_of(run)
    shown = listing.chosen(catalog, sort, limit)
    emit(listing.as_data(catalog, shown), listing.as_table(catalog, shown, metric))


def show(
    checkpoint: CheckpointRef,
    tensors: Annotated[
        list[str] | None, typer.Option(help="List tensors whose names fit; may be repeated.")
    ] = None,
) -> None:
    """Show what one checkpoint holds, where it came from, and what it cost."""
    from holdfast.cli import showing
    from holdfast.cli.refs import checkpoint_folder

    shown = showing.show(checkpoint_folder(checkpoint), tensors)
    emit(shown.as_data(), shown.as_text())


def best(
    run: RunFolder = Path(),
    metric: Annotated[str | None, typer.Option(help="Metric; default: the deciding one.")] = None,
    mode: Annotated[str | None, typer.Option(help='"min" or "max"; default: as saved.')] = None,
) -> None:
    """Print the folder of the best checkpoint by a metric, for use in scripts."""
    from holdfast.cli import listing

    catalog = listing.catalog_of(run)
    winner = listing.best_of(catalog, metric, mode)
    data = {"schema": "holdfast-best/1", "path": str(run / winner.name)}
    emit(data | listing.checkpoint_data(winner), str(run / winner.name))


def history(
    run: RunFolder = Path(),
    metric: Annotated[
        list[str] | None, typer.Option(help="Show only this metric; may be repeated.")
    ] = None,
    last: Annotated[int | None, typer.Option(min=1, help="Only the last so many lines.")] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values.")] = False,
) -> None:
    """Show how metrics went, record by record, and where the run was resumed."""
    from holdfast.cli import past

    found = past.past_of(run, metric, last)
    emit(found.as_data(), found.as_csv() if csv else found.as_text())


def verify(
    path: Annotated[str, typer.Argument(help="A run folder, or one CHECKPOINT.")] = ".",
) -> None:
    """Read every byte and compare it with the digests; exit with 3 if there is damage."""
    from holdfast.cli import checking

    with progress("verifying") as bar:
        outcome = checking.check_reference(path, bar)
    emit(outcome.as_data(), outcome.as_text())
    if outcome.damaged:
        raise typer.Exit(3)
