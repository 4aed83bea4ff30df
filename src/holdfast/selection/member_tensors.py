"""The tensors of a component in a checkpoint: whole in files, or in pieces that ranks wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from holdfast.engine.checkpoint_files import CheckpointFiles
from holdfast.engine.open_checkpoint import OpenCheckpoint
from holdfast.engine.state_file import ComponentEntry
from holdfast.engine.verify import tensor_damage
from holdfast.jsontext import Json
from holdfast.state import StoredTensor
from holdfast.tensorfile import allocate, byte_view, describe

_BEYOND = 1 << 62


@dataclass(frozen=True, slots=True)
class TensorFacts:
    """One stored tensor without its data. note: what safetensors cannot say of it."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    nbytes: int
    note: Mapping[str, Json] = field(default_factory=dict)


class MemberTensors(Protocol):
    """See `holdfast.selection.members.Member` for the methods."""

    facts: Mapping[str, TensorFacts]

    def position(self, name: str) -> int | None:
        """Where the tensor's bytes begin, None if that means nothing."""
        ...

    def committed(self, name: str) -> bytes | None:
        """Its digest, None if it has none of its own."""
        ...

    def read_into(self, name: str, offset: int, buffer: memoryview) -> None:
        """Fill the buffer with row-major bytes. Raises LoadError."""
        ...

    def prove(self, name: str, found: bytes) -> None:
        """Compare a digest of what was read. Raises DamagedError."""
        ...


def tensors_of_entry(files: CheckpointFiles, entry: ComponentEntry) -> MemberTensors:
    """The tensors of a component, however it was saved. Raises LoadError."""
    if entry.shapes is not None:
        return PiecedTensors(files, entry.name)
    return FiledTensors(files, entry)


class FiledTensors:
    """Tensors that are whole in one file or more; read where they lie."""

    def __init__(self, files: CheckpointFiles, entry: ComponentEntry) -> None:
        self._files = [files.tensor_file(file) for file in entry.files]
        self._homes = {name: file for file in self._files for name in file.specs}
        self.facts: Mapping[str, TensorFacts] = {name: self._facts(name) for name in self._homes}

    def position(self, name: str) -> int | None:
        """Offset in the data section, further files of a divided model beyond all others."""
        home = self._homes[name]
        return home.specs[name].begin + self._files.index(home) * _BEYOND

    def committed(self, name: str) -> bytes | None:
        """The digest in state.json."""
        return self._homes[name].digests[name]

    def read_into(self, name: str, offset: int, buffer: memoryview) -> None:
        """Read from the file."""
        home = self._homes[name]
        begin = home.data_start + home.specs[name].begin + offset
        home.opened.read_into(home.file, begin, buffer)

    def prove(self, name: str, found: bytes) -> None:
        """Compare with state.json."""
        home = self._homes[name]
        if found != home.digests[name]:
            raise tensor_damage(home, name, found).error(home.opened.place)

    def _facts(self, name: str) -> TensorFacts:
        home = self._homes[name]
        spec, note = home.specs[name], home.notes.get(name, {})
        shell = allocate(spec, note, "meta", where=f"{home.where}, tensor {name[:200]!r}")
        return TensorFacts(shell.dtype, tuple(shell.shape), spec.nbytes, note)


class PiecedTensors:
    """Tensors of a sharded checkpoint, each put together from its pieces when it is asked for.

    Pieces are proven while they are read. The last tensor asked for is kept whole.
    """

    def __init__(self, files: CheckpointFiles, component: str) -> None:
        self._checkpoint = OpenCheckpoint(files)
        self._component = component
        self._last: tuple[str, Tensor] | None = None
        stored = self._checkpoint.stored(component).tensors
        self.facts: Mapping[str, TensorFacts] = {n: facts_of(t) for n, t in stored.items()}

    def position(self, name: str) -> int | None:
        """None: pieces lie in several files."""
        return None

    def committed(self, name: str) -> bytes | None:
        """None: there are digests of pieces only."""
        return None

    def read_into(self, name: str, offset: int, buffer: memoryview) -> None:
        """Copy from the tensor made whole."""
        if self._last is None or self._last[0] != name:
            self._last = None
            found = self._checkpoint.read(self._component, [name])[name]
            self._last = (name, found.resolve_conj().contiguous())
        buffer[:] = byte_view(self._last[1])[offset : offset + len(buffer)]

    def prove(self, name: str, found: bytes) -> None:
        """Nothing is left to prove."""


def facts_of(stored: StoredTensor) -> TensorFacts:
    """The facts of a tensor as a file that held it whole would have them."""
    shape, dtype = stored.shape, stored.dtype
    if stored.order is None:
        shell = torch.empty(shape, dtype=dtype, device="meta")
    else:
        shell = torch.empty_permuted(shape, stored.order, dtype=dtype, device="meta")
    return TensorFacts(dtype, shape, shell.numel() * shell.element_size(), describe(shell))
