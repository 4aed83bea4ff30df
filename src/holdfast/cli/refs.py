"""References to one checkpoint, the same for every command.

    path                    a checkpoint folder or a file; a run folder stands for its newest
    latest, latest~2        the newest, the second before it
    best, best:val_bleu     the best by the deciding metric, or by another one
    step:12000              the newest of that global step
    checkpoint_epoch0003…   the name of a folder
    RUN@reference           any of these in the run folder RUN

Without `RUN@` the run is `$HOLDFAST_RUN`, or else the current folder. The words latest, best and
step:N are never taken for paths: pointers of that name may be out of date (`./latest` is a path).
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from holdfast.errors import CheckpointNotFoundError, ConfigError
from holdfast.manifest.names import MANIFEST_FILE
from holdfast.values import CheckpointInfo

if TYPE_CHECKING:
    from holdfast.engine.catalog import Catalog

RUN_VARIABLE = "HOLDFAST_RUN"
_FORMS = "give a path, [RUN@]latest, latest~2, best, best:val_bleu, step:12000 or a name"

_LATEST = re.compile(r"latest(?:~(\d{1,9}))?")
_STEP = re.compile(r"step:(\d{1,18})")
_BEST = re.compile(r"best(?::(.+))?", re.DOTALL)
_WORDS = (_LATEST, _STEP, _BEST)


def _suggest(incomplete: str) -> list[str]:
    """Completions of a reference; nothing is opened beyond the folder's list of names."""
    prefix, at, _ = incomplete.rpartition("@")
    folder = Path(prefix) if at else this_run()
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    except OSError:
        names = []
    known = ["latest", "best", *(name for name in names if name.startswith("checkpoint_"))]
    return [f"{prefix}{at}{name}" for name in known if f"{prefix}{at}{name}".startswith(incomplete)]


RunFolder = Annotated[
    Path, typer.Argument(help="The run folder.", envvar=RUN_VARIABLE, show_default="current folder")
]
CheckpointRef = Annotated[
    str,
    typer.Argument(
        metavar="CHECKPOINT",
        help="Which one; see holdfast --help.",
        autocompletion=_suggest,
        show_default=False,
    ),
]


def this_run() -> Path:
    """The run that references without `RUN@` are about."""
    return Path(os.environ.get(RUN_VARIABLE) or ".")


def locate(ref: str, run: Path | None = None) -> Path:
    """The checkpoint folder, or file, that `ref` means. run: instead of `this_run`.

    Raises ConfigError if `ref` is no reference, CheckpointNotFoundError if it means nothing here.
    """
    path = Path(ref)
    if _is_word(ref):
        return resolve(run or this_run(), ref)
    if path.is_file() or (path / MANIFEST_FILE).is_file():
        return path
    if path.is_dir():
        return _newest_of(path)
    place, at, inner = ref.rpartition("@")
    if at and Path(place).is_dir():
        return resolve(Path(place), inner)
    return resolve(run or this_run(), ref)


def checkpoint_folder(ref: str, run: Path | None = None) -> Path:
    """As `locate`, of what must be a checkpoint folder of ours."""
    path = locate(ref, run)
    if not (path / MANIFEST_FILE).is_file():
        raise CheckpointNotFoundError("That is no checkpoint folder", where=str(path), fix=_FORMS)
    return path


def resolve(run: Path, ref: str) -> Path:
    """The checkpoint folder of `run` that `ref` means; a name or path stands for itself.

    Raises ConfigError if `ref` is no reference, CheckpointNotFoundError if it means nothing here.
    """
    for candidate in () if _is_word(ref) else (run / ref, Path(ref)):
        if (candidate / MANIFEST_FILE).is_file():
            return candidate
    from holdfast.cli.listing import catalog_of

    return run / info_of(catalog_of(run), ref).name


def info_of(catalog: Catalog, ref: str) -> CheckpointInfo:
    """The checkpoint of `catalog` that `ref` means."""
    if found := _LATEST.fullmatch(ref):
        back = int(found[1] or 0)
        if back >= len(catalog.infos):
            raise CheckpointNotFoundError(
                f"There are {len(catalog.infos)} checkpoints, so {ref!r} means none of them"
            )
        return catalog.infos[-1 - back]
    if found := _STEP.fullmatch(ref):
        at = [info for info in catalog.infos if info.global_step == int(found[1])]
        if not at:
            raise CheckpointNotFoundError(f"There is no checkpoint at step {found[1]}")
        return at[-1]
    if found := _BEST.fullmatch(ref):
        from holdfast.cli.listing import best_of

        return best_of(catalog, found[1], None)
    for info in catalog.infos:
        if info.name == ref:
            return info
    for unreadable in catalog.unreadable:
        if unreadable.name == ref:
            raise unreadable.error
    if ref.startswith("checkpoint_") or os.sep in ref:
        raise CheckpointNotFoundError(f"There is no checkpoint {ref!r}", fix=_FORMS)
    raise ConfigError(f"{ref!r} names no checkpoint here", fix=_FORMS)


def _is_word(ref: str) -> bool:
    return any(word.fullmatch(ref) for word in _WORDS)


def _newest_of(folder: Path) -> Path:
    """A run stands for its newest; a folder of another layout for itself."""
    from holdfast.cli.listing import catalog_of

    newest = catalog_of(folder).newest
    return folder if newest is None else folder / newest.name
