"""One plain checkpoint, or one file of weights, of what many ranks saved in pieces.

Needs no process group and no GPU. Tensors are put together one at a time.
"""

from __future__ import annotations

import os
import time as clock
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from holdfast.convert.stock_folder import of_stock
from holdfast.convert.weights_file import FILE_SUFFIX, Consolidated, to_file
from holdfast.engine.catalog import read_catalog
from holdfast.engine.checkpoint_files import CheckpointFiles, open_files
from holdfast.engine.dcp_folder import is_dcp_folder
from holdfast.engine.open_checkpoint import OpenCheckpoint
from holdfast.engine.save import SaveRequest
from holdfast.engine.state_file import ComponentEntry
from holdfast.engine.streamed import StreamedFile, save_streamed
from holdfast.engine.verify import read_proven
from holdfast.errors import ConfigError
from holdfast.jsontext import MAX_BYTES, Json, parse
from holdfast.manifest import CONFIG_FILE
from holdfast.session.objects import MODEL, RNG, RUN
from holdfast.state import StoredComponent, StoredTensor, plan_value
from holdfast.storage import LocalRun
from holdfast.values import Parent, SaveReason

OBJECTS_FILE = "state.safetensors"


def consolidate(
    checkpoint: str | os.PathLike[str],
    to: str | os.PathLike[str],
    *,
    dry_run: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Consolidated:
    """Make one plain checkpoint of a sharded one, on the CPU, without a process group.

    checkpoint: a sharded one of ours, or a folder that stock `torch.distributed.checkpoint` wrote,
    of which only the weights are taken: what is under "model" where that is, else all tensors. It
    is read without unpickling its index, and has no digests that could be proven.
    to: a run folder, which gets a checkpoint of one process with every component, or a file name
    that ends in .safetensors, for the model's tensors alone (tied ones under each name). Left out
    of a checkpoint are random states and what each of several ranks kept for itself, except the
    run's record, which is rank 0's: another number of ranks does not take them either. dry_run:
    prove that everything could be laid out, write nothing.

    That the pieces cover every tensor is proven before a byte is written, every piece while it is
    read; memory: two of the largest tensors and some 100 MiB. progress: bytes done and in total.
    Raises CheckpointNotFoundError, LoadError, ConfigError if one process saved it, UnsavableError,
    SaveError. Nothing is visible then.
    """
    source, target = Path(checkpoint).resolve(), Path(to)
    if is_dcp_folder(source):
        return of_stock(source, target, dry_run, progress)
    with open_files(LocalRun(source.parent), source.name) as files:
        if not files.parts:
            raise ConfigError(
                "One process saved it: there is nothing to put together",
                where=files.place,
                fix="holdfast export writes its weights as one file",
            )
        if target.suffix == FILE_SUFFIX:
            return _weights_of(files, target, dry_run, progress)
        return _to_run(files, target, dry_run, progress)


def _weights_of(
    files: CheckpointFiles,
    target: Path,
    dry_run: bool,
    progress: Callable[[int, int], None] | None,
) -> Consolidated:
    opened = OpenCheckpoint(files)
    stored = opened.stored(MODEL)
    tensors = _weights(stored)

    def read(name: str) -> Tensor:
        home = stored.aliases.get(name, name)
        return opened.read(MODEL, [home])[home]

    total = to_file(tensors, read, target, dry_run, progress)
    others = tuple(name for name in files.manifest.components if name != MODEL)
    return Consolidated(target, len(files.parts), len(tensors), total, others)


def _weights(stored: StoredComponent) -> dict[str, StoredTensor]:
    """A state dict's names; what only extra state refers to is named by its path and left out."""
    targets = plan_value(stored, device=torch.device("meta")).targets
    private = {name for name in targets if name.startswith("extra")}
    found = {name: facts for name, facts in stored.tensors.items() if name not in private}
    return found | {name: found[home] for name, home in stored.aliases.items()}


def _to_run(
    files: CheckpointFiles,
    target: Path,
    dry_run: bool,
    progress: Callable[[int, int], None] | None,
) -> Consolidated:
    opened, manifest, ranks = OpenCheckpoint(files), files.manifest, len(files.parts)
    if target.is_file():
        raise ConfigError(
            "That is a file", where=str(target), fix="name a run folder, or end in .safetensors"
        )
    left = tuple(name for name in manifest.components if _only_for_ranks(opened, name))
    stored = {name: opened.stored(name) for name in manifest.components if name not in left}
    layout: dict[str, dict[str, StoredTensor]] = {}
    homes: dict[tuple[str, str], str] = {}
    entries = []
    for name, component in stored.items():
        file = None
        if component.tensors:
            file = OBJECTS_FILE if component.kind == "object" else f"{name}{FILE_SUFFIX}"
            layout.setdefault(file, {}).update(component.tensors)
            homes |= {(file, tensor): name for tensor in component.tensors}
        entries.append(
            ComponentEntry(name, component.kind, file, component.tree, component.aliases)
        )

    def reader(file: str) -> Callable[[str], Tensor]:
        return lambda name: opened.read(homes[file, name], [name])[name]

    made = {file: StreamedFile.laid_out(tensors, reader(file)) for file, tensors in layout.items()}
    count = sum(map(len, layout.values()))
    if dry_run:
        planned = sum(file.plan.total_bytes for file in made.values())
        return Consolidated(target, ranks, count, planned, left)
    run = LocalRun(target)
    receipt = save_streamed(
        run, _request(files, run), entries, made, extra=manifest.extra, progress=progress
    )
    return Consolidated(target / receipt.name, ranks, count, receipt.bytes, left)


def _only_for_ranks(opened: OpenCheckpoint, component: str) -> bool:
    if opened.world_size == 1 or component == RUN:
        return False
    return component == RNG or opened.kept_per_rank(component)


def _request(files: CheckpointFiles, run: LocalRun) -> SaveRequest:
    manifest = files.manifest
    infos = read_catalog(run).infos
    beside = any(info.id == manifest.id for info in infos)
    newest = infos[-1].branch if infos else 0
    return SaveRequest(
        epoch=manifest.epoch,
        global_step=manifest.global_step,
        # In its own run it must not become newer than what was trained after it.
        branch=manifest.branch if beside else newest,
        sequence=max((info.sequence for info in infos), default=-1) + 1,
        time=clock.time(),
        reason=SaveReason("consolidated", f"consolidated from {files.name}"),
        components=(),
        metrics=manifest.metrics,
        directions=manifest.directions,
        config=_config(files),
        parents=(
            Parent("consolidated_from", manifest.id, files.name, manifest.global_step),
            *manifest.parents,
        ),
        provenance=manifest.provenance,
    )


def _config(files: CheckpointFiles) -> Json:
    found = files.manifest.files.get(CONFIG_FILE)
    if found is None:
        return None
    data = read_proven(files.opened, CONFIG_FILE, found, max_bytes=MAX_BYTES)
    return parse(data, where=f"{files.place}/{CONFIG_FILE}")
