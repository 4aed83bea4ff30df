"""Commands that ship a model: export it, verify what was shipped."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from holdfast.cli.output import AsJson, emit


def register(app: typer.Typer) -> None:
    """Add `export` and `release verify`."""
    app.command(
        epilog="Example: holdfast export runs/translate --model mymodel:build --format onnx "
        "--to releases/1.0.0"
    )(export)
    releases = typer.Typer(
        help="Releases made by `holdfast export`.", no_args_is_help=True, rich_markup_mode=None
    )
    releases.command("verify", epilog="Example: holdfast release verify releases/1.0.0")(
        verify_release
    )
    app.add_typer(releases, name="release")


def export(
    source: Annotated[
        Path, typer.Argument(help="A run folder, a checkpoint or a .pt file.", show_default=False)
    ],
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
    ref: Annotated[
        str | None, typer.Option(help="Which checkpoint of a run; default: best, else latest.")
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
    allow_refusals: Annotated[
        bool, typer.Option(help="Release what passes; leave out formats that do not.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write the weights alone, or with --model a release whose artifacts passed the gate."""
    from holdfast.cli import exporting

    checkpoint = exporting.checkpoint_of(source, ref)
    if model is None:
        made: Any = exporting.weights_only(
            checkpoint, to, component=component, dtype=dtype, licence=licence, formats=formats
        )
    else:
        made = exporting.release_of(
            checkpoint,
            to,
            model=model,
            component=component,
            dtype=dtype,
            formats=formats,
            version=version,
            name=name,
            licence=licence,
            allow_refusals=allow_refusals,
        )
    emit(exporting.as_data(made), str(made), as_json)


def verify_release(
    folder: Annotated[Path, typer.Argument(help="The release folder.", show_default=False)],
    as_json: AsJson = False,
    run: Annotated[
        bool, typer.Option("--run", help="Also load every artifact and compare its examples.")
    ] = False,
) -> None:
    """Compare every file of a release with its sums; exit with 3 if anything differs."""
    from holdfast.export.verifying import verify_release as verify

    check = verify(folder)
    if run and not check.damaged:
        from holdfast.export.rerunning import rerun_examples

        check = rerun_examples(check)
    emit(check.to_dict(), str(check), as_json)
    if check.damaged:
        raise typer.Exit(3)
