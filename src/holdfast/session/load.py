"""Loading one checkpoint, from a folder of ours or an original `.pt` file."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from holdfast.engine.open_checkpoint import ALONE, Reader
from holdfast.errors import CheckpointNotFoundError, naming
from holdfast.manifest import iso_time
from holdfast.session.agreement import counter_lines
from holdfast.session.checklist import Line
from holdfast.session.components import read_component
from holdfast.session.folder import FolderSource
from holdfast.session.mapped import MappedSource
from holdfast.session.objects import MODEL, LiveObjects
from holdfast.session.original import OriginalSource
from holdfast.session.report import Loaded
from holdfast.session.restore import EVERYTHING, Restored, restore_session
from holdfast.session.source import CheckpointSource
from holdfast.session.together import Together
from holdfast.session.wanted import Wanted

_DEFAULTS: Mapping[str, Any] = {
    "epoch": 0,
    "global_step": 0,
    "best_metric": None,
    "metrics": {},
    "metrics_history": [],
    "model_config": None,
    "extra_state": None,
}


@contextlib.contextmanager
def open_source(
    path: Path,
    progress: Callable[[int, int], None] | None = None,
    *,
    reader: Reader = ALONE,
) -> Iterator[CheckpointSource]:
    """Open a checkpoint folder, or an original `.pt` file, to restore from.

    Raises CheckpointNotFoundError if there is nothing, LoadError if it cannot be trusted.
    """
    if not path.exists():
        raise CheckpointNotFoundError(
            "There is no such checkpoint", where=str(path), fix="list what there is: holdfast ls"
        )
    if path.is_dir():
        with FolderSource.at(path, progress, reader=reader) as source:
            yield source
    else:
        yield OriginalSource(path)


def load_into(
    path: Path,
    objects: LiveObjects,
    wanted: Wanted = EVERYTHING,
    *,
    progress: Callable[[int, int], None] | None = None,
    together: Together | None = None,
) -> Loaded:
    """Restore the checkpoint at `path`; see `restore_session` for what can be raised."""
    if together is None:
        with open_source(path, progress) as source:
            return load_from(source, path, objects, wanted)
    with contextlib.ExitStack() as stack:
        with together.stage():
            opening = open_source(path, progress, reader=together.reader)
            source = stack.enter_context(opening)
        return load_from(source, path, objects, wanted, together)


def load_from(
    source: CheckpointSource,
    path: Path,
    objects: LiveObjects,
    wanted: Wanted = EVERYTHING,
    together: Together | None = None,
) -> Loaded:
    """Restore an opened source; `path` is where its components can be read again later."""
    with naming(source.place):
        if wanted.mapping is not None:
            source = MappedSource(source, wanted.mapping, MODEL)
        restored = restore_session(source, objects, wanted, together)
    values = _values(source, restored)

    def read(component: str) -> Any:
        with open_source(path) as again, naming(again.place):
            return read_component(again, component, wanted.device)

    return Loaded(
        info=source.info,
        values=values,
        run_state=restored.run_state,
        lines=(*restored.lines, *_record_lines(source, objects, values, restored.lines)),
        components=tuple(source.components()),
        read=read,
    )


def _values(source: CheckpointSource, restored: Restored) -> dict[str, Any]:
    """The dict `load` returns; the manifest, when there is one, decides epoch, step and time."""
    values = {key: restored.run_state.get(key, default) for key, default in _DEFAULTS.items()}
    values["metrics_history"] = list(values["metrics_history"])
    info = source.info
    if info is None:
        return values | {"timestamp": restored.run_state.get("timestamp")}
    # What was measured later stands in the manifest only.
    known = values["metrics"] if isinstance(values["metrics"], Mapping) else {}
    late = {name: value for name, value in info.metrics.items() if name not in known}
    if late:
        values["metrics"] = {**known, **late}
        values["metrics_history"].append(
            {"epoch": info.epoch, "global_step": info.global_step, "metrics": late}
        )
    return values | {
        "epoch": info.epoch,
        "global_step": info.global_step,
        "timestamp": iso_time(info.time),
    }


def _record_lines(
    source: CheckpointSource,
    objects: LiveObjects,
    values: Mapping[str, Any],
    lines: Sequence[Line],
) -> list[Line]:
    restored = {line.item for line in lines if line.status in ("restored", "mismatch")}
    notes = []
    if source.info is not None and source.info.reason.kind == "exception":
        why = f"saved while training broke off ({source.info.reason.text}): the batch in progress"
        notes.append(Line("moment", "note", f"{why} is not repeated"))
    history = Line("history", "restored", f"{len(values['metrics_history'])} metrics records")
    return [
        *notes,
        history,
        *counter_lines(objects, restored, values["epoch"], values["global_step"]),
    ]
