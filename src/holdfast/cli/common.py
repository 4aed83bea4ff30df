"""Options that every command takes, before it or after it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

import typer

from holdfast.cli.output import Color, current, use
from holdfast.errors import ConfigError

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document for programs.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No notes and no progress.")]
ColorOption = Annotated[Color, typer.Option("--color", help="When to colour; see also NO_COLOR.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it: nothing is asked.")]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Only say what would be done.")]

WITHOUT_JSON = frozenset({"demo", "ui"})
"""Commands that run a programme of their own and return no document."""

_EVERYWHERE: dict[str, tuple[Any, Any]] = {
    "as_json": (AsJson, False),
    "quiet": (Quiet, False),
    "color": (ColorOption, Color.AUTO),
}
_SWITCHES = ("as_json", "quiet", "yes", "dry_run")


def with_common_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command with the options that every command takes added to its own.

    A command that wants to know one has a parameter of that name: as_json, quiet, yes, dry_run.
    It is then told what stands before the command as well. One without dry_run refuses to be
    tried, so that nobody takes the real thing for a trial.
    """
    signature = inspect.signature(command, eval_str=True)
    own = signature.parameters
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, (kind, default) in _EVERYWHERE.items()
        if name not in own and not (name == "as_json" and command.__name__ in WITHOUT_JSON)
    ]

    @functools.wraps(command)
    def run(**given: Any) -> Any:
        settings = current()
        changed: dict[str, Any] = {name: True for name in _SWITCHES if given.get(name)}
        if given.get("color", Color.AUTO) is not Color.AUTO:
            changed["color"] = given["color"]
        settings = use(replace(settings, **changed))
        if settings.dry_run and "dry_run" not in own:
            raise ConfigError(f"{command.__name__} cannot be tried", fix="leave out --dry-run")
        told = {name: getattr(settings, name) for name in _SWITCHES if name in own}
        return command(**{name: given[name] for name in own} | told)

    run.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*own.values(), *added]
    )
    run.__annotations__ = {
        parameter.name: parameter.annotation for parameter in [*own.values(), *added]
    }
    del run.__wrapped__
    return run
