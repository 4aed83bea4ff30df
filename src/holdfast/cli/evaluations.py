"""`--evaluate module:function`: how models are built and scored, in the user's own code."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from holdfast.errors import ConfigError

if TYPE_CHECKING:
    from holdfast.selection import Evaluation

Evaluate = Annotated[
    str,
    typer.Option(
        "--evaluate",
        metavar="MODULE:FUNCTION",
        help="Makes an object with build(config) and evaluate(model); or FILE.py:FUNCTION.",
        show_default=False,
    ),
]


def load_evaluation(text: str, run: Path) -> Evaluation:
    """What the function makes; it is given the run folder if it takes an argument.

    An object in place of the function is taken as it is. Modules are looked for in the current
    folder first. Raises ConfigError if there is none, or it makes something else.
    """
    from holdfast.selection import Evaluation

    found = _named(text)
    if not isinstance(found, Evaluation) or inspect.isclass(found):
        if not callable(found):
            raise _not_one(text, found)
        try:
            found = found(run) if _takes_an_argument(found) else found()
        except Exception as error:
            raise ConfigError(
                f"{text} failed: {type(error).__name__}: {error}", fix="correct it, then try again"
            ) from error
    if not isinstance(found, Evaluation):
        raise _not_one(text, found)
    return found


def _named(text: str) -> Any:
    place, colon, name = text.rpartition(":")
    if not colon or not place or not name:
        raise ConfigError(
            f"--evaluate is {text!r}", fix="write MODULE:FUNCTION, such as my_test:make"
        )
    module = _module(place)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise ConfigError(f"There is no {name!r} in {place}", where=str(module.__file__))
        found = getattr(found, part)
    return found


def _module(place: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        if not place.endswith(".py"):
            return importlib.import_module(place)
        path = Path(place).resolve()
        spec = importlib.util.spec_from_file_location(f"holdfast_evaluation_{path.stem}", path)
        if spec is None or spec.loader is None:
            raise ImportError(f"{path} is no module")
        module = importlib.util.module_from_spec(spec)
        # Where classes of the module are looked up by dataclasses and by pickling.
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module
    except Exception as error:
        raise ConfigError(
            f"{place} could not be imported: {type(error).__name__}: {error}",
            fix="give a module that can be imported from here, or the path of a .py file",
        ) from error


def _takes_an_argument(function: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return any(p.kind in positional and p.default is p.empty for p in parameters)


def _not_one(text: str, found: object) -> ConfigError:
    return ConfigError(
        f"{text} is a {type(found).__name__}, which cannot build and score models",
        fix="let it return an object with build(config) and evaluate(model); see "
        "holdfast.selection.Evaluation",
    )
