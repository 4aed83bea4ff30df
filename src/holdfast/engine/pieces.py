"""Where the pieces of each tensor of a sharded checkpoint lie, and that they cover it.

Without torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdfast.engine.boxes import Box, coverage_problem
from holdfast.engine.sharded_state import offsets_by_file
from holdfast.engine.state_file import ComponentEntry
from holdfast.engine.tensor_file import TensorFile
from holdfast.errors import FormatError

if TYPE_CHECKING:
    from holdfast.engine.checkpoint_files import CheckpointFiles


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a tensor: the file it is in, under the tensor's own name, and its box."""

    file: TensorFile
    box: Box


@dataclass(frozen=True, slots=True)
class Whole:
    """A stored tensor. shape: of all of it. pieces: cover every element exactly once."""

    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]


def wholes(files: CheckpointFiles, entry: ComponentEntry) -> dict[str, Whole]:
    """Every tensor of a sharded component, by stored name, coverage proven.

    Raises DamagedError or FormatError for its files, and FormatError naming a tensor whose pieces
    leave a hole, overlap, or differ in dtype.
    """
    if entry.shapes is None:
        raise FormatError(f"The component {entry.name} is not sharded", where=files.place)
    found: dict[str, list[Piece]] = {name: [] for name in entry.shapes}
    offsets = offsets_by_file(files.parts)
    for name in entry.files:
        file = files.tensor_file(name)
        for stored, box in _boxes(file, entry, offsets.get(name, {})):
            found[stored].append(Piece(file, box))
    result: dict[str, Whole] = {}
    for stored, shape in entry.shapes.items():
        problem = _problem(stored, shape, found[stored])
        if problem is not None:
            raise FormatError(
                f"The tensor {stored!r} of {entry.name} is not whole: {problem}",
                where=files.place,
                fix="take another checkpoint",
            )
        result[stored] = Whole(shape, tuple(found[stored]))
    return result


def _boxes(
    file: TensorFile, entry: ComponentEntry, offsets: Mapping[str, tuple[int, ...]]
) -> Iterator[tuple[str, Box]]:
    """Name and box of each of the component's tensors in the file."""
    shapes = entry.shapes or {}
    prefix = f"{entry.name}/" if entry.kind == "object" else ""
    for name, spec in file.specs.items():
        if not name.startswith(prefix):
            continue
        shape = shapes.get(name)
        if shape is None:
            raise FormatError(
                f"The file holds a tensor {name[:200]!r} that {entry.name} does not have",
                where=file.where,
            )
        # Raw dtypes have further dimensions in the file.
        sizes = spec.shape[: len(shape)]
        at = offsets.get(name, (0,) * len(shape))
        if len(sizes) != len(shape) or len(at) != len(shape):
            raise FormatError(
                f"The part of {name[:200]!r} has another number of dimensions", where=file.where
            )
        yield name, Box(at, sizes)


def _problem(name: str, shape: tuple[int, ...], pieces: list[Piece]) -> str | None:
    problem = coverage_problem(shape, [piece.box for piece in pieces])
    if problem is not None:
        return problem
    kinds = {
        (piece.file.specs[name].dtype, str(piece.file.notes.get(name, {}).get("dtype")))
        for piece in pieces
    }
    return "its parts are of different dtypes" if len(kinds) > 1 else None
