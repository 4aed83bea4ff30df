"""A committed checkpoint opened for restoring: stored components in, filled tensors out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from types import TracebackType

from torch import Tensor
from typing_extensions import Self

from holdfast.engine._targets import Target
from holdfast.engine.checkpoint_files import CheckpointFiles, open_files
from holdfast.engine.reader import check_targets, read_fresh, read_into, read_new
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
        self._checked: dict[str, dict[str, Target]] = {}
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
        tensors = {
            name: self._stored(file, name, where)
            for file in self._tensor_files(entry)
            for where in (file.where,)
            for name in _own(entry, file)
        }
        return StoredComponent(entry.name, entry.kind, entry.tree, tensors, entry.aliases)

    def verify(self, component: str, *, but: Collection[str] = ()) -> None:
        """Hash every tensor of a component, nothing live touched. Raises DamagedError.

        but: stored names to leave out, since `fill_fresh` will prove them.
        """
        entry = self._entry(component)
        for file in self._tensor_files(entry):
            names = _own(entry, file)
            if but:
                names = [name for name in names if name not in but]
            prove_tensors(file, names, progress=self._advance)

    def check(self, component: str, targets: Mapping[str, Tensor]) -> None:
        """Prove that every target can take its stored tensor; touches none.

        Raises MismatchError listing every target that cannot.
        """
        checked: dict[str, Target] = {}
        for file, here in self._by_file(component, targets):
            checked |= check_targets(file, here)
        self._checked[component] = checked

    def fill(self, component: str, targets: Mapping[str, Tensor]) -> None:
        """Read stored tensors straight into live targets, hashing them again on the way."""
        checked = self._checked.get(component)
        for file, here in self._by_file(component, targets):
            read_into(file, here, checked=checked, progress=self._advance)

    def fill_fresh(self, component: str, targets: Mapping[str, Tensor]) -> None:
        """Read stored tensors into memory nobody uses yet, proven in the same pass.

        Raises DamagedError.
        """
        checked = self._checked.get(component)
        for file, here in self._by_file(component, targets):
            read_fresh(file, here, checked=checked, progress=lambda n: self._advance(2 * n))

    def read(self, component: str, names: Iterable[str]) -> dict[str, Tensor]:
        """Read stored tensors into new memory on the CPU, proven. Raises DamagedError."""
        wanted = list(names)
        found: dict[str, Tensor] = {}
        for file in self._tensor_files(self._entry(component)):
            here = [name for name in wanted if name in file.specs]
            found |= read_new(file, here, progress=self._advance)
        lacking = [name for name in wanted if name not in found]
        if lacking:
            raise FormatError(
                f"The component {component} holds no tensor {lacking[0]!r}", where=self.place
            )
        return found

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

    def _tensor_files(self, entry: ComponentEntry) -> list[TensorFile]:
        return [self._files.tensor_file(file) for file in entry.files]

    def _by_file(
        self, component: str, targets: Mapping[str, Tensor]
    ) -> list[tuple[TensorFile, dict[str, Tensor]]]:
        """The targets by the file they are in; the last file answers for names in none."""
        if not targets:
            return []
        files = self._tensor_files(self._entry(component))
        if not files:
            raise FormatError(f"The component {component} has no tensors", where=self.place)
        if len(files) == 1:
            return [(files[0], dict(targets))]
        left = dict(targets)
        divided = []
        for file in files[:-1]:
            divided.append((file, {name: left.pop(name) for name in targets if name in file.specs}))
        return [(file, here) for file, here in [*divided, (files[-1], left)] if here]

    @staticmethod
    def _stored(file: TensorFile, name: str, where: str) -> StoredTensor:
        spec, note = file.specs[name], file.notes.get(name)
        digest = file.digests[name].hex()
        if not note:
            return StoredTensor(torch_dtype(spec.dtype, where=where), spec.shape, None, digest)
        shell = allocate(spec, note, "meta", where=where)
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
