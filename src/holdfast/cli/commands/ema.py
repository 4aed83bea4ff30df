"""Commands for averages of the weights: list, plan, sweep, reconstruct."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from holdfast.cli.common import DryRun, with_common_options
from holdfast.cli.evaluations import Evaluate, load_evaluation
from holdfast.cli.output import emit, note, progress
from holdfast.cli.refs import RunFolder

Until = Annotated[str | None, typer.Option(help="As of this CHECKPOINT; later ones are not used.")]
Component = Annotated[str, typer.Option(help="Name that the average is registered by.")]


def register(app: typer.Typer) -> None:
    """Add `ema` with its commands."""
    group = typer.Typer(
        rich_markup_mode=None,
        no_args_is_help=True,
        help="Averages of the weights: which a run holds, and EMAs of any length made from them.",
        epilog="Example: holdfast ema list runs/ema\n\n"
        "Example: holdfast ema plan --steps 100000 --parameters 58000000\n\n"
        "Example: holdfast ema sweep runs/ema --evaluate trial.py:make --lengths 0.05,0.10\n\n"
        "Example: holdfast ema reconstruct runs/ema --length 0.075",
    )
    for name, command in (
        ("list", list_averages),
        ("plan", plan),
        ("sweep", sweep),
        ("reconstruct", reconstruct),
    ):
        group.command(name)(with_common_options(command))
    app.add_typer(group, name="ema")


def list_averages(
    run: RunFolder = Path(), until: Until = None, component: Component = "ema"
) -> None:
    """List the averages that the checkpoints of a run hold."""
    from holdfast.cli import ema

    emit(*ema.listed(run, until, component))


def plan(
    steps: Annotated[int, typer.Option(min=1, help="Optimizer steps of the run to come.")],
    parameters: Annotated[int, typer.Option(min=0, help="Of the model.")],
    lengths: Annotated[
        str, typer.Option(help="Relative widths that may be wanted afterwards.")
    ] = "0.05,0.10,0.15,0.20",
    max_error: Annotated[float, typer.Option(help="Of the profile, relative.")] = 0.01,
    tracked: Annotated[str, typer.Option(help="Widths averaged while training.")] = "0.05,0.10",
) -> None:
    """Say how many snapshots a wanted accuracy needs, and what they cost on disk."""
    from holdfast.cli import ema

    emit(*ema.planned(steps, parameters, lengths, max_error, tracked))


def sweep(
    evaluate: Evaluate,
    run: RunFolder = Path(),
    lengths: Annotated[
        str | None, typer.Option(help="Relative widths, such as 0.05,0.10; default: eight.")
    ] = None,
    until: Until = None,
    component: Component = "ema",
    max_error: Annotated[float, typer.Option(help="Refuse lengths less exact than this.")] = 0.1,
    level: Annotated[float, typer.Option(help="Of the tie set.")] = 0.05,
) -> None:
    """Make EMAs of several lengths from one finished run, score each, and mark the best."""
    from holdfast.cli import ema

    evaluation = load_evaluation(evaluate, run)
    emit(*ema.swept(run, evaluation, lengths, until, component, max_error, level, note))


def reconstruct(
    length: Annotated[float, typer.Option(help="Relative width of the EMA.")],
    run: RunFolder = Path(),
    until: Until = None,
    component: Component = "ema",
    output: Annotated[
        Path | None, typer.Option(help="Folder to write in; default: RUN/averages.")
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Write an EMA of any length as a checkpoint; with --dry-run only say how exact it would be."""
    from holdfast.cli import ema

    with progress("reconstructing") as bar:
        found = ema.reconstructed(run, length, until, component, output, bar, dry_run=dry_run)
    emit(*found)
