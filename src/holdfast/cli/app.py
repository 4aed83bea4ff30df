"""The application: its groups of commands, and how errors become exit codes.

Exit codes: 0 done, 1 failed, 2 wrong use, 3 damage found, 4 no such checkpoint, 130 interrupted.
"""

from __future__ import annotations

import sys

import typer

from holdfast.cli.commands import example, reading, reporting
from holdfast.errors import CheckpointNotFoundError, ConfigError, DamagedError, HoldfastError

# In the order of the help page.
COMMANDS = (reading, reporting, example)

app = typer.Typer(
    name="holdfast",
    help="Checkpoints of PyTorch training runs: look at them, check them, see the example run.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def _root() -> None:
    """Commands print data on standard output, notes and progress on standard error."""


for group in COMMANDS:
    group.register(app)


def main() -> None:
    """Entry point: run a command and turn holdfast's errors into a paragraph and an exit code."""
    try:
        app()
    except HoldfastError as error:
        print(f"holdfast: {error}", file=sys.stderr)
        sys.exit(_exit_code(error))


def _exit_code(error: HoldfastError) -> int:
    if isinstance(error, DamagedError):
        return 3
    if isinstance(error, CheckpointNotFoundError):
        return 4
    return 2 if isinstance(error, ConfigError) else 1
