"""Commands that change what a run keeps or knows: no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from holdfast.cli.common import DryRun, Yes
from holdfast.cli.output import emit, note, size_text
from holdfast.cli.refs import CheckpointRef, RunFolder


def register(app: typer.Typer) -> None:
    """Add `prune`, `pin`, `unpin` and `record`."""
    app.command(
        epilog='Example: holdfast prune runs/translate --rule "last 2 + best 1 val_bleu max"\n\n'
        'Example: holdfast prune runs/translate --rule "last 3 + every 2000 steps" --yes'
    )(prune)
    app.command(
        epilog='Example: holdfast pin runs/translate@best:val_bleu --reason "in the paper"'
    )(pin)
    app.command(epilog="Example: holdfast unpin runs/translate@step:2000")(unpin)
    app.command(epilog="Example: holdfast record runs/translate@latest test_bleu=27.1 chrf=51.3")(
        record
    )


def prune(
    run: RunFolder = Path(),
    rule: Annotated[
        str | None, typer.Option(help="What to keep, in words; default: the run's own rule.")
    ] = None,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Show which checkpoints a rule keeps and why; delete the others only with --yes.

    A rule joins parts with +: last 5, best 3 val_bleu max, every 10000 steps, every 1 hour for
    1 day, within 2 days, unscored bleu, pinned, all, at most 20 GB. The newest, the best of each
    tracked metric, pinned ones and those being read stay whatever the rule says.
    """
    from holdfast.cli import retention

    if yes and not dry_run:
        done = retention.prune(run, rule)
        emit(done.as_data(), done.as_text())
        return
    planned = retention.plan_pruning(run, rule)
    emit(planned.as_data(), planned.as_text())
    if planned.plan.delete:
        note(f"nothing was deleted; with --yes, {size_text(planned.freed_bytes)} come free")


def pin(
    checkpoint: CheckpointRef,
    reason: Annotated[str, typer.Option(help="Why it must stay.")],
    dry_run: DryRun = False,
) -> None:
    """Exempt a checkpoint from retention; works while training goes on."""
    from holdfast.cli import amending
    from holdfast.cli.refs import checkpoint_folder

    info = amending.pin(checkpoint_folder(checkpoint), reason, dry_run=dry_run)
    _told("pin", info.name, {"pinned": reason}, f"pinned: {reason}", dry_run)


def unpin(checkpoint: CheckpointRef, dry_run: DryRun = False) -> None:
    """Take a pin away; the next rotation decides."""
    from holdfast.cli import amending
    from holdfast.cli.refs import checkpoint_folder

    info = amending.pin(checkpoint_folder(checkpoint), None, dry_run=dry_run)
    _told("pin", info.name, {"pinned": None}, "not pinned", dry_run)


def record(
    checkpoint: CheckpointRef,
    metrics: Annotated[list[str], typer.Argument(metavar="NAME=NUMBER...", help="What to record.")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace values that it has already.")
    ] = False,
    dry_run: DryRun = False,
) -> None:
    """Attach metrics measured later to a checkpoint; works while training goes on."""
    from holdfast.cli import amending
    from holdfast.cli.refs import checkpoint_folder

    numbers = amending.parse_metrics(metrics)
    info = amending.record(
        checkpoint_folder(checkpoint), numbers, overwrite=overwrite, dry_run=dry_run
    )
    text = ", ".join(f"{name} {value:.6g}" for name, value in numbers.items())
    _told("record", info.name, {"recorded": numbers}, text, dry_run)


def _told(command: str, name: str, facts: dict[str, Any], text: str, dry_run: bool) -> None:
    """Say what was done, or would be."""
    data = {"schema": f"holdfast-{command}/1", "name": name, **facts, "dry_run": dry_run}
    emit(data, f"{'would be: ' if dry_run else ''}{name}  {text}")
