"""Which checkpoints of a run to average: the last, the best, evenly spaced ones."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from holdfast.engine.catalog import read_catalog, read_manifest
from holdfast.errors import (
    CheckpointNotFoundError,
    ConfigError,
    HoldfastWarning,
    PolicyError,
)
from holdfast.policy import Mode
from holdfast.selection.ranking import Constraint, Ranking, rank_checkpoints
from holdfast.storage import LocalRun
from holdfast.values import CheckpointInfo

PathLike: TypeAlias = "str | os.PathLike[str]"


def last_k(run: PathLike, k: int) -> list[Path]:
    """The newest `k` checkpoints of a run, oldest first; fewer if there are fewer.

    Raises CheckpointNotFoundError if there are none.
    """
    _check_k(k)
    return [Path(run) / info.name for info in _infos(run)[-k:]]


def top_k(
    run: PathLike,
    metric: str,
    mode: Mode,
    k: int,
    *,
    subject_to: Sequence[Constraint | str] = (),
    smooth: int = 1,
) -> list[Path]:
    """The best `k` checkpoints of a run by a metric, best first; see `rank_checkpoints`.

    Raises PolicyError if none qualifies, CheckpointNotFoundError if there are none.
    """
    _check_k(k)
    ranking = rank_checkpoints(_infos(run), metric, mode, subject_to=subject_to, smooth=smooth)
    _require_some(ranking)
    return [Path(run) / info.name for info in ranking.infos[:k]]


def spaced(run: PathLike, k: int, every_steps: int) -> list[Path]:
    """Up to `k` checkpoints at least `every_steps` optimizer steps apart, back from the newest.

    Returned oldest first. Wide spacing with few members beats narrow spacing with many. Raises
    CheckpointNotFoundError if there are none.
    """
    _check_k(k)
    if type(every_steps) is not int or every_steps < 1:
        raise ConfigError(f"every_steps is {every_steps!r}; it must be at least 1")
    infos = _infos(run)
    branch = [info for info in infos if info.branch == infos[-1].branch]
    chosen: list[CheckpointInfo] = []
    for info in reversed(branch):
        if not chosen or chosen[-1].global_step - info.global_step >= every_steps:
            chosen.append(info)
    return [Path(run) / info.name for info in reversed(chosen[:k])]


def rank_paths(
    checkpoints: Sequence[PathLike],
    metric: str,
    mode: Mode,
    *,
    subject_to: Sequence[Constraint | str] = (),
    smooth: int = 1,
) -> tuple[list[Path], dict[Path, str]]:
    """Checkpoint folders and original `.pt` files, best first; those excluded, with the reason.

    Folders cost one small file each. Raises PolicyError if none has the metric, and LoadError for
    a checkpoint that cannot be trusted.
    """
    paths: dict[str, Path] = {}
    infos: list[CheckpointInfo] = []
    for index, checkpoint in enumerate(checkpoints):
        info = _info(Path(checkpoint), index)
        infos.append(info)
        paths[info.id] = Path(checkpoint)
    if not infos:
        raise ConfigError("There are no checkpoints to choose from", fix="give at least one")
    ranking = rank_checkpoints(infos, metric, mode, subject_to=subject_to, smooth=smooth)
    excluded = {paths[i.id]: ranking.excluded[i.name] for i in infos if i.name in ranking.excluded}
    return [paths[info.id] for info in ranking.infos], excluded


def warn_of_excluded(excluded: dict[Path, str]) -> None:
    """Say which checkpoints were not ranked, and why."""
    if excluded:
        listing = "; ".join(f"{path.name}: {reason}" for path, reason in excluded.items())
        warnings.warn(
            f"{len(excluded)} checkpoints were not ranked: {listing}",
            HoldfastWarning,
            stacklevel=3,
        )


def _info(path: Path, index: int) -> CheckpointInfo:
    """The manifest's view; for `.pt` files, of the metrics inside. Names are paths: unique."""
    if path.is_dir():
        with LocalRun(path.resolve().parent).open(path.resolve().name) as opened:
            manifest = read_manifest(opened)
        # The same folder may be listed by two names.
        return _renamed(manifest.info(str(path)), f"{manifest.id}-{index}")
    if not path.exists():
        raise CheckpointNotFoundError("There is no such checkpoint", where=str(path))
    return _original_info(path, index)


def _renamed(info: CheckpointInfo, identity: str) -> CheckpointInfo:
    return CheckpointInfo(
        identity,
        info.name,
        info.epoch,
        info.global_step,
        info.branch,
        info.sequence,
        info.time,
        info.bytes,
        info.metrics,
    )


def _original_info(path: Path, index: int) -> CheckpointInfo:
    from holdfast.engine.original import read_original

    content = read_original(path, mapped=True)
    metrics = content.get("metrics")
    numbers = {
        name: number
        for name, value in (metrics.items() if isinstance(metrics, dict) else ())
        if isinstance(name, str) and (number := _number(value)) is not None
    }
    epoch, step = content.get("epoch"), content.get("global_step")
    return CheckpointInfo(
        id=f"original-{index}",
        name=str(path),
        epoch=epoch if type(epoch) is int else 0,
        global_step=step if type(step) is int else 0,
        branch=0,
        sequence=index,
        time=0.0,
        bytes=path.stat().st_size,
        metrics=numbers,
    )


def _number(value: object) -> float | None:
    """A metric as `.pt` files hold it: a number, or one inside a tensor or NumPy value."""
    item = getattr(value, "item", None)
    try:
        number = item() if callable(item) else value
    except (ValueError, RuntimeError):
        return None
    return float(number) if isinstance(number, (int, float)) else None


def _infos(run: PathLike) -> list[CheckpointInfo]:
    infos = read_catalog(LocalRun(run)).infos
    if not infos:
        raise CheckpointNotFoundError(
            "The run folder holds no checkpoint", where=str(run), fix="give the folder of a run"
        )
    return infos


def _check_k(k: object) -> None:
    if type(k) is not int or k < 1:
        raise ConfigError(f"k is {k!r}; it must be a whole number of at least 1")


def _require_some(ranking: Ranking) -> None:
    if not ranking.places:
        reasons = "; ".join(f"{name}: {why}" for name, why in ranking.excluded.items())
        raise PolicyError(
            f"No checkpoint qualifies: {reasons}", fix="relax a constraint, or train on"
        )
