"""A committed checkpoint opened and proven down to its headers. Without torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import TracebackType

from typing_extensions import Self

from holdfast.engine.catalog import read_manifest
from holdfast.engine.pieces import wholes
from holdfast.engine.rank_file import RankFile
from holdfast.engine.sharded_state import read_parts, with_parts
from holdfast.engine.state_file import StateFile, parse_state
from holdfast.engine.tensor_file import TensorFile, open_tensor_file
from holdfast.engine.verify import find_damage, find_file_damage, read_proven
from holdfast.errors import FormatError, LoadError
from holdfast.jsontext import MAX_BYTES
from holdfast.manifest import MANIFEST_FILE, STATE_FILE, Manifest
from holdfast.storage.protocol import Opened, Progress, RunStorage


@dataclass
class CheckpointFiles:
    """The files of one opened checkpoint, each proven as far as it has been looked at.

    manifest is proven by its own digest, state by the manifest, tensor headers by both; the data
    of tensors only when it is verified or read.
    """

    name: str
    opened: Opened
    manifest: Manifest
    _state: StateFile | None = None
    _parts: tuple[RankFile, ...] = ()
    _tensor_files: dict[str, TensorFile] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """Where it is, for error messages."""
        return self.opened.place

    @property
    def state(self) -> StateFile:
        """The content of state.json. Raises DamagedError or FormatError."""
        if self._state is None:
            record = self.manifest.files.get(STATE_FILE)
            if record is None:
                raise FormatError("The manifest lists no state.json", where=self.place)
            data = read_proven(self.opened, STATE_FILE, record, max_bytes=MAX_BYTES)
            state = parse_state(data, where=f"{self.place}/{STATE_FILE}")
            self._check_agreement(state)
            self._parts = read_parts(self.opened, self.manifest, state)
            self._state = with_parts(state, self._parts, self.place)
        return self._state

    @property
    def parts(self) -> tuple[RankFile, ...]:
        """What each rank wrote; empty unless the checkpoint is sharded. Raises as `state` does."""
        _ = self.state
        return self._parts

    def tensor_file(self, file: str) -> TensorFile:
        """One tensor file, its header proven. Raises DamagedError or FormatError."""
        if file not in self._tensor_files:
            entry, record = self.state.files.get(file), self.manifest.files.get(file)
            if entry is None or record is None:
                raise FormatError(
                    f"state.json and manifest do not both list {file}", where=self.place
                )
            self._tensor_files[file] = open_tensor_file(self.opened, file, entry, record)
        return self._tensor_files[file]

    def damage(self, *, progress: Progress | None = None) -> list[str]:
        """Read everything and list all damage, one sentence each; empty if it is whole."""
        found: list[str] = []
        for file, record in self.manifest.files.items():
            try:
                if file.endswith(".safetensors"):
                    found += map(str, find_damage(self.tensor_file(file), progress=progress))
                else:
                    damage = find_file_damage(self.opened, file, record, progress=progress)
                    found += [] if damage is None else [str(damage)]
            except LoadError as error:
                found.append(f"{self._file_of(error) or file}: {error.what}")
        found += [*self._holes(), *self._unreadable()]
        # What is wrong with state.json comes up again for every file it describes.
        found = list(dict.fromkeys(found))
        known = {MANIFEST_FILE, *self.manifest.files}
        found += [
            f"{file}: not part of the checkpoint"
            for file in self.opened.files()
            if file not in known
        ]
        return found

    def close(self) -> None:
        """Release the folder."""
        self.opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _holes(self) -> list[str]:
        """Tensors of a sharded checkpoint that its parts do not make whole."""
        try:
            for entry in self.state.components.values() if self.parts else ():
                if not entry.per_rank:
                    wholes(self, entry)
        except LoadError as error:
            return [f"{self._file_of(error) or STATE_FILE}: {error.what}"]
        return []

    def _unreadable(self) -> list[str]:
        """Trees that no load could make anything of. What is wrong with their bytes is known."""
        # Not at the top: it brings in numpy, which nothing else of reading a description needs.
        from holdfast.engine.trees import unreadable_trees

        try:
            state = self.state
            own = [entry for part in self.parts for entry in part.components.values()]
        except LoadError:
            return []
        found = unreadable_trees([*state.components.values(), *own], state.files)
        return [f"{STATE_FILE}: {problem}" for problem in found]

    def _file_of(self, error: LoadError) -> str:
        """The file an error is about, empty if it is about none."""
        where = error.where or ""
        return where.removeprefix(f"{self.place}/") if where.startswith(f"{self.place}/") else ""

    def _check_agreement(self, state: StateFile) -> None:
        """The manifest and state.json must speak of the same components."""
        said = {n: (c.kind, c.file, c.more_files) for n, c in self.manifest.components.items()}
        found = {n: (c.kind, c.file, c.more_files) for n, c in state.components.items()}
        if said != found:
            raise FormatError("state.json and manifest list different components", where=self.place)


def open_files(run: RunStorage, name: str) -> CheckpointFiles:
    """Open the checkpoint `name`. Raises CheckpointNotFoundError, DamagedError or FormatError."""
    opened = run.open(name)
    try:
        return CheckpointFiles(name, opened, read_manifest(opened))
    except BaseException:
        opened.close()
        raise
