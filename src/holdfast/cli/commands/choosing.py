"""Commands that choose a model: rank, average, soup, select, compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from holdfast.cli.common import DryRun
from holdfast.cli.evaluations import Evaluate, load_evaluation
from holdfast.cli.output import clean, emit, note, progress
from holdfast.cli.refs import RunFolder, locate
from holdfast.errors import ConfigError

Metric = Annotated[str | None, typer.Option(help="Metric; default: the deciding one.")]
ModeOption = Annotated[str | None, typer.Option(help='"min" or "max"; default: as saved.')]
Output = Annotated[Path | None, typer.Option(help="Folder to write in; default: RUN/averages.")]
Exclude = Annotated[
    bool, typer.Option("--exclude-damaged", help="Go on without damaged members, and say so.")
]


def register(app: typer.Typer) -> None:
    """Add `rank`, `average`, `soup`, `select` and `compare`."""
    app.command(
        epilog="Example: holdfast rank runs/translate --metric val_bleu\n\n"
        'Example: holdfast rank runs/translate --subject-to "val_bleu >= 11" --smooth 3\n\n'
        "Example: holdfast rank runs/translate --pareto val_loss --pareto val_bleu"
    )(rank)
    app.command(
        epilog="Example: holdfast average runs/translate --top 5\n\n"
        "Example: holdfast average runs/translate --last 3 --weights 1,2,3\n\n"
        "Example: holdfast average runs/translate --member step:2000 --member latest"
    )(average)
    app.command(epilog="Example: holdfast soup runs/translate --evaluate trial.py:make --top 3")(
        soup
    )
    app.command(
        epilog="Example: holdfast select runs/translate --evaluate trial.py:make\n\n"
        "Example: holdfast select runs/translate --evaluate trial.py:make --strategy best "
        "--strategy average:3 --write quality"
    )(select)
    app.command(
        epilog="Example: holdfast compare runs/translate@best runs/translate@latest "
        "--evaluate trial.py:make"
    )(compare)


def rank(
    run: RunFolder = Path(),
    metric: Metric = None,
    mode: ModeOption = None,
    subject_to: Annotated[
        list[str] | None, typer.Option(help='A bound such as "val_bleu >= 30"; may be repeated.')
    ] = None,
    smooth: Annotated[
        int, typer.Option(help="Rank by the mean of so many neighbouring validations (odd).")
    ] = 1,
    pareto: Annotated[
        list[str] | None,
        typer.Option(help="METRIC[:MODE]: those that no other beats in all; repeat it."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many.")] = None,
) -> None:
    """Rank checkpoints from their manifests: ties, bounds and what was left out are named."""
    from holdfast.cli import rankings

    if pareto:
        emit(*rankings.pareto(run, pareto))
    else:
        emit(*rankings.ranking(run, metric, mode, subject_to or [], smooth, limit))


def average(
    run: RunFolder = Path(),
    top: Annotated[int | None, typer.Option(help="The best so many; default: 5.")] = None,
    last: Annotated[int | None, typer.Option(help="The newest so many.")] = None,
    member: Annotated[
        list[str] | None, typer.Option(help="CHECKPOINT of the run; may be repeated.")
    ] = None,
    metric: Metric = None,
    mode: ModeOption = None,
    weights: Annotated[
        str | None, typer.Option(help="One for each member, such as 1,2,3; best or oldest first.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Pattern of tensors to average; may be repeated.")
    ] = None,
    component: Annotated[str, typer.Option(help='What to average, such as "ema".')] = "model",
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16, float16, float64.")] = None,
    output: Output = None,
    exclude_damaged: Exclude = False,
    dry_run: DryRun = False,
) -> None:
    """Average checkpoints exactly and write the result as a checkpoint with its recipe."""
    from holdfast.cli import averages

    members = averages.members(run, top, last, member or [], metric, mode)
    data: dict[str, Any] = {"members": [path.name for path in members]}
    if dry_run:
        text = "\n".join(["would average", *(f"  {clean(path.name)}" for path in members)])
        emit({"schema": "holdfast-average/1", "path": None, **data}, text)
        return
    with progress("averaging") as bar:
        found = averages.write(
            members, output, weights, only or [], component, dtype, exclude_damaged, bar
        )
    emit(*averages.described(found))


def soup(
    evaluate: Evaluate,
    run: RunFolder = Path(),
    top: Annotated[int, typer.Option(min=1, help="Try the best so many.")] = 5,
    metric: Metric = None,
    mode: ModeOption = None,
    accept: Annotated[str, typer.Option(help="one-se, paired or any: what a member must gain.")] = (
        "one-se"
    ),
    report: Annotated[
        str | None, typer.Option(help="MODULE:FUNCTION of a second split that chooses nothing.")
    ] = None,
    output: Output = None,
    exclude_damaged: Exclude = False,
) -> None:
    """Grow an average member by member, keeping those that make it better on a selection set."""
    from holdfast.cli import averages

    second = None if report is None else load_evaluation(report, run)
    note("trying members one after the other")
    found = averages.grow(
        averages.members(run, top, None, [], metric, mode),
        load_evaluation(evaluate, run),
        accept,
        second,
        output or run / "averages",
        exclude_damaged,
    )
    emit(*averages.soup_described(found))


def select(
    evaluate: Evaluate,
    run: RunFolder = Path(),
    strategy: Annotated[
        list[str] | None,
        typer.Option(
            help="best[:METRIC], last, average:K, ema, ensemble:K or a folder; may be repeated."
        ),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="Candidate all others are compared with.")
    ] = None,
    level: Annotated[float, typer.Option(help="Significance level of every claim.")] = 0.05,
    write: Annotated[
        str | None,
        typer.Option(help="Write and pin what is advised for quality or latency-critical."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail if any candidate cannot be scored.")
    ] = False,
) -> None:
    """Score every way to get a model out of a run on a test set, compare, and recommend."""
    from holdfast.selection import select_model, write_chosen
    from holdfast.selection.strategies import DEFAULT_STRATEGIES

    if write not in (None, "quality", "latency-critical"):
        raise ConfigError(f"--write is {write!r}", fix="use quality or latency-critical")
    found = select_model(
        run,
        load_evaluation(evaluate, run),
        strategies=strategy or DEFAULT_STRATEGIES,
        baseline=baseline,
        level=level,
        on_failure="raise" if strict else "exclude",
        progress=note,
    )
    data, text = found.as_json(), found.table()
    if write is not None:
        path = str(write_chosen(found, write))
        data["written"] = path
        text += f"\nWritten for {write}: {clean(path, 4096)}"
    emit(data, text)


def compare(
    checkpoints: Annotated[
        list[str], typer.Argument(metavar="CHECKPOINT...", help="The baseline first.")
    ],
    evaluate: Evaluate,
    level: Annotated[float, typer.Option(help="Significance level of every claim.")] = 0.05,
) -> None:
    """Compare checkpoints on a test set by paired tests; nothing is written."""
    from holdfast.selection import select_model

    paths = [locate(ref) for ref in checkpoints]
    if len(paths) < 2:
        raise ConfigError("There is one checkpoint to compare", fix="give two or more")
    run = paths[0].resolve().parent
    found = select_model(
        run,
        load_evaluation(evaluate, run),
        strategies=[str(path) for path in paths],
        level=level,
        on_failure="raise",
        save=False,
        progress=note,
    )
    data = {**found.as_json(), "schema": "holdfast-compare/1"}
    emit(data, found.table())
