"""Commands that ship a model: export it, verify what was shipped."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from holdfast.cli.common import with_common_options
from holdfast.cli.output import emit
from holdfast.cli.refs import CheckpointRef


def register(app: typer.Typer) -> None:
    """Add `export` and `release verify`."""
    app.command(
        epilog="Example: holdfast export runs/translate@best --to model.safetensors\n\n"
        "Example: holdfast export old.pt --dtype bf16 --to small.pt\n\n"
        "A release: holdfast export runs/translate@best --model shop:build --format onnx "
        "--to releases/1.0.0"
    )(export)
    releases = typer.Typer(
        rich_markup_mode=None,
        no_args_is_help=True,
        help="Releases as `holdfast export --model` makes them.",
        epilog="Example: holdfast release verify releases/1.0.0",
    )
    releases.command("verify", epilog="Example: holdfast release verify releases/1.0.0 --run")(
        with_common_options(verify)
    )
    app.add_typer(releases, name="release")


def export(
    checkpoint: CheckpointRef,
    to: Annotated[
        Path,
        typer.Option(help="A .pt or .safetensors file, or a folder.", show_default=False),
    ],
    model: Annotated[
        str | None,
        typer.Option(help="module:function that builds the model from its configuration."),
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help="pt, program, onnx, aoti, torchscript-trace or -script."),
    ] = None,
    component: Annotated[str, typer.Option(help="model, or the name of an EMA.")] = "model",
    dtype: Annotated[
        str | None, typer.Option(help="bf16 or fp16, for weights without --model.")
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="Semantic version; default: the folder's name.")
    ] = None,
    name: Annotated[str, typer.Option(help="Name on the card.")] = "model",
    licence: Annotated[str | None, typer.Option(help="SPDX expression, for the card.")] = None,
    opset: Annotated[int | None, typer.Option(help="Of ONNX; default: the exporter's.")] = None,
    external_data: Annotated[
        bool | None,
        typer.Option(help="ONNX weights in a file of their own; default: above 1.5 GB."),
    ] = None,
    remove_unused: Annotated[
        bool, typer.Option("--remove-unused", help="Leave out of artifacts what nothing uses.")
    ] = False,
    allow_refusals: Annotated[
        bool,
        typer.Option("--allow-refusals", help="Leave out formats that do not pass the gate."),
    ] = False,
) -> None:
    """Write the weights alone, or with --model a release whose artifacts passed the gate."""
    from holdfast.cli import exporting

    found = exporting.checkpoint_of(checkpoint)
    if model is None:
        made: Any = exporting.weights_only(
            found, to, component=component, dtype=dtype, licence=licence, formats=formats
        )
    else:
        made = exporting.release_of(
            found,
            to,
            model=model,
            component=component,
            dtype=dtype,
            formats=formats,
            version=version,
            name=name,
            licence=licence,
            opset=opset,
            external_data=external_data,
            remove_unused=remove_unused,
            allow_refusals=allow_refusals,
        )
    emit(exporting.as_data(made), str(made))


def verify(
    folder: Annotated[Path, typer.Argument(help="The release folder.", show_default=False)],
    run: Annotated[
        bool, typer.Option("--run", help="Also run every artifact on the examples in it.")
    ] = False,
) -> None:
    """Compare every file of a release with its sums; exit with 3 if anything differs."""
    from holdfast.export.verifying import verify_release

    check = verify_release(folder)
    if run and not check.damaged:
        from holdfast.export.rerunning import rerun_examples

        check = rerun_examples(check)
    emit(check.to_dict(), str(check))
    if check.damaged:
        raise typer.Exit(3)
