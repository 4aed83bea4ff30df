"""Commands that find out what is wrong before it costs a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from holdfast.cli.output import emit, note
from holdfast.errors import ConfigError


def register(app: typer.Typer) -> None:
    """Add `doctor` and `resume-check`."""
    app.command(
        epilog="Example: holdfast doctor runs/translate\n\n"
        "Example: holdfast doctor wrapped.pt --model train:make_model --mapping names.json"
    )(doctor)
    app.command(
        "resume-check", epilog="Example: holdfast resume-check train:build --warm-up 2 --steps 2"
    )(resume_check)


def doctor(
    place: Annotated[
        str, typer.Argument(help="A run folder; with --model, a CHECKPOINT.", metavar="PLACE")
    ] = ".",
    model: Annotated[
        str | None, typer.Option(help="module:function that returns the model to load into.")
    ] = None,
    mapping: Annotated[
        Path | None, typer.Option(help="Write the proposed names here, for load(mapping=...).")
    ] = None,
    min_confidence: Annotated[
        float, typer.Option(help="Write only proposals of at least this confidence.")
    ] = 0.5,
) -> None:
    """Check the surroundings and a run; or, with --model, why a checkpoint does not fit a model.

    Proposals are ranked: prefixes, fused or split projections, names spelled alike, shapes that
    occur once. None is applied by this; a mapping file is, where manager.load is given it.
    """
    from holdfast.cli.surroundings import look_around

    if model is None:
        if mapping is not None:
            raise ConfigError("A mapping needs a model", fix="give --model module:function too")
        found = look_around(Path(place))
        data = {"schema": "holdfast-doctor/1", "checks": found.as_data(), "keys": None}
        emit(data, found.as_text())
        if not found.well:
            raise typer.Exit(1)
        return
    from holdfast.cli.keys import examine
    from holdfast.cli.refs import locate

    examined = examine(locate(place), model, mapping, min_confidence)
    emit(
        {"schema": "holdfast-doctor/1", "checks": [], "keys": examined.as_data()},
        examined.as_text(),
    )
    if mapping is not None:
        note(f"written: {mapping}; apply it with manager.load(path, mapping={str(mapping)!r})")


def resume_check(
    entry: Annotated[
        str, typer.Argument(help="module:function; see below.", metavar="MODULE:FUNCTION")
    ],
    steps: Annotated[int, typer.Option(min=1, help="Steps to compare after the save.")] = 3,
    warm_up: Annotated[int, typer.Option(min=0, help="Steps before the save.")] = 3,
) -> None:
    """Certify that a run resumes exactly, or name what makes it another run; exit with 1 then.

    The function takes a folder for checkpoints and returns (manager, step): a CheckpointManager
    with everything registered, and a function that trains one step and may return the loss. It
    runs in fresh processes: one trains, saves and trains on, one resumes and does the same steps.
    """
    from holdfast.cli.certificate import as_data, as_text
    from holdfast.rehearsal import check_resume

    note("training in fresh processes; this takes as long as the steps do, three times at most")
    certificate = check_resume(entry, steps=steps, warm_up_steps=warm_up)
    emit(as_data(certificate), as_text(certificate))
    if not certificate.exact:
        raise typer.Exit(1)
