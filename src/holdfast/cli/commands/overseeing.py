"""Commands about a whole run, live or finished: no torch."""

from __future__ import annotations

from pathlib import Path

import typer

from holdfast.cli.output import emit
from holdfast.cli.refs import CheckpointRef, RunFolder


def register(app: typer.Typer) -> None:
    """Add `status`, `du` and `why`."""
    app.command(epilog="Example: holdfast status runs/translate")(status)
    app.command(epilog="Example: holdfast du runs/translate")(du)
    app.command(
        epilog="Example: holdfast why runs/translate@best\n\n"
        "Example: holdfast why runs/translate@step:500"
    )(why)


def status(run: RunFolder = Path()) -> None:
    """Show a run on one screen: who writes it, newest, best, disk, and what saving cost."""
    from holdfast.cli.overview import overview_of

    found = overview_of(run)
    emit(found.as_data(), found.as_text())


def du(run: RunFolder = Path()) -> None:
    """Show what takes room on the disk, by checkpoint and by component; linked files count once."""
    from holdfast.cli.disk import usage_of

    found = usage_of(run)
    emit(found.as_data(), found.as_text())


def why(checkpoint: CheckpointRef) -> None:
    """Say why a checkpoint was saved, is kept, was deleted, is best, or was resumed from."""
    from holdfast.cli.reasons import reasons_of

    found = reasons_of(checkpoint)
    emit(found.as_data(), found.as_text())
