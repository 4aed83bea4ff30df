"""The libraries only the demo needs, imported when first used."""

from __future__ import annotations

import importlib
from types import ModuleType

from holdfast.errors import ConfigError

_LIBRARIES = ("babel", "sacrebleu")


def demo_module(name: str) -> ModuleType:
    """Import a module that needs one of the demo's libraries.

    Raises ConfigError naming the extra to install if the library is not there.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in _LIBRARIES:
            raise
        raise ConfigError(
            f"The demo needs {library}, which is not installed",
            fix="pip install 'holdfast[demo]'",
        ) from error
