"""Rankings as a table and as data, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from holdfast.cli.listing import catalog_of, checkpoint_data, directions_of
from holdfast.cli.output import clean, table
from holdfast.engine.catalog import Catalog
from holdfast.errors import CheckpointNotFoundError, ConfigError
from holdfast.policy.ranking import Metric, Mode
from holdfast.selection.ranking import Ranked, pareto_set, rank_checkpoints


def metric_of(catalog: Catalog, metric: str | None, mode: str | None) -> Metric:
    """A metric with its direction, as saved where none is given. Raises ConfigError."""
    known = directions_of(catalog)
    name = metric or next(iter(known), None)
    if name is None:
        raise ConfigError("The run tracks no metric", fix="give --metric and --mode")
    wanted = mode or known.get(name)
    if wanted not in ("min", "max"):
        raise ConfigError(f"The direction of {name!r} is not known", fix="give --mode min or max")
    return Metric(name, cast(Mode, wanted))


def some_of(run: Path) -> Catalog:
    """The catalog. Raises CheckpointNotFoundError if it is empty."""
    catalog = catalog_of(run)
    if not catalog.entries:
        raise CheckpointNotFoundError("The run folder holds no checkpoint", where=str(run))
    return catalog


def ranking(
    run: Path,
    metric: str | None,
    mode: str | None,
    subject_to: Sequence[str],
    smooth: int,
    limit: int | None,
) -> tuple[dict[str, Any], str]:
    """One metric, best first."""
    catalog = some_of(run)
    wanted = metric_of(catalog, metric, mode)
    found = rank_checkpoints(
        catalog.infos, wanted.name, wanted.mode, subject_to=subject_to, smooth=smooth
    )
    shown = found.places[:limit]
    data = {
        "schema": "holdfast-rank/1",
        "metric": wanted.name,
        "mode": wanted.mode,
        "smooth": smooth,
        "places": [_place(number, place) for number, place in enumerate(shown, start=1)],
        "excluded": dict(found.excluded),
    }
    header = ["place", "name", "step", wanted.name, "tied with"]
    rows = [
        [
            str(number),
            place.info.name,
            str(place.info.global_step),
            f"{place.value:.6g}",
            ", ".join(place.tied_with),
        ]
        for number, place in enumerate(shown, start=1)
    ]
    return data, "\n".join([table(header, rows, "rlrrl"), *_left_out(found.excluded)])


def pareto(run: Path, metrics: Sequence[str]) -> tuple[dict[str, Any], str]:
    """Several metrics: the checkpoints that no other beats in all."""
    catalog = some_of(run)
    wanted = []
    for text in metrics:
        name, colon, mode = text.rpartition(":")
        wanted.append(
            metric_of(catalog, name, mode)
            if colon and mode in ("min", "max")
            else metric_of(catalog, text, None)
        )
    found = pareto_set(catalog.infos, wanted)
    data = {
        "schema": "holdfast-rank/1",
        "metrics": [{"metric": metric.name, "mode": metric.mode} for metric in wanted],
        "front": [checkpoint_data(info) for info in found.front],
        "dominated": dict(found.dominated),
        "excluded": dict(found.excluded),
    }
    header = ["name", "step", *(metric.name for metric in wanted)]
    rows = [
        [
            info.name,
            str(info.global_step),
            *(f"{info.metrics[metric.name]:.6g}" for metric in wanted),
        ]
        for info in found.front
    ]
    beaten = [f"{clean(name)} is beaten by {clean(by)}" for name, by in found.dominated.items()]
    text = table(header, rows, "lr" + "r" * len(wanted))
    return data, "\n".join([text, *beaten, *_left_out(found.excluded)])


def _place(number: int, place: Ranked) -> dict[str, Any]:
    return {
        "place": number,
        "value": place.value,
        "raw": place.raw,
        "tied_with": list(place.tied_with),
        "checkpoint": checkpoint_data(place.info),
    }


def _left_out(excluded: Any) -> list[str]:
    return [f"left out: {clean(name)}: {clean(why)}" for name, why in excluded.items()]
