"""One save: captured state in, a committed checkpoint out, or nothing at all."""

from __future__ import annotations

import secrets
import time as clock
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

from holdfast.digest import digest_bytes
from holdfast.engine.catalog import read_manifest
from holdfast.engine.division import Division, divide, shard_indexes
from holdfast.engine.rank_part import Agreed
from holdfast.engine.reuse import EarlierFiles
from holdfast.engine.state_file import ComponentEntry, StateFile, TensorFileEntry, render_state
from holdfast.engine.tensor_writer import TensorFileDigests, write_tensor_file
from holdfast.errors import LoadError
from holdfast.jsontext import Json, dump
from holdfast.manifest import (
    CONFIG_FILE,
    MANIFEST_FILE,
    STATE_FILE,
    ComponentRecord,
    FileRecord,
    Manifest,
    checkpoint_name,
    render_manifest,
)
from holdfast.state import ComponentState
from holdfast.storage.protocol import Joined, NameTakenError, RunStorage, Staged
from holdfast.tensorfile import FilePlan, describe, plan_file
from holdfast.values import Parent, SaveReason

_SMALL_FILES_BYTES = 64 << 10
_ENTRY_BYTES = 200
_NAMESAKES_MAX = 1000


@dataclass(frozen=True, slots=True)
class SaveRequest:
    """Everything one checkpoint is to hold. `config` goes to config.json when it is not None.

    id: random, unless a caller needs the same files every time. attempt: the first namesake to try:
    1 for the plain name; more where those before are known to be taken by other saves.
    split_bytes: see `divide`. retention: what the run keeps, as the expression that makes the rule.
    ranks: what many ranks agreed on of this save; `components` are then this rank's part.
    """

    epoch: int
    global_step: int
    branch: int
    sequence: int
    time: float
    reason: SaveReason
    components: Sequence[ComponentState]
    metrics: Mapping[str, float]
    directions: Mapping[str, str]
    config: Json = None
    parents: tuple[Parent, ...] = ()
    provenance: Mapping[str, Json] = field(default_factory=dict)
    id: str = field(default_factory=lambda: secrets.token_hex(16))
    attempt: int = 1
    split_bytes: int | None = None
    retention: str = ""
    ranks: Agreed | None = None


@dataclass(frozen=True, slots=True)
class SaveReceipt:
    """What was committed, and what it cost in seconds and bytes.

    bytes: of all files but the manifest; bytes_linked: how many of those were taken over from an
    earlier checkpoint and not written.
    """

    name: str
    manifest: Manifest
    seconds: float
    bytes: int
    bytes_linked: int = 0


@dataclass(frozen=True, slots=True)
class TensorFilePlan:
    """One tensor file before a byte of it is written."""

    name: str
    tensors: Mapping[str, Tensor]
    plan: FilePlan
    notes: Mapping[str, Mapping[str, Json]]


def save_checkpoint(
    run: RunStorage,
    request: SaveRequest,
    *,
    progress: Callable[[int, int], None] | None = None,
    earlier: EarlierFiles | None = None,
    proof: Callable[[], None] | None = None,
    cost: Callable[[int, int, float], Mapping[str, Json]] | None = None,
) -> SaveReceipt:
    """Write and commit one checkpoint; durable when this returns.

    progress: called with bytes done and bytes in total. earlier: tensor files to link instead of
    writing them again. proof: called when all is written, before anything becomes visible; what it
    raises ends the save. cost: from bytes written, bytes linked and seconds so far to the
    manifest's entry of what the save cost. Everything that can be refused is refused
    before the first byte is written. Raises UnsavableError, NoSpaceError or SaveError; in every
    case the staged folder is gone and earlier checkpoints are as they were.
    """
    began = clock.monotonic()
    division = divide(request.components, request.split_bytes)
    files = _plan_files(request.components, division)
    config = None if request.config is None else dump(request.config, indent=2) + b"\n"
    wanted = checkpoint_name(request.epoch, request.global_step)
    with run.stage(wanted, needed_bytes=_needed_bytes(files, config)) as staged:
        records, stored, linked = write_tensors(staged, files, progress, earlier)
        state = _state(request.components, division, stored)
        indexes = shard_indexes(request.components, division)
        for name, data in _small_files(state, config, indexes):
            staged.write_bytes(name, data)
            records[name] = FileRecord(len(data), digest_bytes(data))
        manifest = _manifest(request, records, division)
        if cost is not None:
            written = manifest.bytes - linked
            manifest = replace(manifest, cost=cost(written, linked, clock.monotonic() - began))
        staged.write_bytes(MANIFEST_FILE, render_manifest(manifest))
        if proof is not None:
            proof()
        name = publish(run, staged, request, manifest)
    if earlier is not None:
        earlier.remember(name, state)
    return SaveReceipt(name, manifest, clock.monotonic() - began, manifest.bytes, linked)


def _plan_files(components: Iterable[ComponentState], division: Division) -> list[TensorFilePlan]:
    grouped: dict[str, dict[str, Tensor]] = {}
    for component in components:
        for file, names in division[component.name].items():
            grouped.setdefault(file, {}).update({n: component.tensors[n] for n in names})
    return [
        TensorFilePlan(
            name,
            tensors,
            plan_file(tensors, {"format": "pt"}),
            {key: note for key, tensor in tensors.items() if (note := describe(tensor))},
        )
        for name, tensors in grouped.items()
    ]


