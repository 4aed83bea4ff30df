"""One save by many ranks: every rank writes its part, rank 0 commits, or nobody does.

Two rounds. In the first rank 0 stages the folder and says which it is. Then every rank writes its
tensor files and its `rank-....json` into it, durably, and in the second round says what it wrote;
rank 0 adds state.json and the manifest, and publishes. A rank that fails, ends or is late fails the
round, so that nothing is published, and every rank raises the same failure with that rank's reason.
"""

from __future__ import annotations

import contextlib
import json
import time as clock
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from holdfast.digest import digest_bytes
from holdfast.engine.boxes import Box
from holdfast.engine.rank_file import RankFile, rank_file_name, render_rank_file, shard_name
from holdfast.engine.rank_part import Agreed
from holdfast.engine.reuse import EarlierFiles
from holdfast.engine.save import (
    SaveReceipt,
    SaveRequest,
    TensorFilePlan,
    manifest_of,
    publish,
    write_tensors,
)
from holdfast.engine.state_file import ComponentEntry, StateFile, TensorFileEntry, render_state
from holdfast.errors import RankFailedError, SaveError
from holdfast.jsontext import Json, dump
from holdfast.manifest import (
    CONFIG_FILE,
    MANIFEST_FILE,
    STATE_FILE,
    ComponentRecord,
    FileRecord,
    Manifest,
    checkpoint_name,
    parse_manifest,
    render_manifest,
)
from holdfast.state import ComponentState
from holdfast.storage.protocol import Joined, RunStorage, SharedRun, SharedStaged
from holdfast.tensorfile import describe, plan_file

LAYOUT = "sharded"
_OBJECTS = "state"
_ENTRY_BYTES = 200
_SMALL_FILES_BYTES = 64 << 10
# The others give up at twice the time allowed: rank 0 must have given up before.
_COMMIT_SHARE = 1.8


def save_with_ranks(
    run: RunStorage,
    request: SaveRequest,
    *,
    progress: Callable[[int, int], None] | None = None,
    earlier: EarlierFiles | None = None,
    proof: Callable[[], None] | None = None,
    cost: Callable[[int, int, float], Mapping[str, Json]] | None = None,
) -> SaveReceipt:
    """Write this rank's part of one checkpoint and take part in its commit.

    Arguments are those of `save_checkpoint`; request.ranks is given. Durable on every rank's side
    when this returns on any. Raises SaveError, on all ranks alike, with the reason of the rank that
    failed; on that rank its own error.
    """
    agreed = request.ranks
    if agreed is None or not isinstance(run, SharedRun):
        raise SaveError("This place cannot take one checkpoint from many ranks", where=run.place)
    try:
        with contextlib.ExitStack() as stack:
            attempt = _Attempt(run, request, agreed)
            # Left last: others must hear of the reason before the folder is gone.
            stack.callback(attempt.abort)
            stack.enter_context(agreed.operation)
            return attempt.carry_out(progress, earlier, proof, cost)
    except RankFailedError as error:
        raise SaveError(
            f"Nothing was committed at step {request.global_step}: rank {error.rank} failed: "
            f"{error.reason}",
            where=run.place,
            fix="see to that rank; the next save starts afresh, earlier checkpoints stand",
        ) from error


@dataclass(frozen=True)
class _Written:
    """What a rank says it wrote. elements: by sharded component."""

    rank: int
    save: str
    files: Mapping[str, FileRecord]
    tensor_files: Mapping[str, str]
    elements: Mapping[str, int]
    linked: int

    def encode(self) -> bytes:
        files = {name: [r.bytes, r.digest, r.tensors] for name, r in self.files.items()}
        fields = [self.rank, self.save, files, self.tensor_files, self.elements, self.linked]
        return json.dumps(fields).encode()

    @classmethod
    def decode(cls, data: bytes) -> _Written:
        rank, save, files, tensor_files, elements, linked = json.loads(data)
        records = {name: FileRecord(*fields) for name, fields in files.items()}
        return cls(rank, save, records, tensor_files, elements, linked)


