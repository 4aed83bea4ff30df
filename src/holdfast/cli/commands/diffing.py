"""The command that compares two checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from holdfast.cli.output import emit, note, progress
from holdfast.cli.refs import CheckpointRef


def register(app: typer.Typer) -> None:
    """Add `diff`."""
    app.command(
        epilog="Example: holdfast diff runs/translate@latest~1 runs/translate@latest\n\n"
        "Example: holdfast diff old.pt runs/translate@best --top 5 --depth 2\n\n"
        "Example: holdfast diff runs/translate@step:1000 runs/translate --heatmap change.svg"
    )(diff)


def diff(
    left: CheckpointRef,
    right: CheckpointRef,
    top: Annotated[int, typer.Option(min=0, help="How many tensors to list.")] = 20,
    depth: Annotated[int, typer.Option(min=0, help="Parts of a name that make a module.")] = 1,
    tolerance: Annotated[
        float, typer.Option(help="Elements that differ by no more count as equal.")
    ] = 0.0,
    component: Annotated[
        list[str] | None, typer.Option(help="Compare only this one; may be repeated.")
    ] = None,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 1 if there is a difference.")
    ] = False,
    heatmap: Annotated[
        Path | None, typer.Option(help="Draw the changes of the model: .svg, .png or .pdf.")
    ] = None,
) -> None:
    """Show what two checkpoints differ in: tensors, modules, optimizer, schedule, configuration.

    Either may be a checkpoint folder, a .pt file, or safetensors files or folders. Tensors with
    equal digests are not read. "per step" is the relative change divided by the steps between.
    """
    from holdfast.cli.differences import Differences
    from holdfast.cli.refs import locate
    from holdfast.compare import compare

    with progress("comparing") as bar:
        found = compare(
            locate(left), locate(right), tolerance=tolerance, components=component, progress=bar
        )
    shown = Differences(found, top, depth)
    emit(shown.as_data(), shown.as_text())
    if heatmap is not None:
        from holdfast.compare.picture import draw_heatmap

        note(f"drawn: {draw_heatmap(found, heatmap)}")
    if exit_code and not found.same:
        raise typer.Exit(1)
