"""References to one checkpoint: a path, `latest`, `best`, `best:METRIC`, `step:N`, `latest~N`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from holdfast.cli.listing import best_of, catalog_of
from holdfast.engine.catalog import Catalog
from holdfast.errors import CheckpointNotFoundError, ConfigError
from holdfast.values import CheckpointInfo

RunFolder = Annotated[Path, typer.Argument(help="The run folder.", show_default=False)]

_LATEST = re.compile(r"latest(?:~(\d{1,9}))?")
_STEP = re.compile(r"step:(\d{1,18})")
_BEST = re.compile(r"best(?::(.+))?", re.DOTALL)


def resolve(run: Path, ref: str) -> Path:
    """The checkpoint folder of `run` that `ref` means; a name or path stands for itself.

    Raises ConfigError if `ref` is no reference, CheckpointNotFoundError if it means nothing here.
    """
    for candidate in (run / ref, Path(ref)):
        if candidate.is_dir():
            return candidate
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
        return best_of(catalog, found[1], None)
    for info in catalog.infos:
        if info.name == ref:
            return info
    raise ConfigError(
        f"{ref!r} names no checkpoint here",
        fix="give a path, latest, latest~2, best, best:val_bleu or step:12000",
    )
