"""Commands between our folders and files of the original layout."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from holdfast.cli.common import DryRun
from holdfast.cli.output import emit, note, progress, size_text
from holdfast.cli.refs import CheckpointRef
from holdfast.errors import ConfigError


def register(app: typer.Typer) -> None:
    """Add `import`, `convert` and `consolidate`."""
    app.command("import", epilog="Example: holdfast import old.pt runs/imported")(import_)
    app.command(
        epilog="Example: holdfast convert runs/translate@best best.pt\n\n"
        "Example: holdfast convert old.pt runs/imported"
    )(convert)
    app.command(
        epilog="Example: holdfast consolidate runs/large --to runs/large-whole\n\n"
        "Example: holdfast consolidate runs/large@latest --to model.safetensors"
    )(consolidate)


def import_(
    source: Annotated[Path, typer.Argument(help="A .pt file of the original layout.")],
    run: Annotated[Path, typer.Argument(help="The run folder to add it to.")],
    dry_run: DryRun = False,
) -> None:
    """Add a file of the original layout to a run; it is unpickled with restrictions only.

    The layout is a dict of model_state_dict, optimizer_state_dict and so on, or a bare state dict.
    """
    from holdfast.convert import import_original
    from holdfast.engine.original import read_original

    if dry_run:
        content = read_original(source)
        _told("import", source, run, True)
        note(f"it holds: {', '.join(map(str, list(content)[:30]))}")
        return
    _told("import", source, import_original(source, run), False)


def convert(
    source: CheckpointRef,
    target: Annotated[Path, typer.Argument(help="A .pt file to write, or a run folder to add to.")],
    dry_run: DryRun = False,
) -> None:
    """Write a checkpoint as a .pt file of the original layout, or import one such file."""
    from holdfast.cli.refs import locate
    from holdfast.convert import export_original, import_original

    place = locate(source)
    to_file = target.suffix in (".pt", ".pth", ".bin")
    if place.is_file() and to_file:
        raise ConfigError(
            "Both are files: there is nothing to convert", fix="name a run folder to import into"
        )
    if place.is_dir() and not to_file:
        raise ConfigError(
            f"{str(target)!r} does not say what to convert to",
            fix="name a file that ends in .pt; holdfast export writes other forms",
        )
    if dry_run:
        _told("convert", place, target, True)
    elif to_file:
        _told("convert", place, export_original(place, target), False)
    else:
        _told("convert", place, import_original(place, target), False)


def consolidate(
    checkpoint: CheckpointRef,
    to: Annotated[
        Path,
        typer.Option(help="A run folder to add to, or a .safetensors file for weights alone."),
    ],
    dry_run: DryRun = False,
) -> None:
    """Put together what many ranks saved in pieces, one tensor at a time, every piece proven.

    No GPU and no process group are needed. Random states, and what each rank kept for itself, are
    left out. Of a folder of torch.distributed.checkpoint the weights can be taken.
    """
    from holdfast.cli.refs import locate
    from holdfast.convert import consolidate as put_together

    place = locate(checkpoint)
    with progress("consolidating") as bar:
        made = put_together(place, to, dry_run=dry_run, progress=bar)
    data = {
        "schema": "holdfast-consolidate/1",
        "source": str(place),
        "path": str(made.path),
        "ranks": made.ranks,
        "tensors": made.tensors,
        "bytes": made.bytes,
        "left_out": list(made.left_out),
        "dry_run": dry_run,
    }
    left = f"; left out: {', '.join(made.left_out)}" if made.left_out else ""
    note(f"{made.tensors} tensors of {made.ranks} ranks, {size_text(made.bytes)}{left}")
    emit(data, f"{'would be: ' if dry_run else ''}{made.path}")


def _told(command: str, source: Path, target: Path, dry_run: bool) -> None:
    data = {
        "schema": f"holdfast-{command}/1",
        "source": str(source),
        "path": str(target),
        "dry_run": dry_run,
    }
    emit(data, f"{'would be: ' if dry_run else ''}{target}")
