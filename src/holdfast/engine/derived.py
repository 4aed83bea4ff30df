"""Committing a checkpoint whose model is computed while it is written, never whole in memory."""

from __future__ import annotations

import time as clock
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from holdfast.digest import PREFIX, combine, digest_bytes, raw_digest
from holdfast.engine.catalog import read_manifest
from holdfast.engine.save import SaveReceipt, SaveRequest, manifest_of
from holdfast.engine.state_file import ComponentEntry, StateFile, TensorFileEntry, render_state
from holdfast.errors import LoadError
from holdfast.jsontext import Json, dump
from holdfast.manifest import (
    CONFIG_FILE,
    MANIFEST_FILE,
    STATE_FILE,
    ComponentRecord,
    FileRecord,
    Manifest,
    render_manifest,
)
from holdfast.storage.protocol import Block, NameTakenError, RunStorage
from holdfast.tensorfile import FilePlan

_MODEL, _MODEL_FILE = "model", "model.safetensors"
_SMALL_FILES_BYTES = 1 << 20
_NAMESAKES_MAX = 1000


@dataclass(frozen=True, slots=True)
class ComputedModel:
    """A model as it will be written.

    blocks: yields the data section of `plan` in file order; digests: raw digest of every tensor,
    asked for once the blocks are exhausted. tree, aliases, notes: as in state.json.
    """

    plan: FilePlan
    blocks: Callable[[], Iterator[Block]]
    digests: Callable[[], Mapping[str, bytes]]
    tree: Json
    aliases: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)


def save_computed(
    run: RunStorage,
    name: str,
    request: SaveRequest,
    model: ComputedModel,
    *,
    extra: Mapping[str, Json],
    progress: Callable[[int, int], None] | None = None,
) -> SaveReceipt:
    """Write and commit one checkpoint of a computed model; durable when this returns.

    name: of the folder; _2 and so on is appended while others have it, and one of the same content
    is returned instead. request: its components are objects without tensors. extra: further keys
    of the manifest. Whatever `blocks` raises ends the attempt and passes through; nothing of it
    is left. Raises NoSpaceError or SaveError.
    """
    began = clock.monotonic()
    total = model.plan.total_bytes
    with run.stage(name, needed_bytes=total + _SMALL_FILES_BYTES) as staged:

        def advance(done: int) -> None:
            if progress is not None:
                progress(done, total)

        staged.write_blocks(_MODEL_FILE, total, _file_blocks(model), progress=advance)
        state, records = _described(model, request)
        small = [(STATE_FILE, render_state(state))]
        if request.config is not None:
            small.append((CONFIG_FILE, dump(request.config, indent=2) + b"\n"))
        for file, data in small:
            staged.write_bytes(file, data)
            records[file] = FileRecord(len(data), digest_bytes(data))
        manifest = _manifest(model, request, records, extra)
        staged.write_bytes(MANIFEST_FILE, render_manifest(manifest))
        for attempt in range(1, _NAMESAKES_MAX):
            wanted = name if attempt == 1 else f"{name}_{attempt}"
            try:
                found = staged.publish(wanted)
            except NameTakenError:
                if not _same_content(run, wanted, manifest):
                    continue
                found = wanted
            return SaveReceipt(found, manifest, clock.monotonic() - began, manifest.bytes)
    raise NameTakenError(f"There are {_NAMESAKES_MAX} checkpoints named {name}", where=run.place)


def _file_blocks(model: ComputedModel) -> Iterable[Block]:
    yield model.plan.header
    yield from model.blocks()


def _described(
    model: ComputedModel, request: SaveRequest
) -> tuple[StateFile, dict[str, FileRecord]]:
    header = raw_digest(model.plan.header)
    found = model.digests()
    digests = {name: found[name] for name in model.plan.specs}
    components = {
        _MODEL: ComponentEntry(_MODEL, "module", _MODEL_FILE, model.tree, model.aliases),
        **{c.name: ComponentEntry(c.name, c.kind, None, c.tree) for c in request.components},
    }
    entry = TensorFileEntry(
        PREFIX + header.hex(), {name: raw.hex() for name, raw in digests.items()}, model.notes
    )
    record = FileRecord(
        model.plan.total_bytes, combine([header, *digests.values()]), len(model.plan.specs)
    )
    return StateFile(components, {_MODEL_FILE: entry}), {_MODEL_FILE: record}


def _manifest(
    model: ComputedModel,
    request: SaveRequest,
    records: Mapping[str, FileRecord],
    extra: Mapping[str, Json],
) -> Manifest:
    plan = model.plan
    components = {
        _MODEL: ComponentRecord("module", _MODEL_FILE, len(plan.specs), plan.data_bytes),
        **{c.name: ComponentRecord(c.kind, None, 0, 0) for c in request.components},
    }
    return manifest_of(request, components, records, extra)


def _same_content(run: RunStorage, name: str, manifest: Manifest) -> bool:
    try:
        with run.open(name) as opened:
            found = read_manifest(opened)
    except LoadError:
        return False
    same_files = dict(found.files) == dict(manifest.files)
    return same_files and dict(found.extra) == dict(manifest.extra)
