"""The training entry point: `module:function`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.errors import ConfigError

if TYPE_CHECKING:
    from holdfast.manager import CheckpointManager

_CONTRACT = (
    "the function takes the folder for checkpoints and returns (manager, step): a "
    "CheckpointManager with everything registered, and a function that trains one step"
)


def load_entry(entry: str, folder: Path) -> Callable[..., Any]:
    """The function that `module:function` names; modules are looked for in `folder` first.

    Raises ConfigError if there is no such module or function.
    """
    name, colon, function = entry.partition(":")
    if not colon or not name or not function:
        raise ConfigError(f"{entry!r} is no entry point", fix="give module:function")
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        found: Any = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and name.startswith(error.name):
            raise ConfigError(
                f"There is no module {name!r}", where=str(folder), fix="run it where the module is"
            ) from error
        raise
    for part in function.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise ConfigError(f"{name} has no function {function!r}", fix=_CONTRACT)
    result: Callable[..., Any] = found
    return result


def build(entry: str, folder: Path, checkpoints: Path) -> tuple[CheckpointManager, Any]:
    """Call the entry point. Raises ConfigError if it returns anything but (manager, step)."""
    from holdfast.manager import CheckpointManager

    built = load_entry(entry, folder)(str(checkpoints))
    if (
        not isinstance(built, tuple)
        or len(built) != 2
        or not isinstance(built[0], CheckpointManager)
        or not callable(built[1])
    ):
        raise ConfigError(f"{entry} returned a {type(built).__name__}", fix=_CONTRACT)
    manager, step = built
    if Path(manager.config.checkpoint_dir).resolve() != checkpoints.resolve():
        raise ConfigError(
            f"{entry} saves to {manager.config.checkpoint_dir!r}, not to the folder it was given",
            fix="pass its argument on as checkpoint_dir",
        )
    return manager, step
