"""Exported sequence models on ONNX Runtime, in a process that has no torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from holdfast.errors import HoldfastError, LoadError
from holdfast.export.runtime import new_session
from holdfast.export.seq2seq.model import SequenceModel
from holdfast.export.seq2seq.recipe import Recipe
from holdfast.export.seq2seq.steps import Array, Call, GraphSteps


def load_onnx(folder: str | os.PathLike[str], name: str, *, threads: int = 1) -> SequenceModel:
    """The model `name` of a folder of ONNX files, as `sequence_graphs` described and exported it.

    threads: of one call. Raises ConfigError if ONNX Runtime is not installed, FormatError for
    another kind of recipe and LoadError if a graph cannot be loaded.
    """
    place = Path(folder)
    recipe = Recipe.read(place, name)
    start, step = (_call(place / f"{graph}.onnx", threads) for graph in (recipe.start, recipe.step))
    return SequenceModel(GraphSteps(recipe, start, step), recipe)


def _call(path: Path, threads: int) -> Call:
    session = _session(path, threads)
    names = [one.name for one in session.get_inputs()]

    def call(arrays: Sequence[Array]) -> Sequence[Array]:
        outputs: Sequence[Array] = session.run(None, dict(zip(names, arrays, strict=True)))
        return outputs

    return call


def _session(path: Path, threads: int) -> Any:
    try:
        return new_session(path, threads=threads)
    except HoldfastError:
        raise
    except Exception as error:  # its classes are not part of its public interface
        raise LoadError(f"ONNX Runtime cannot load this graph: {error}", where=str(path)) from error
