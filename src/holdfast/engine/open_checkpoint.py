"""A committed checkpoint opened for restoring: stored components in, filled tensors out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType

from torch import Tensor
from typing_extensions import Self

from holdfast.engine._targets import Target
from holdfast.engine.checkpoint_files import CheckpointFiles, open_files
from holdfast.engine.pieces import Whole, wholes
from holdfast.engine.reader import check_targets, read_fresh, read_into, read_new
from holdfast.engine.sharded_reader import check_route, fill_route, read_whole, wholes_of_file
from holdfast.engine.sharded_state import entry_of
from holdfast.engine.shares import share_of
from holdfast.engine.state_file import ComponentEntry
from holdfast.engine.tensor_file import TensorFile
from holdfast.engine.verify import prove_tensors
from holdfast.errors import CheckpointNotFoundError, FormatError
from holdfast.manifest import Manifest
from holdfast.state import StoredComponent, StoredTensor, is_sharded
from holdfast.storage.protocol import RunStorage
from holdfast.tensorfile import allocate, torch_dtype


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads: one of `size` ranks that read the same checkpoint together, each its share."""

    rank: int = 0
    size: int = 1


ALONE = Reader()


class OpenCheckpoint:
    """One checkpoint, opened once: everything is read through the same open files.

    progress: called with bytes done and bytes in total; a full restore reads each byte twice, once
    to prove it and once to place it. reader: of many ranks, each proves a share of the bytes; they
    must agree that all shares were sound before anything is filled.
    """

    def __init__(
        self,
        files: CheckpointFiles,
        progress: Callable[[int, int], None] | None = None,
        reader: Reader = ALONE,
    ) -> None:
        self._files = files
        self._progress = progress
        self._checked: dict[str, dict[str, Target]] = {}
        self._reader = reader
        self._done = 0
        self._total = 2 * sum(record.bytes for record in files.manifest.files.values())
        self._wholes: dict[str, dict[str, Whole]] = {}
        self._proven: set[str] = set()

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

    @property
    def world_size(self) -> int:
        """How many ranks saved it."""
        return max(1, len(self._files.parts))

    def kept_per_rank(self, component: str) -> bool:
        """Whether each rank saved its own of this component."""
        entry = self._files.state.components.get(component)
        return entry is not None and entry.per_rank

    def stored(self, component: str) -> StoredComponent:
        """What is stored of a component. Raises CheckpointNotFoundError if there is none.

        Of what each rank keeps for itself it is this rank's own if as many ranks saved it as read
        it, else the first rank's.
        """
        entry = self._entry(component)
        if entry.shapes is None:
            tensors = {
                name: self._stored(file, name, where)
                for file in self._tensor_files(entry)
                for where in (file.where,)
                for name in _own(entry, file)
            }
        else:
            tensors = {name: self._of_pieces(w, name) for name, w in self._pieces(entry).items()}
        return StoredComponent(entry.name, entry.kind, entry.tree, tensors, entry.aliases)

    def verify(
        self, components: Collection[str], *, but: Mapping[str, Collection[str]] | None = None
    ) -> None:
        """Hash every tensor of these components, nothing live touched. Raises DamagedError.

        One of several readers hashes its share; together they hash everything. but: by component,
        tensors that may be left out since `fill_fresh` will prove them.
        """
        wanted: list[tuple[TensorFile, list[str]]] = []
        for name in components:
            entry = self._entry(name)
            left = (but or {}).get(name, ()) if self._in_one_piece(entry) else ()
            for file in self._tensor_files(entry):
                names = [n for n in _own(entry, file) if n not in left] if left else None
                wanted.append((file, list(_own(entry, file)) if names is None else names))
            if not left:
                self._proven.add(name)
        reader, saved_by = self._reader, len(self._files.parts)
        for file, names in share_of(wanted, reader.rank, reader.size, saved_by):
            prove_tensors(file, names, progress=self._advance)

    def check(self, component: str, targets: Mapping[str, Tensor]) -> None:
        """Prove that every target can take its stored tensor; touches none.

        Raises MismatchError listing every target that cannot.
        """
        entry = self._entry(component)
        if _needs_route(entry, targets):
            check_route(self._all_wholes(entry), targets, self.place)
            return
        checked: dict[str, Target] = {}
        for file, here in self._by_file(component, targets):
            checked |= check_targets(file, here)
        self._checked[component] = checked

    def fill(self, component: str, targets: Mapping[str, Tensor]) -> None:
        """Read stored tensors straight into live targets, hashing them again on the way.

        Of a DTensor its local part is filled, and no more is read than that takes. Of a piece that
        was proven by `verify` only the rows needed are read.
        """
        entry = self._entry(component)
        if _needs_route(entry, targets):
            hashed = component not in self._proven
            wholes = self._all_wholes(entry)
            fill_route(wholes, targets, self.place, hashed=hashed, progress=self._advance)
            return
        checked = self._checked.get(component)
        for file, here in self._by_file(component, targets):
            read_into(file, here, checked=checked, progress=self._advance)

    def fill_fresh(self, component: str, targets: Mapping[str, Tensor]) -> None:
        """Read stored tensors into memory nobody uses yet, proven in the same pass.

        Raises DamagedError.
        """
        entry = self._entry(component)
        if _needs_route(entry, targets):
            self.fill(component, targets)
            return
        checked = self._checked.get(component)
        twice = 2 if self._in_one_piece(entry) else 1
        for file, here in self._by_file(component, targets):
            read_fresh(file, here, checked=checked, progress=lambda n: self._advance(twice * n))

    def read(self, component: str, names: Iterable[str]) -> dict[str, Tensor]:
        """Read stored tensors into new memory on the CPU, proven. Raises DamagedError."""
        wanted = list(names)
        entry = self._entry(component)
        found: dict[str, Tensor] = {}
        if entry.shapes is not None:
            pieces = self._pieces(entry)
            found = {n: read_whole(pieces[n], n, self._advance) for n in wanted if n in pieces}
        else:
            for file in self._tensor_files(entry):
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
        same_size = self._reader.size == len(self._files.parts)
        rank = self._reader.rank if same_size else 0
        entry = entry_of(self._files.state, self._files.parts, component, rank)
        if entry is None:
            raise CheckpointNotFoundError(
                f"The checkpoint has no component {component!r}", where=self.place
            )
        return entry

    def _in_one_piece(self, entry: ComponentEntry) -> bool:
        """Whether this reader, alone, finds every tensor whole in one place."""
        return entry.shapes is None and self._reader.size == 1

    def _pieces(self, entry: ComponentEntry) -> dict[str, Whole]:
        if entry.name not in self._wholes:
            self._wholes[entry.name] = wholes(self._files, entry)
        return self._wholes[entry.name]

    def _all_wholes(self, entry: ComponentEntry) -> Mapping[str, Whole]:
        """Of a component in one piece too, whose tensors may be wanted in part."""
        if entry.shapes is not None:
            return self._pieces(entry)
        if entry.name not in self._wholes:
            self._wholes[entry.name] = {
                name: whole
                for file in self._tensor_files(entry)
                for name, whole in wholes_of_file(file, _own(entry, file)).items()
            }
        return self._wholes[entry.name]

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

    def _of_pieces(self, whole: Whole, name: str) -> StoredTensor:
        file = whole.pieces[0].file
        first = self._stored(file, name, file.where)
        entire = len(whole.pieces) == 1
        return StoredTensor(
            first.dtype,
            whole.shape,
            first.order if entire else None,
            first.digest if entire else None,
        )

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
    run: RunStorage,
    name: str,
    *,
    progress: Callable[[int, int], None] | None = None,
    reader: Reader = ALONE,
) -> OpenCheckpoint:
    """Open the checkpoint `name`. Raises CheckpointNotFoundError, DamagedError or FormatError."""
    return OpenCheckpoint(open_files(run, name), progress, reader)


def _needs_route(entry: ComponentEntry, targets: Mapping[str, Tensor]) -> bool:
    return entry.shapes is not None or any(map(is_sharded, targets.values()))


def _own(entry: ComponentEntry, file: TensorFile) -> Iterable[str]:
    """The component's stored names: all of its own file, its paths in the shared one."""
    if entry.kind != "object":
        return file.specs
    return [name for name in file.specs if name.startswith(f"{entry.name}/")]
