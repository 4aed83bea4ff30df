"""Calling libraries whose errors, warnings and absence must read as ours."""

from __future__ import annotations

import contextlib
import importlib
import logging
import warnings
from collections.abc import Iterator
from types import ModuleType

from holdfast.errors import ConfigError, ExportError, HoldfastError

INTERNAL_WARNINGS = (
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    r"`torch\.jit\.\w+` is deprecated",
)
"""What torch's exporters say of torch's own insides."""


@contextlib.contextmanager
def explaining(step: str, graph: str) -> Iterator[None]:
    """Turn whatever a library raises inside into the ExportError that says which step it was."""
    try:
        yield
    except HoldfastError:
        raise
    except Exception as error:
        reason = str(error).strip() or type(error).__name__
        raise ExportError(
            f"Could not {step}: {type(error).__name__}: {_shortened(reason)}",
            where=f"graph {graph}",
            fix="the reason above is the library's own; nothing was given its final name",
        ) from error


@contextlib.contextmanager
def quiet(*messages: str) -> Iterator[None]:
    """Ignore warnings that begin so, which third parties give about their own insides."""
    with warnings.catch_warnings():
        for message in messages:
            warnings.filterwarnings("ignore", message=message)
        yield


@contextlib.contextmanager
def hushed(logger: str) -> Iterator[None]:
    """Only errors from a library's logger: it speaks of packages this export does not need."""
    target = logging.getLogger(logger)
    before = target.level
    target.setLevel(logging.ERROR)
    try:
        yield
    finally:
        target.setLevel(before)


def extra_module(name: str, extra: str) -> ModuleType:
    """Import a module of an optional extra. Raises ConfigError naming the extra to install."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != name.partition(".")[0]:
            raise
        raise ConfigError(
            f"This needs {name.partition('.')[0]}, which is not installed",
            fix=f"pip install 'holdfast[{extra}]'",
        ) from error


def _shortened(text: str, most: int = 600) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    joined = " / ".join(lines)
    return joined if len(joined) <= most else f"{joined[:most]}…"
