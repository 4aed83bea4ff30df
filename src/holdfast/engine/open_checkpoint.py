"""A committed checkpoint opened for restoring: stored components in, filled tensors out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from types import TracebackType

from torch import Tensor
from typing_extensions import Self

from holdfast.engine.checkpoint_files import CheckpointFiles, open_files
from holdfast.engine.reader import check_targets, read_into, read_new
from holdfast.engine.state_file import ComponentEntry
from holdfast.engine.tensor_file import TensorFile
from holdfast.engine.verify import prove_tensors
from holdfast.errors import CheckpointNotFoundError, FormatError
from holdfast.manifest import Manifest
from holdfast.state import StoredComponent, StoredTensor
from holdfast.storage.protocol import RunStorage
from holdfast.tensorfile import allocate, torch_dtype


class OpenCheckpoint:
    """One checkpoint, opened once: everything is read through the same open files.

    progress: called with bytes done and bytes in total; a full restore reads each byte twice, once
    to prove it and once to place it.
    """

    def __init__(
        self, files: CheckpointFiles, progress: Callable[[int, int], None] | None = None
    ) -> None:
        self._files = files
        self._progress = progress
        self._done = 0
        self._total = 2 * sum(record.bytes for record in files.manifest.files.values())

    @property
    def name(self) -> str:
        """The folder's name."""
        return self._files.name

    @property
    def place(self) -> str:
        """Where it is, for error messages and for opening it again."""
        return self._files.place

    @property
    def manifest(self) -> Manifest:
        """The proven manifest."""
        return self._files.manifest

    def stored(self, component: str) -> StoredComponent:
        """What is stored of a component. Raises CheckpointNotFoundError if there is none."""
        entry = self._entry(component)
        file = self._tensor_file(entry)
        tensors = {} if file is None else {n: self._stored(file, n) for n in _own(entry, file)}
        return StoredComponent(entry.name, entry.kind, entry.tree, tensors, entry.aliases)

    def verify(self, components: Collection[str]) -> None:
        """Hash every tensor of these components, nothing live touched. Raises DamagedError."""
        for name in components:
            entry = self._entry(name)
            file = self._tensor_file(entry)
            if file is not None:
                prove_tensors(file, _own(entry, file), progress=self._advance)

    def check(self, component: str, targets: Mapping[str, Tensor]) -> None:
        """Prove that every target can take its stored tensor; touches none.

        Raises MismatchError listing every target that cannot.
        """
        if targets:
            check_targets(self._file_of(component), targets)

    def fill(self, component: str, targets: Mapping[str, Tensor]) -> None:
        """Read stored tensors straight into the targets, hashing them on the way."""
        if targets:
            read_into(self._file_of(component), targets, progress=self._advance)

    def read(self, component: str, names: Iterable[str]) -> dict[str, Tensor]:
        """Read stored tensors into new memory on the CPU, proven. Raises DamagedError."""
        return read_new(self._file_of(component), names, progress=self._advance)

    def close(self) -> None:
        """Release the folder."""
        self._files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _entry(self, component: str) -> ComponentEntry:
        entry = self._files.state.components.get(component)
        if entry is None:
            raise CheckpointNotFoundError(
                f"The checkpoint has no component {component!r}", where=self.place
            )
        return entry

    def _tensor_file(self, entry: ComponentEntry) -> TensorFile | None:
        return None if entry.file is None else self._files.tensor_file(entry.file)

    def _file_of(self, component: str) -> TensorFile:
        file = self._tensor_file(self._entry(component))
        if file is None:
            raise FormatError(f"The component {component} has no tensors", where=self.place)
        return file

    @staticmethod
    def _stored(file: TensorFile, name: str) -> StoredTensor:
        spec, note = file.specs[name], file.notes.get(name)
        digest = file.digests[name].hex()
        if not note:
            return StoredTensor(torch_dtype(spec.dtype, where=file.where), spec.shape, None, digest)
        shell = allocate(spec, note, "meta", where=file.where)
        order = note.get("order")
        dimensions = tuple(int(d) for d in order) if isinstance(order, list) else None
        return StoredTensor(shell.dtype, tuple(shell.shape), dimensions, digest)

    def _advance(self, count: int) -> None:
        self._done += count
        if self._progress is not None:
            self._progress(self._done, self._total)


def open_checkpoint(
    run: RunStorage, name: str, *, progress: Callable[[int, int], None] | None = None
) -> OpenCheckpoint:
    """Open the checkpoint `name`. Raises CheckpointNotFoundError, DamagedError or FormatError."""
    return OpenCheckpoint(open_files(run, name), progress)


def _own(entry: ComponentEntry, file: TensorFile) -> Iterable[str]:
    """The component's stored names: all of its own file, its paths in the shared one."""
    if entry.kind != "object":
        return file.specs
    return [name for name in file.specs if name.startswith(f"{entry.name}/")]
