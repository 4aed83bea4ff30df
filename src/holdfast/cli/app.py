"""The application: which commands there are, and where they live.

Exit codes are in `holdfast.cli.failures`, options that all commands take in
`holdfast.cli.common`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Annotated

import typer

from holdfast.cli.common import AsJson, ColorOption, DryRun, Quiet, Yes
from holdfast.cli.group import lazy_group
from holdfast.cli.output import Color, Settings, note, use

COMMANDS: Mapping[str, tuple[str, ...]] = {
    "reading": ("ls", "show", "best", "history", "verify"),
    "overseeing": ("status", "du", "why"),
    "diffing": ("diff",),
    "keeping": ("prune", "pin", "unpin", "record"),
    "choosing": ("rank", "average", "soup", "select", "compare"),
    "ema": ("ema",),
    "shipping": ("export", "release"),
    "reporting": ("report", "ui"),
    "converting": ("import", "convert", "consolidate"),
    "checking_up": ("doctor", "resume-check"),
    "example": ("demo",),
}
"""Modules of `holdfast.cli.commands` with the commands that their `register(app)` adds.

In the order of the help page. A module is imported when one of its commands is looked at, so that
no command pays for the others.
"""

app = typer.Typer(
    cls=lazy_group(COMMANDS),
    name="holdfast",
    help="Checkpoints of PyTorch training runs: list, compare, check, choose, keep, convert.",
    epilog="CHECKPOINT is a path, or [RUN@]latest, latest~2, best, best:METRIC, step:N or a name; "
    "without RUN@ the run is $HOLDFAST_RUN or the current folder. Exit codes: 0 done, 1 failed or "
    "different, 2 wrong use, 3 damage found, 4 no such checkpoint, 5 another process writes, "
    "130 interrupted.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"holdfast {version('holdfast')}")
        raise typer.Exit


@app.callback()
def _root(
    as_json: AsJson = False,
    quiet: Quiet = False,
    color: ColorOption = Color.AUTO,
    yes: Yes = False,
    dry_run: DryRun = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Options before the command hold for every command."""
    use(Settings(as_json, quiet, color, yes, dry_run))


def main() -> None:
    """Entry point of the `holdfast` program."""
    warnings.showwarning = lambda message, *_, **__: note(f"holdfast: {message}")
    app()
