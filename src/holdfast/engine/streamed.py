"""Writing tensors that are asked for one by one, so that they never lie in memory together."""

from __future__ import annotations

import time as clock
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from holdfast.digest import PREFIX, combine, digest_bytes, raw_digest
from holdfast.engine.save import SaveReceipt, SaveRequest, manifest_of, publish
from holdfast.engine.state_file import ComponentEntry, StateFile, TensorFileEntry, render_state
from holdfast.jsontext import Json, dump
from holdfast.manifest import (
    CONFIG_FILE,
    MANIFEST_FILE,
    STATE_FILE,
    ComponentRecord,
    FileRecord,
    checkpoint_name,
    render_manifest,
)
from holdfast.state import StoredTensor
from holdfast.storage.protocol import Block, RunStorage
from holdfast.tensorfile import FilePlan, byte_view, describe, plan_file

_PIECE_BYTES = 512 << 10
_GATHER_BYTES = 1 << 20
_SMALL_FILES_BYTES = 64 << 10
_ENTRY_BYTES = 300


@dataclass
class StreamedFile:
    """A tensor file laid out before its tensors are read.

    read: gives one tensor, proven, as it is laid out. notes: as in state.json. digests: raw, by
    name; complete once `blocks` is exhausted.
    """

    plan: FilePlan
    notes: Mapping[str, Mapping[str, Json]]
    read: Callable[[str], Tensor]
    digests: dict[str, bytes] = field(default_factory=dict)

    @classmethod
    def laid_out(
        cls,
        tensors: Mapping[str, StoredTensor],
        read: Callable[[str], Tensor],
        metadata: Mapping[str, str] | None = None,
    ) -> StreamedFile:
        """Plan a file from the facts of its tensors. Raises UnsavableError."""
        # One element stands for all: a shape needs no memory to be planned with.
        shells = {
            name: torch.empty((), dtype=facts.dtype).expand(facts.shape)
            for name, facts in tensors.items()
        }
        meta = torch.device("meta")
        notes = {
            name: note
            for name, facts in tensors.items()
            if (note := describe(facts.allocate(meta)))
        }
        return cls(plan_file(shells, {"format": "pt", **(metadata or {})}), notes, read)

    def blocks(self) -> Iterator[Block]:
        """Header and data in file order; a tensor is let go when its last block is written."""
        yield self.plan.header
        gathered = bytearray()
        for name, spec in self.plan.specs.items():
            view = _row_major(self.read(name)) if spec.nbytes else memoryview(b"")
            self.digests[name] = raw_digest(view)
            if len(view) <= _PIECE_BYTES:
                gathered += view
            if gathered and (len(gathered) >= _GATHER_BYTES or len(view) > _PIECE_BYTES):
                yield gathered
                gathered = bytearray()
            if len(view) > _PIECE_BYTES:
                for begin in range(0, len(view), _PIECE_BYTES):
                    yield view[begin : begin + _PIECE_BYTES]
        if gathered:
            yield gathered

    def entry(self) -> TensorFileEntry:
        """What state.json says of it, once written."""
        header = PREFIX + raw_digest(self.plan.header).hex()
        digests = {name: self.digests[name].hex() for name in self.plan.specs}
        return TensorFileEntry(header, digests, self.notes)

    def record(self) -> FileRecord:
        """What the manifest says of it, once written."""
        parts = [raw_digest(self.plan.header), *(self.digests[n] for n in self.plan.specs)]
        return FileRecord(self.plan.total_bytes, combine(parts), len(self.plan.specs))


def save_streamed(
    run: RunStorage,
    request: SaveRequest,
    components: Sequence[ComponentEntry],
    files: Mapping[str, StreamedFile],
    *,
    extra: Mapping[str, Json] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SaveReceipt:
    """Write and commit a checkpoint of `components`, whose tensors are in `files`; durable then.

    request: without components of its own. extra: further keys of the manifest. What a file's
    `read` raises ends the attempt and passes through; nothing of it is left.
    Raises NoSpaceError or SaveError.
    """
    began = clock.monotonic()
    total = sum(file.plan.total_bytes for file in files.values())
    small = _SMALL_FILES_BYTES + _ENTRY_BYTES * sum(len(file.plan.specs) for file in files.values())
    wanted = checkpoint_name(request.epoch, request.global_step)
    with run.stage(wanted, needed_bytes=total + small) as staged:
        records: dict[str, FileRecord] = {}
        done = 0
        for name, file in files.items():

            def advance(count: int, before: int = done) -> None:
                if progress is not None:
                    progress(before + count, total)

            staged.write_blocks(name, file.plan.total_bytes, file.blocks(), progress=advance)
            records[name] = file.record()
            done += file.plan.total_bytes
        state = StateFile(
            {entry.name: entry for entry in components},
            {name: file.entry() for name, file in files.items()},
        )
        plain = [(STATE_FILE, render_state(state))]
        if request.config is not None:
            plain.append((CONFIG_FILE, dump(request.config, indent=2) + b"\n"))
        for name, data in plain:
            staged.write_bytes(name, data)
            records[name] = FileRecord(len(data), digest_bytes(data))
        listed = {entry.name: _listed(entry, files) for entry in components}
        manifest = manifest_of(request, listed, records, extra)
        staged.write_bytes(MANIFEST_FILE, render_manifest(manifest))
        found = publish(run, staged, request, manifest)
    return SaveReceipt(found, manifest, clock.monotonic() - began, manifest.bytes)


def _listed(entry: ComponentEntry, files: Mapping[str, StreamedFile]) -> ComponentRecord:
    prefix = f"{entry.name}/" if entry.kind == "object" else ""
    specs = {} if entry.file is None else files[entry.file].plan.specs
    sizes = [spec.nbytes for name, spec in specs.items() if name.startswith(prefix)]
    return ComponentRecord(entry.kind, entry.file, len(sizes), sum(sizes))


def _row_major(tensor: Tensor) -> memoryview:
    return byte_view(tensor.detach().resolve_conj().resolve_neg().contiguous())
