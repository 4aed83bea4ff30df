"""One plain checkpoint, or one file of weights, of what many ranks saved in pieces.

Needs no process group and no GPU. Tensors are put together one at a time.
"""

from __future__ import annotations

import os
import time as clock
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from holdfast.engine.catalog import read_catalog
from holdfast.engine.checkpoint_files import CheckpointFiles, open_files
from holdfast.engine.dcp_folder import DcpFolder, is_dcp_folder
from holdfast.engine.open_checkpoint import OpenCheckpoint
from holdfast.engine.save import SaveRequest
from holdfast.engine.state_file import ComponentEntry
from holdfast.engine.streamed import StreamedFile, save_streamed
from holdfast.engine.verify import read_proven
from holdfast.errors import ConfigError, SaveError
from holdfast.jsontext import MAX_BYTES, Json, parse
from holdfast.manifest import CONFIG_FILE
from holdfast.session.objects import MODEL, RNG, RUN
from holdfast.state import StoredComponent, StoredTensor, plan_value
from holdfast.storage import LocalRun
from holdfast.storage.block_file import write_block_file
from holdfast.storage.single_file import commit_file
from holdfast.tensorfile import dtype_name
from holdfast.values import Parent, SaveReason

OBJECTS_FILE = "state.safetensors"
FILE_SUFFIX = ".safetensors"


@dataclass(frozen=True, slots=True)
class Consolidated:
    """What was made, or would be.

    path: the checkpoint folder or the file; of a trial the place given. ranks: how many had saved
    it (of a stock distributed checkpoint: how many files it has). tensors, bytes: what is stored.
    left_out: components that were not taken over.
    """

    path: Path
    ranks: int
    tensors: int
    bytes: int
    left_out: tuple[str, ...]


def consolidate(
    checkpoint: str | os.PathLike[str],
    to: str | os.PathLike[str],
    *,
    dry_run: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Consolidated:
    """Make one plain checkpoint of a sharded one, on the CPU, without a process group.

    checkpoint: a sharded one of ours, or a folder that stock `torch.distributed.checkpoint` wrote,
    of which only the weights can be taken: what is under "model" where that is, else all tensors.
    It is read without unpickling its index, and has no digests that could be proven.
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
        return _of_stock(source, target, dry_run, progress)
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


def _of_stock(
    source: Path,
    target: Path,
    dry_run: bool,
    progress: Callable[[int, int], None] | None,
) -> Consolidated:
    folder = DcpFolder(source)
    if target.suffix != FILE_SUFFIX:
        raise ConfigError(
            "Of a stock distributed checkpoint only the weights can be taken",
            where=str(source),
            fix="name a file that ends in .safetensors",
        )
    names = folder.model()
    tensors = {name: folder.tensors[stored] for name, stored in names.items()}
    total = _to_file(tensors, lambda name: folder.read(names[name]), target, dry_run, progress)
    taken = set(names.values())
    others = [name for name in folder.tensors if name not in taken]
    left = tuple(dict.fromkeys(name.partition(".")[0] for name in [*others, *folder.others]))
    return Consolidated(target, folder.files, len(tensors), total, left)


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

    total = _to_file(tensors, read, target, dry_run, progress)
    others = tuple(name for name in files.manifest.components if name != MODEL)
    return Consolidated(target, len(files.parts), len(tensors), total, others)


def _to_file(
    tensors: Mapping[str, StoredTensor],
    read: Callable[[str], Tensor],
    target: Path,
    dry_run: bool,
    progress: Callable[[int, int], None] | None,
) -> int:
    """Write a stock safetensors file; its bytes."""
    raw = [name for name, facts in tensors.items() if dtype_name(facts.dtype).raw]
    if raw:
        raise SaveError(
            f"Stock safetensors cannot hold the dtype of {raw[0]} ({tensors[raw[0]].dtype})",
            where=str(target),
            fix="consolidate into a run folder",
        )
    file = StreamedFile.laid_out(tensors, read)
    total = file.plan.total_bytes

    def advance(count: int) -> None:
        if progress is not None:
            progress(count, total)

    def write(path: Path) -> None:
        write_block_file(path, total, file.blocks(), direct=False, progress=advance)

    if not dry_run:
        commit_file(target, write)
    return total


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