class _Attempt:
    """One attempt as one rank sees it."""

    def __init__(self, run: SharedRun, request: SaveRequest, agreed: Agreed) -> None:
        self._run, self._request, self._agreed = run, request, agreed
        self._began = clock.monotonic()
        self._staged: SharedStaged | None = None
        self._asked_at = 0.0

    def carry_out(
        self,
        progress: Callable[[int, int], None] | None,
        earlier: EarlierFiles | None,
        proof: Callable[[], None] | None,
        cost: Callable[[int, int, float], Mapping[str, Json]] | None,
    ) -> SaveReceipt:
        files = self._plan()
        needed = sum(file.plan.total_bytes + _ENTRY_BYTES * len(file.tensors) for file in files)
        operation = self._agreed.operation
        handle = operation.round("stage", str(needed).encode(), self._stage).decode()
        with self._place(handle) as place:
            written, entries = self._write(place, files, progress, earlier)
        if proof is not None:
            proof()
        answer = operation.round(
            "written", written.encode(), lambda parts: self._commit(parts, cost)
        )
        name, _, data = answer.partition(b"\n")
        manifest = parse_manifest(data, where=f"{self._run.place}/{name.decode()}")
        if earlier is not None:
            earlier.remember(name.decode(), StateFile({}, entries))
        seconds = clock.monotonic() - self._began
        own = sum(record.bytes for record in written.files.values())
        return SaveReceipt(name.decode(), manifest, seconds, own, written.linked)

    def abort(self) -> None:
        """Rank 0: remove what was staged, unless it was published."""
        if self._staged is not None:
            self._staged.abort()

    def _plan(self) -> list[TensorFilePlan]:
        """This rank's tensor files: one for each module and optimizer, one for all objects."""
        grouped: dict[str, list[ComponentState]] = {}
        for component in self._request.components:
            if component.tensors:
                grouped.setdefault(self._file_of(component), []).append(component)
        return [self._plan_file(file, components) for file, components in grouped.items()]

    def _plan_file(self, file: str, components: Sequence[ComponentState]) -> TensorFilePlan:
        tensors = {n: t for component in components for n, t in component.tensors.items()}
        offsets = {n: at for c in components for n, at in self._offsets(c.name).items()}
        # The key and form under which torch's own reader of safetensors shards looks for them.
        info = {
            n: {"saved_offsets": list(offsets.get(n, (0,) * tensor.dim()))}
            for n, tensor in tensors.items()
        }
        metadata = {
            "format": "pt",
            "DCP_SHARDING_INFO": dump(info).decode(),
            "DCP_VERSION": "1.0",
        }
        notes = {n: note for n, tensor in tensors.items() if (note := describe(tensor))}
        return TensorFilePlan(file, tensors, plan_file(tensors, metadata), notes)

    def _offsets(self, component: str) -> Mapping[str, tuple[int, ...]]:
        return self._agreed.part.offsets.get(component, {})

    def _stage(self, parts: Sequence[bytes]) -> bytes:
        """Rank 0: make the folder, if there is room for what all ranks will write."""
        request = self._request
        needed = sum(map(int, parts)) + _SMALL_FILES_BYTES * len(parts)
        name = checkpoint_name(request.epoch, request.global_step, request.attempt)
        self._staged = self._run.stage(name, needed_bytes=needed)
        self._asked_at = clock.monotonic()
        return self._staged.handle.encode()

    def _place(self, handle: str) -> Joined:
        return self._run.join(handle)

    def _write(
        self,
        place: Joined,
        files: list[TensorFilePlan],
        progress: Callable[[int, int], None] | None,
        earlier: EarlierFiles | None,
    ) -> tuple[_Written, Mapping[str, TensorFileEntry]]:
        """Write this rank's files, its own record last."""
        agreed, request = self._agreed, self._request
        records, entries, linked = write_tensors(place, files, progress, earlier)
        holding = {c.name: self._file_of(c) for c in request.components if c.tensors}
        part = RankFile(
            agreed.rank,
            agreed.size,
            request.id,
            {
                c.name: ComponentEntry(c.name, c.kind, holding.get(c.name), c.tree, c.aliases)
                for c in request.components
                if c.name in agreed.per_rank
            },
            entries,
            self._offsets_by_file(),
        )
        data = render_rank_file(part)
        name = rank_file_name(agreed.rank, agreed.size)
        place.write_bytes(name, data)
        place.settle()
        records[name] = FileRecord(len(data), digest_bytes(data))
        elements = {
            c.name: sum(t.numel() for t in c.tensors.values())
            for c in request.components
            if c.name not in agreed.per_rank
        }
        return _Written(agreed.rank, request.id, records, holding, elements, linked), entries

    def _offsets_by_file(self) -> dict[str, dict[str, tuple[int, ...]]]:
        found: dict[str, dict[str, tuple[int, ...]]] = {}
        for component in self._request.components:
            if component.tensors:
                found.setdefault(self._file_of(component), {}).update(self._offsets(component.name))
        return found

    def _file_of(self, component: ComponentState) -> str:
        """This rank's file of a component: its own, or that of all objects."""
        stem = _OBJECTS if component.kind == "object" else component.name
        return shard_name(stem, self._agreed.rank, self._agreed.size)

    def _commit(
        self,
        parts: Sequence[bytes],
        cost: Callable[[int, int, float], Mapping[str, Json]] | None,
    ) -> bytes:
        """Rank 0: all parts are durable. Describe the whole, publish it, answer with its name."""
        staged, request = self._staged, self._request
        if staged is None:
            raise SaveError("The folder was not staged here")
        written = [_Written.decode(part) for part in parts]
        self._check(written, staged)
        records = {name: record for one in written for name, record in one.files.items()}
        state = self._state(written)
        small = [(STATE_FILE, render_state(state))]
        if request.config is not None:
            small.append((CONFIG_FILE, dump(request.config, indent=2) + b"\n"))
        for name, data in small:
            staged.write_bytes(name, data)
            records[name] = FileRecord(len(data), digest_bytes(data))
        manifest = self._manifest(state, records)
        if cost is not None:
            linked = sum(one.linked for one in written)
            seconds = clock.monotonic() - self._began
            manifest = replace(manifest, cost=cost(manifest.bytes - linked, linked, seconds))
        data = render_manifest(manifest)
        staged.write_bytes(MANIFEST_FILE, data)
        self._refuse_if_late()
        operation = self._agreed.operation
        operation.check()
        name = publish(self._run, staged, request, manifest)
        try:
            operation.check()
        except RankFailedError:
            # It took so long that others gave up: no rank has acknowledged it, and none will.
            self._run.discard(name)
            raise
        return name.encode() + b"\n" + data

    def _check(self, written: Sequence[_Written], staged: SharedStaged) -> None:
        """Every part is of this save, is seen here as it was written, and all make a whole."""
        seen = staged.sizes()
        for rank, one in enumerate(written):
            if (one.rank, one.save) != (rank, self._request.id):
                raise SaveError(f"Rank {rank} handed in a part of another save")
            for name, record in one.files.items():
                if seen.get(name) != record.bytes:
                    raise SaveError(
                        f"Rank {rank} wrote {name} with {record.bytes} bytes, rank 0 sees "
                        f"{seen.get(name, 'nothing')}",
                        where=self._run.place,
                        fix="checkpoint_dir must be on a file system that all ranks share",
                    )
        for component, shapes in self._agreed.part.shapes.items():
            if component in self._agreed.per_rank:
                continue
            wanted = sum(Box((), shape).elements for shape in shapes.values())
            found = sum(one.elements.get(component, 0) for one in written)
            if found != wanted:
                raise SaveError(
                    f"The ranks wrote {found} of {wanted} elements of {component}",
                    fix="all ranks must train one model, on one mesh or replicated",
                )

    def _state(self, written: Sequence[_Written]) -> StateFile:
        agreed = self._agreed
        entries = {}
        for component in self._request.components:
            name = component.name
            files = tuple(o.tensor_files[name] for o in written if name in o.tensor_files)
            own = name in agreed.per_rank
            entries[name] = ComponentEntry(
                name,
                component.kind,
                files[0] if files else None,
                None if own else component.tree,
                {} if own else component.aliases,
                files[1:],
                {} if own else agreed.part.shapes.get(name, {}),
                own,
            )
        ranks = tuple(rank_file_name(rank, agreed.size) for rank in range(agreed.size))
        return StateFile(entries, {}, ranks)

    def _manifest(self, state: StateFile, records: Mapping[str, FileRecord]) -> Manifest:
        part = self._agreed.part
        components = {
            name: ComponentRecord(
                kind=entry.kind,
                file=entry.file,
                tensors=len(part.shapes.get(name, {})),
                bytes=part.bytes.get(name, 0),
                more_files=entry.more_files,
            )
            for name, entry in state.components.items()
        }
        world: dict[str, Any] = {"size": self._agreed.size, "layout": LAYOUT}
        return manifest_of(self._request, components, records, world=world)

    def _refuse_if_late(self) -> None:
        """The others may have given up, and said so: then this must not appear after all."""
        limit = self._agreed.timeout_seconds * _COMMIT_SHARE
        if self._agreed.size > 1 and clock.monotonic() - self._asked_at > limit:
            raise SaveError(
                f"The save took longer than {limit:g} seconds, and the other ranks may have given "
                "it up",
                fix="raise rank_timeout_seconds in the configuration",
            )
