"""The checkpoints an average is made of, opened: facts of every tensor, bytes when asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from holdfast.digest import Hasher, digest_bytes
from holdfast.ema.stored import RECORD as AVERAGE_RECORD
from holdfast.engine.checkpoint_files import CheckpointFiles, open_files
from holdfast.engine.original import read_original
from holdfast.engine.verify import read_proven
from holdfast.errors import CheckpointNotFoundError, FormatError, LoadError
from holdfast.jsontext import MAX_BYTES, Json, parse
from holdfast.manifest import CONFIG_FILE
from holdfast.selection.member_tensors import TensorFacts, tensors_of_entry
from holdfast.selection.record import MemberRecord
from holdfast.session.derived import is_vocabulary
from holdfast.session.original import original_components
from holdfast.state import ComponentState
from holdfast.storage import LocalRun
from holdfast.tensorfile import byte_view, describe
from holdfast.values import Parent

MODEL, RUN = "model", "run"
_READ_BYTES = 4 << 20


class Member(Protocol):
    """One checkpoint's model. order: members sort by it, the newest last.

    tree, aliases: as in `ComponentState`. config: the model configuration as tagged JSON, None if
    unknown. vocabularies: trees of components that look like one, by name.
    """

    record: MemberRecord
    order: tuple[int, int, int]
    parent: Parent | None
    tensors: Mapping[str, TensorFacts]
    aliases: Mapping[str, str]
    tree: Json
    config: Json
    vocabularies: Mapping[str, Json]

    @property
    def place(self) -> str:
        """Where it is, for error messages."""
        ...

    def position(self, name: str) -> int | None:
        """Where the tensor's bytes begin among those of the file; None if that means nothing."""
        ...

    def committed(self, name: str) -> bytes | None:
        """The tensor's digest as committed; None if it was saved without."""
        ...

    def read_into(self, name: str, offset: int, buffer: memoryview) -> None:
        """Fill the buffer with the tensor's row-major bytes from `offset`, or beyond it those of
        the tensors that follow in the file. Raises LoadError."""
        ...

    def prove(self, name: str, found: bytes) -> None:
        """Compare the digest of what was read. Raises DamagedError if other bytes were saved."""
        ...

    def close(self) -> None:
        """Release it."""
        ...


class FolderMember:
    """A checkpoint folder of ours; component: the model in it, or an average kept beside it."""

    def __init__(self, files: CheckpointFiles, path: Path, component: str = MODEL) -> None:
        entry = files.state.components.get(component)
        if entry is None or not entry.files or entry.kind != "module":
            raise LoadError(
                f"The checkpoint holds no {component}",
                where=files.place,
                fix="leave it out of the average",
            )
        manifest = files.manifest
        self._files = files
        self._stored = tensors_of_entry(files, entry)
        info = manifest.info(files.name)
        self.record = MemberRecord(
            name=files.name,
            id=manifest.id,
            digest=weights_digest(files, component),
            path=str(path),
            epoch=info.epoch,
            global_step=info.global_step,
        )
        self.order = info.order
        self.parent: Parent | None = Parent("averaged_from", info.id, files.name, info.global_step)
        self.aliases: Mapping[str, str] = entry.aliases
        self.tree = _plain_tree(entry.tree)
        self.tensors: Mapping[str, TensorFacts] = self._stored.facts
        self.config = self._config()
        self.vocabularies: Mapping[str, Json] = {
            name: other.tree
            for name, other in files.state.components.items()
            if is_vocabulary(name) and other.kind == "object" and not any(references(other.tree))
        }

    @property
    def place(self) -> str:
        """The folder."""
        return self._files.place

    def position(self, name: str) -> int | None:
        """See `Member`."""
        return self._stored.position(name)

    def committed(self, name: str) -> bytes | None:
        """See `Member`."""
        return self._stored.committed(name)

    def read_into(self, name: str, offset: int, buffer: memoryview) -> None:
        """See `Member`."""
        self._stored.read_into(name, offset, buffer)

    def prove(self, name: str, found: bytes) -> None:
        """See `Member`."""
        self._stored.prove(name, found)

    def close(self) -> None:
        """Release the folder."""
        self._files.close()

    def _config(self) -> Json:
        run = self._files.state.components.get(RUN)
        if run is not None and isinstance(run.tree, Mapping):
            config = run.tree.get("model_config")
            if config is not None and not any(references(config)):
                return config
        record = self._files.manifest.files.get(CONFIG_FILE)
        if record is None:
            return None
        data = read_proven(self._files.opened, CONFIG_FILE, record, max_bytes=MAX_BYTES)
        return parse(data, where=f"{self.place}/{CONFIG_FILE}")


