"""`module:function`, the code that builds the model to be exported."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from torch import nn

from holdfast.errors import ConfigError, HoldfastError
from holdfast.export.signature import Signature
from holdfast.export.target import Exportable, exportable
from holdfast.jsontext import Json


def build_exportable(reference: str, config: Json) -> Exportable:
    """Import `module:function`, call it with the model configuration and return what to export.

    The working directory can be imported from, as with `python -m`. The function takes the
    configuration the run was given (None if there was none) and returns an `Exportable`, or a
    module and its `Signature`. Raises ConfigError if there is no such function, or it returns
    something else.
    """
    module_name, _, name = reference.partition(":")
    if not module_name or not name:
        raise ConfigError(f"{reference!r} names no function", fix="give it as module:function")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        function: Any = importlib.import_module(module_name)
        for part in name.split("."):
            function = getattr(function, part)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"Could not import {reference}: {error}",
            fix="start where `python -c 'import ...'` finds it, or set PYTHONPATH",
        ) from error
    try:
        made = function(config)
    except HoldfastError:
        raise
    except Exception as error:
        raise ConfigError(
            f"{reference} failed on the checkpoint's configuration: {error!r}",
            fix="it is called with model_config as it was given to save()",
        ) from error
    if isinstance(made, Exportable):
        return made
    if isinstance(made, tuple) and len(made) == 2:
        model, signature = made
        if isinstance(model, nn.Module) and isinstance(signature, Signature):
            return exportable(model, signature)
    raise ConfigError(
        f"{reference} returned a {type(made).__name__}",
        fix="return an Exportable, or (module, Signature)",
    )