def _needed_bytes(files: Sequence[TensorFilePlan], config: bytes | None) -> int:
    """An upper estimate: tensor files exactly, state.json by the number of its entries."""
    entries = sum(len(file.tensors) for file in files)
    tensors = sum(file.plan.total_bytes for file in files)
    return tensors + len(config or b"") + _SMALL_FILES_BYTES + _ENTRY_BYTES * entries


def write_tensors(
    staged: Staged | Joined,
    files: Sequence[TensorFilePlan],
    progress: Callable[[int, int], None] | None,
    earlier: EarlierFiles | None,
) -> tuple[dict[str, FileRecord], dict[str, TensorFileEntry], int]:
    """Records by file, entries by file, and the bytes that were linked."""
    total = sum(file.plan.total_bytes for file in files)
    done = linked = 0
    records: dict[str, FileRecord] = {}
    stored: dict[str, TensorFileEntry] = {}
    for file in files:
        before = done

        def advance(file_bytes: int, before: int = before) -> None:
            if progress is not None:
                progress(before + file_bytes, total)

        written = _link(staged, file, earlier)
        if written is None:
            written = write_tensor_file(
                staged, file.name, file.tensors, file.plan, progress=advance
            )
        else:
            linked += file.plan.total_bytes
        done += file.plan.total_bytes
        records[file.name] = FileRecord(file.plan.total_bytes, written.digest, len(file.tensors))
        stored[file.name] = TensorFileEntry(
            written.header,
            {name: digest.hex() for name, digest in written.tensors.items()},
            file.notes,
        )
    return records, stored, linked


def _state(
    components: Sequence[ComponentState],
    division: Division,
    stored: Mapping[str, TensorFileEntry],
) -> StateFile:
    entries = {}
    for component in components:
        files = tuple(division[component.name])
        entries[component.name] = ComponentEntry(
            component.name,
            component.kind,
            files[0] if files else None,
            component.tree,
            component.aliases,
            files[1:],
        )
    return StateFile(entries, stored)


def _link(
    staged: Staged | Joined, file: TensorFilePlan, earlier: EarlierFiles | None
) -> TensorFileDigests | None:
    """Take the file over from an earlier checkpoint; None if none has it or it cannot be linked."""
    found = None if earlier is None else earlier.find(file.name, file.tensors, file.plan)
    if found is None or not staged.link_from(found.checkpoint, file.name):
        return None
    return found.digests


def _small_files(
    state: StateFile, config: bytes | None, indexes: Mapping[str, bytes]
) -> Iterable[tuple[str, bytes]]:
    yield STATE_FILE, render_state(state)
    yield from indexes.items()
    if config is not None:
        yield CONFIG_FILE, config


def _manifest(
    request: SaveRequest, records: Mapping[str, FileRecord], division: Division
) -> Manifest:
    components = {}
    for component in request.components:
        files = tuple(division[component.name])
        components[component.name] = ComponentRecord(
            kind=component.kind,
            file=files[0] if files else None,
            tensors=len(component.tensors),
            bytes=sum(tensor.nbytes for tensor in component.tensors.values()),
            more_files=files[1:],
        )
    return manifest_of(request, components, records)


def manifest_of(
    request: SaveRequest,
    components: Mapping[str, ComponentRecord],
    files: Mapping[str, FileRecord],
    extra: Mapping[str, Json] | None = None,
    world: Mapping[str, Json] | None = None,
) -> Manifest:
    """The commit record of a request whose files are known. extra: keys of its own."""
    return Manifest(
        id=request.id,
        epoch=request.epoch,
        global_step=request.global_step,
        branch=request.branch,
        sequence=request.sequence,
        time=request.time,
        reason=request.reason,
        components=dict(components),
        files=dict(files),
        metrics=dict(request.metrics),
        directions=dict(request.directions),
        parents=request.parents,
        world=world or {"size": 1, "layout": "single"},
        provenance=dict(request.provenance),
        extra=({"retention": request.retention} if request.retention else {}) | dict(extra or {}),
    )


def publish(run: RunStorage, staged: Staged, request: SaveRequest, manifest: Manifest) -> str:
    """Commit under the first free name; a namesake with the same content is this save, retried.

    A process that died between the commit and its acknowledgement comes back with the same state
    and must not be turned away, nor leave the same checkpoint twice.
    """
    for attempt in range(request.attempt, _NAMESAKES_MAX):
        name = checkpoint_name(request.epoch, request.global_step, attempt)
        try:
            return staged.publish(name)
        except NameTakenError:
            if _same_content(run, name, manifest):
                return name
    raise NameTakenError(
        f"There are {_NAMESAKES_MAX} checkpoints of epoch {request.epoch} and step "
        f"{request.global_step} already",
        where=run.place,
        fix="give each save a step of its own",
    )


def _same_content(run: RunStorage, name: str, manifest: Manifest) -> bool:
    try:
        with run.open(name) as opened:
            found = read_manifest(opened)
    except LoadError:
        return False
    return dict(found.files) == dict(manifest.files) and found.branch == manifest.branch