class OriginalMember:
    """A `.pt` file of the original layout, its data left in the file until it is looked at."""

    def __init__(self, path: Path) -> None:
        self._place = str(path)
        self.record = MemberRecord(path.name, None, file_digest(path), str(path), 0, 0)
        content = read_original(path, mapped=True)
        components = {c.name: c for c in original_components(content, self._place)}
        model = components[MODEL]
        run = components[RUN].tree
        fields: Mapping[str, Any] = run if isinstance(run, Mapping) else {}
        self.record = MemberRecord(
            name=path.name,
            id=None,
            digest=self.record.digest,
            path=str(path),
            epoch=_whole(fields.get("epoch")),
            global_step=_whole(fields.get("global_step")),
        )
        self.order = (0, self.record.global_step, 0)
        self.parent: Parent | None = None
        self.aliases: Mapping[str, str] = model.aliases
        self.tree = model.tree
        config: Json = fields.get("model_config")
        self.config = None if any(references(config)) else config
        self.vocabularies: Mapping[str, Json] = {}
        self._tensors = dict(model.tensors)
        self._bytes: tuple[str, memoryview] | None = None
        self.tensors: Mapping[str, TensorFacts] = _facts_of(model)

    @property
    def place(self) -> str:
        """The file."""
        return self._place

    def position(self, name: str) -> int | None:
        """None: every tensor has a record of its own in the archive."""
        return None

    def committed(self, name: str) -> bytes | None:
        """None: the archive has checksums only, and they were checked when it was opened."""
        return None

    def read_into(self, name: str, offset: int, buffer: memoryview) -> None:
        """Copy from the mapped file."""
        if self._bytes is None or self._bytes[0] != name:
            self._bytes = (name, byte_view(self._tensors[name].resolve_conj().contiguous()))
        buffer[:] = self._bytes[1][offset : offset + len(buffer)]

    def prove(self, name: str, found: bytes) -> None:
        """Nothing is left to prove."""

    def close(self) -> None:
        """Let go of the file."""
        self._tensors.clear()
        self._bytes = None


def weights_digest(files: CheckpointFiles, component: str = MODEL) -> str:
    """What a component's weights are known by: the digest of its tensor file, or of all of them.

    Raises LoadError if there is no such component with tensors.
    """
    entry = files.state.components.get(component)
    if entry is None or not entry.files:
        raise LoadError(f"The checkpoint holds no {component}", where=files.place)
    digests = [files.manifest.files[file].digest for file in entry.files]
    return digests[0] if len(digests) == 1 else digest_bytes("\n".join(digests).encode())


def open_member(path: Path, component: str = MODEL) -> Member:
    """Open a checkpoint folder or an original `.pt` file.

    component: an average in the folder to be taken for the model. Raises CheckpointNotFoundError if
    there is nothing, LoadError if it cannot be trusted or holds no such thing.
    """
    if not path.exists():
        raise CheckpointNotFoundError(
            "There is no such checkpoint", where=str(path), fix="list what there is: holdfast ls"
        )
    if not path.is_dir():
        if component != MODEL:
            raise LoadError(f"A .pt file holds no component {component}", where=str(path))
        return OriginalMember(path)
    real = path.resolve()
    files = open_files(LocalRun(real.parent), real.name)
    try:
        return FolderMember(files, path, component)
    except BaseException:
        files.close()
        raise


def _plain_tree(tree: Json) -> Json:
    """A model's tree: that of an average without its counters, which would mean nothing."""
    if isinstance(tree, Mapping) and AVERAGE_RECORD in tree:
        return {key: value for key, value in tree.items() if key != AVERAGE_RECORD}
    return tree


def vocabularies_of(members: Sequence[Member]) -> dict[str, Json]:
    """Vocabularies that every member has; they are known to agree where two have one."""
    common = set.intersection(*(set(member.vocabularies) for member in members))
    newest = members[-1].vocabularies
    return {name: tree for name, tree in newest.items() if name in common}


def references(tree: Json) -> Iterator[str]:
    """Names of the tensors that a tagged tree refers to."""
    if isinstance(tree, Mapping):
        if tree.get("$") == "tensor":
            yield str(tree.get("v"))
            return
        for value in tree.values():
            yield from references(value)
    elif isinstance(tree, (list, tuple)):
        for value in tree:
            yield from references(value)


def _facts_of(model: ComponentState) -> dict[str, TensorFacts]:
    return {
        name: TensorFacts(tensor.dtype, tuple(tensor.shape), tensor.nbytes, describe(tensor))
        for name, tensor in model.tensors.items()
    }


def file_digest(path: Path) -> str:
    """The digest of a whole file. Raises FormatError if it is none."""
    if not path.is_file():
        raise FormatError("It is neither a checkpoint folder nor a file", where=str(path))
    hasher = Hasher()
    with path.open("rb") as stream:
        while data := stream.read(_READ_BYTES):
            hasher.update(data)
    return hasher.text()


def _whole(value: object) -> int:
    return value if type(value) is int else 0
