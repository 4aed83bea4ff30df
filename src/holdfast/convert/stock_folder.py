"""The weights of a folder that stock `torch.distributed.checkpoint` wrote."""

from __future__ import annotations

import time as clock
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from holdfast.convert.weights_file import FILE_SUFFIX, Consolidated, to_file
from holdfast.engine.catalog import read_catalog
from holdfast.engine.dcp_folder import DcpFolder
from holdfast.engine.save import SaveRequest
from holdfast.engine.state_file import ComponentEntry
from holdfast.engine.streamed import StreamedFile, save_streamed
from holdfast.session.derived import derived_record
from holdfast.session.objects import MODEL
from holdfast.state import component_of_module_state
from holdfast.storage import LocalRun
from holdfast.values import SaveReason


def of_stock(
    source: Path,
    target: Path,
    dry_run: bool,
    progress: Callable[[int, int], None] | None,
) -> Consolidated:
    """See `consolidate`. Raises LoadError, UnsavableError, SaveError."""
    folder = DcpFolder(source)
    names = folder.model()
    tensors = {name: folder.tensors[stored] for name, stored in names.items()}

    def read(name: str) -> Tensor:
        return folder.read(names[name])

    taken = set(names.values())
    others = [name for name in folder.tensors if name not in taken]
    left = tuple(dict.fromkeys(name.partition(".")[0] for name in [*others, *folder.others]))
    if target.suffix == FILE_SUFFIX:
        total = to_file(tensors, read, target, dry_run, progress)
        return Consolidated(target, folder.files, len(tensors), total, left)
    file = StreamedFile.laid_out(tensors, read)
    if dry_run:
        return Consolidated(target, folder.files, len(tensors), file.plan.total_bytes, left)
    run = LocalRun(target)
    name = f"{MODEL}{FILE_SUFFIX}"
    # No wrapper of the model and no extra state: nothing but its tensors is known.
    tree = component_of_module_state(MODEL, {}).tree
    record = derived_record(0, 0, {}, None)
    entries = [
        ComponentEntry(MODEL, "module", name, tree),
        ComponentEntry(record.name, record.kind, None, record.tree),
    ]
    receipt = save_streamed(run, _request(source, run), entries, {name: file}, progress=progress)
    return Consolidated(target / receipt.name, folder.files, len(tensors), receipt.bytes, left)


def _request(source: Path, run: LocalRun) -> SaveRequest:
    infos = read_catalog(run).infos
    return SaveRequest(
        # Such folders say neither epoch nor step in a way that all writers share.
        epoch=0,
        global_step=0,
        branch=infos[-1].branch if infos else 0,
        sequence=max((info.sequence for info in infos), default=-1) + 1,
        time=clock.time(),
        reason=SaveReason("imported", f"imported from {source.name}"),
        components=(),
        metrics={},
        directions={},
    )
