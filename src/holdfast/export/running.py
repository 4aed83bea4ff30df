"""Running a released graph: requests are checked against its signature first.

With ONNX this needs NumPy and ONNX Runtime alone: neither torch nor the code that trained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holdfast.export.libraries import explaining
from holdfast.export.record import ReleaseRecord, read_record
from holdfast.export.runtime import new_session
from holdfast.export.signature import Signature

Arrays = tuple[NDArray[Any], ...]


@dataclass(frozen=True)
class ReleasedGraph:
    """One graph of a release in one format, loaded.

    Calling it with arrays in the order of the signature returns arrays in the order of its
    outputs. Raises InputError for what the graph was not made for, before anything runs: some
    runtimes answer garbage then.
    """

    name: str
    format: str
    signature: Signature
    record: ReleaseRecord
    _run: Callable[[Sequence[NDArray[Any]]], Arrays]

    def __call__(self, *inputs: NDArray[Any]) -> Arrays:
        """Check, then run."""
        self.signature.check(inputs)
        return self._run(inputs)


def load_released(
    folder: str | Path, graph: str | None = None, *, format: str = "onnx", threads: int = 0
) -> ReleasedGraph:
    """Load one graph of a release. graph: its name, None for the first.

    Raises CheckpointNotFoundError, ConfigError if the release has no such artifact, ExportError if
    it cannot be loaded. What the files hold is not verified here: `verify_release` does that.
    """
    place = Path(folder)
    record = read_record(place)
    name = next(iter(record.graphs)) if graph is None else graph
    files = record.files_of(name, format)
    load = _load_onnx if format == "onnx" else _load_torch
    with explaining(f"load the {format} artifact", name):
        run = load(place, name, format, files, threads)
    return ReleasedGraph(name, format, record.graphs[name], record, run)


def _load_onnx(
    folder: Path, name: str, format: str, files: tuple[str, ...], threads: int
) -> Callable[[Sequence[NDArray[Any]]], Arrays]:
    session = new_session(folder / files[0], threads=threads)
    names = [value.name for value in session.get_inputs()]

    def run(inputs: Sequence[NDArray[Any]]) -> Arrays:
        return tuple(session.run(None, dict(zip(names, inputs, strict=True))))

    return run


def _load_torch(
    folder: Path, name: str, format: str, files: tuple[str, ...], threads: int
) -> Callable[[Sequence[NDArray[Any]]], Arrays]:
    import torch

    from holdfast.export.formats import Artifact, find_format

    reloaded = find_format(format).reload(folder, Artifact(name, format, files))

    def run(inputs: Sequence[NDArray[Any]]) -> Arrays:
        tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in inputs]
        return tuple(tensor.numpy() for tensor in reloaded.run(*tensors))

    return run
