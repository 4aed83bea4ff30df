"""The command that runs the example."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add `demo`."""
    app.command(epilog="Example: holdfast demo --minutes 5")(demo)


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
    steps: Annotated[
        int | None, typer.Option(help="Train for so many steps instead; the same everywhere.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; default: runs/demo-<time>.")] = None,
    export: Annotated[bool, typer.Option(help="Release the chosen model at the end.")] = True,
) -> None:
    """Train a small translation Transformer, kill it, resume it, choose the best model, ship it."""
    from holdfast.demo import DemoOptions, run

    raise typer.Exit(
        run(
            DemoOptions(
                minutes=minutes,
                data=data,
                threads=threads,
                seed=seed,
                direction=direction,
                out=out,
                steps=steps,
                export=export,
            )
        )
    )
