"""Files of earlier checkpoints that hold what is about to be written, so that they can be linked.

Digests are computed in memory first and compared with those an earlier checkpoint was committed
with, the smallest tensors first and only up to the first that differs: a file that changed costs
next to nothing to recognise, one that did not costs one pass over memory and no write.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from holdfast.digest import PREFIX, combine, raw_digest
from holdfast.engine.checkpoint_files import open_files
from holdfast.engine.state_file import StateFile, TensorFileEntry
from holdfast.engine.tensor_writer import TensorFileDigests, digest_of
from holdfast.errors import CheckpointNotFoundError, LoadError
from holdfast.storage.protocol import RunStorage
from holdfast.tensorfile import FilePlan


@dataclass(frozen=True, slots=True)
class EarlierFile:
    """A committed file with exactly the bytes wanted. checkpoint: the name of its folder."""

    checkpoint: str
    digests: TensorFileDigests


class EarlierFiles:
    """The tensor files of a few checkpoints of one run: those worth comparing with.

    They are the last one committed here, and those named by `consider` (the newest of the run, the
    one resumed from). Not safe for concurrent use.
    """

    def __init__(self, run: RunStorage) -> None:
        self._run = run
        self._last: tuple[str, Mapping[str, TensorFileEntry]] | None = None
        self._others: dict[str, Mapping[str, TensorFileEntry] | None] = {}

    def consider(self, names: Iterable[str]) -> None:
        """Compare with these checkpoints too, which are read when first needed."""
        self._others = {name: self._others.get(name) for name in names}

    def remember(self, name: str, state: StateFile) -> None:
        """Compare with this one from now on; it has just been committed."""
        self._last = (name, state.files)
        self._others.pop(name, None)

    def find(self, file: str, tensors: Mapping[str, Tensor], plan: FilePlan) -> EarlierFile | None:
        """The first checkpoint whose `file` was committed with exactly these bytes."""
        header = raw_digest(plan.header)
        for name, entries in self._tables():
            entry = entries.get(file)
            if entry is None or entry.header != PREFIX + header.hex():
                continue
            digests = _matching(tensors, plan, entry)
            if digests is not None:
                whole = combine([header, *digests.values()])
                return EarlierFile(name, TensorFileDigests(entry.header, digests, whole))
        return None

    def _tables(self) -> Iterable[tuple[str, Mapping[str, TensorFileEntry]]]:
        if self._last is not None:
            yield self._last
        for name, known in list(self._others.items()):
            if self._last is None or name != self._last[0]:
                entries = self._read(name) if known is None else known
                self._others[name] = entries
                yield name, entries

    def _read(self, name: str) -> Mapping[str, TensorFileEntry]:
        try:
            with open_files(self._run, name) as files:
                for file in files.state.files:
                    files.tensor_file(file)
                return files.state.files
        except (CheckpointNotFoundError, LoadError):
            # Gone or damaged: then there is nothing to link, and what it holds is written anew.
            return {}


def _matching(
    tensors: Mapping[str, Tensor], plan: FilePlan, entry: TensorFileEntry
) -> dict[str, bytes] | None:
    """The digests of all tensors in file order if they are those of `entry`, else None."""
    if plan.specs.keys() != entry.tensors.keys():
        return None
    for name in sorted(plan.specs, key=lambda name: plan.specs[name].nbytes):
        if digest_of(tensors[name]).hex() != entry.tensors[name]:
            return None
    return {name: bytes.fromhex(entry.tensors[name]) for name in plan.specs}
