"""The group of all commands: each module is imported when one of its commands is needed."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import Any

import typer
from typer.core import TyperGroup

from holdfast.cli.common import with_common_options
from holdfast.cli.failures import reported


def load_module(module: str) -> Mapping[str, Any]:
    """The commands of `holdfast.cli.commands.<module>`, by name."""
    commands = typer.Typer(rich_markup_mode=None, add_completion=False)
    # A callback makes it a group, however few the commands are.
    commands.callback()(lambda: None)
    importlib.import_module(f"holdfast.cli.commands.{module}").register(commands)
    for info in commands.registered_commands:
        if info.callback is not None:
            info.callback = with_common_options(info.callback)
    found: Mapping[str, Any] = typer.main.get_command(commands).commands  # type: ignore[attr-defined]
    return found


def lazy_group(modules: Mapping[str, tuple[str, ...]]) -> type[TyperGroup]:
    """A group of the commands that each of the modules defines."""
    homes = {name: module for module, names in modules.items() for name in names}

    class CommandGroup(TyperGroup):
        """Looks commands up by name, suggests names for typos, turns errors into exit codes."""

        _loaded: dict[str, Mapping[str, Any]] = {}  # noqa: RUF012 (shared on purpose)

        def list_commands(self, ctx: Any) -> list[str]:
            """Names in the order of the help page."""
            return list(homes)

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            """The command of this name. Ends with a suggestion if there is none."""
            module = homes.get(cmd_name)
            if module is not None:
                if module not in self._loaded:
                    self._loaded[module] = load_module(module)
                return self._loaded[module][cmd_name]
            if not ctx.resilient_parsing and not cmd_name.startswith("-"):
                close = difflib.get_close_matches(cmd_name, homes)
                hint = f" Did you mean {' or '.join(close)}?" if close else ""
                ctx.fail(f"There is no command {cmd_name!r}.{hint}")
            return None

        def invoke(self, ctx: Any) -> Any:
            """Run the command; see `holdfast.cli.failures`."""
            with reported():
                return super().invoke(ctx)

    return CommandGroup
