"""The libraries only the report needs, imported when first used."""

from __future__ import annotations

import importlib
from types import ModuleType

from holdfast.errors import ConfigError


def report_module(name: str) -> ModuleType:
    """Import a library of the extra `report`. Raises ConfigError naming it if it is not there."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != name:
            raise
        raise ConfigError(
            f"The report needs {name}, which is not installed",
            fix="pip install 'holdfast[report]'",
        ) from error
