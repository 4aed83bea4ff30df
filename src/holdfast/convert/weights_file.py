"""Weights alone as one stock safetensors file, written a tensor at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from holdfast.engine.streamed import StreamedFile
from holdfast.errors import SaveError
from holdfast.state import StoredTensor
from holdfast.storage.block_file import write_block_file
from holdfast.storage.single_file import commit_file
from holdfast.tensorfile import dtype_name

FILE_SUFFIX = ".safetensors"


@dataclass(frozen=True, slots=True)
class Consolidated:
    """What was made, or would be.

    path: the checkpoint folder or the file; of a trial the place given. ranks: how many had saved
    it (of a stock distributed checkpoint: how many files it has). tensors, bytes: what is stored.
    left_out: components that were not taken over.
    """

    path: Path
    ranks: int
    tensors: int
    bytes: int
    left_out: tuple[str, ...]


def to_file(
    tensors: Mapping[str, StoredTensor],
    read: Callable[[str], Tensor],
    target: Path,
    dry_run: bool,
    progress: Callable[[int, int], None] | None,
) -> int:
    """Write a stock safetensors file; its bytes."""
    raw = [name for name, facts in tensors.items() if dtype_name(facts.dtype).raw]
    if raw:
        raise SaveError(
            f"Stock safetensors cannot hold the dtype of {raw[0]} ({tensors[raw[0]].dtype})",
            where=str(target),
            fix="consolidate into a run folder",
        )
    file = StreamedFile.laid_out(tensors, read)
    total = file.plan.total_bytes

    def advance(count: int) -> None:
        if progress is not None:
            progress(count, total)

    def write(path: Path) -> None:
        write_block_file(path, total, file.blocks(), direct=False, progress=advance)

    if not dry_run:
        commit_file(target, write)
    return total
