"""How errors end a command: a paragraph (or a JSON document) on standard error, and an exit code.

0    done
1    failed; or different, where the command was asked to say so by its exit code
2    wrong use: an option, argument or rule that cannot work
3    damage found
4    no such run, checkpoint or reference
5    another process writes the run
130  interrupted
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator

import typer

from holdfast.cli.output import current
from holdfast.errors import (
    CheckpointNotFoundError,
    ConfigError,
    DamagedError,
    HoldfastError,
    LockedError,
)

FAILED, WRONG_USE, DAMAGE, NOT_FOUND, LOCKED, INTERRUPTED = 1, 2, 3, 4, 5, 130
_CODES: tuple[tuple[type[HoldfastError], int], ...] = (
    (DamagedError, DAMAGE),
    (CheckpointNotFoundError, NOT_FOUND),
    (LockedError, LOCKED),
    (ConfigError, WRONG_USE),
)


def exit_code(error: HoldfastError) -> int:
    """The exit code that stands for this error."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), FAILED)


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Print holdfast's errors and end with their exit code."""
    try:
        yield
    except HoldfastError as error:
        code = exit_code(error)
        print(
            _document(error, code) if current().as_json else f"holdfast: {error}", file=sys.stderr
        )
        raise typer.Exit(code) from error
    except KeyboardInterrupt as error:
        print("holdfast: interrupted", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from error


def _document(error: HoldfastError, code: int) -> str:
    return json.dumps(
        {
            "schema": "holdfast-error/1",
            "error": type(error).__name__,
            "what": error.what,
            "where": error.where,
            "fix": error.fix,
            "exit_code": code,
        }
    )
