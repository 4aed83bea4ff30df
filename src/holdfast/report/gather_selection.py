"""Selections of the run, from `selection/*.json`: candidates, comparisons, samples, EMA sweeps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from holdfast.errors import FormatError
from holdfast.jsontext import parse_object
from holdfast.report.lines import read_small
from holdfast.report.text import clean
from holdfast.report.values import (
    Candidate,
    Pairwise,
    Sample,
    Selection,
    Sweep,
    SweepPoint,
)

SELECTIONS = "selection"
_SCHEMA = "holdfast-select/"
_SWEEP_SCHEMA = "holdfast-ema"
_FILES_MAX = 20
_ROWS_MAX = 200
_SAMPLES_MAX = 50
_SIGNIFICANT = 0.05


def read_selections(run: Path) -> tuple[list[Selection], list[str]]:
    """Every selection of the run, by file name, and notes on files that could not be read."""
    found: list[Selection] = []
    notes: list[str] = []
    files = sorted((run / SELECTIONS).glob("*.json"))[-_FILES_MAX:]
    for path in files:
        data = read_small(path)
        shown = clean(f"{SELECTIONS}/{path.name}", 300)
        if data is None:
            notes.append(f"{shown} is too large to be shown, or no plain file.")
            continue
        try:
            selection = _selection(parse_object(data, where=shown), shown)
        except FormatError as error:
            notes.append(f"{shown} could not be read: {clean(error.what)}.")
            continue
        if selection is not None:
            found.append(selection)
    return found, notes


def _selection(fields: Mapping[str, Any], file: str) -> Selection | None:
    """What the file says; None if it is of something else."""
    schema = str(fields.get("schema", ""))
    sweep = sweep_of(fields.get("sweep") if "sweep" in fields else fields)
    if not schema.startswith(_SCHEMA) and sweep is None:
        return None
    recommendation = _dict(fields.get("recommendation"))
    chosen = _chosen(fields, recommendation)
    best_of = _dict(fields.get("best_of"))
    standings = {str(s.get("name")): s for s in _dicts(best_of.get("standings"))}
    candidates = [
        _candidate(entry, standings.get(str(entry.get("name")), {}), chosen)
        for entry in _dicts(fields.get("candidates"))[:_ROWS_MAX]
    ]
    return Selection(
        file=file,
        metric=clean(fields.get("metric", "score"), 100),
        signature=clean(fields.get("signature") or best_of.get("signature") or ""),
        examples=_count(fields.get("examples", best_of.get("examples"))),
        chosen=clean(chosen, 200),
        sentence=_sentence(str(recommendation.get("reason") or "")),
        higher_is_better=_flag(fields, best_of),
        candidates=tuple(candidates),
        pairwise=tuple(_pairwise(fields.get("comparisons"))),
        samples=tuple(_samples(fields.get("samples"))),
        sweep=sweep,
        notes=tuple(_notes(fields, best_of)),
    )


def _sentence(text: str) -> str:
    """A clause as a sentence of its own."""
    shown = clean(text, 1000)
    return f"{shown[:1].upper()}{shown[1:]}{'' if shown.endswith('.') else '.'}" if shown else ""


def _notes(fields: Mapping[str, Any], best_of: Mapping[str, Any]) -> Iterator[str]:
    """What else to know: other recommendations, the luck of choosing, what was left out."""
    for other in _dicts(fields.get("recommendations"))[1:5]:
        use, name, reason = (other.get(key, "") for key in ("use", "candidate", "reason"))
        yield clean(f"For {use}: {name}, {reason}.", 500)
    luck, shrunk = _number(best_of.get("luck")), _number(best_of.get("shrunk_score"))
    if luck and shrunk is not None:
        yield (
            f"Choosing the best of so many flatters its score by about {luck:.2g}: "
            f"{shrunk:.4g} without that luck."
        )
    for name, why in list(_dict(fields.get("excluded")).items())[:10]:
        yield clean(f"Left out: {name}: {str(why).partition(chr(10))[0]}", 500)
    for note in _list(fields.get("notes"))[:20]:
        yield clean(note, 500)


def sweep_of(fields: object) -> Sweep | None:
    """An EMA sweep as `holdfast.posthoc.Sweep.to_dict` writes it; None for anything else."""
    known = _dict(fields)
    points = []
    for entry in _dicts(known.get("points"))[:_ROWS_MAX]:
        length, score = _number(entry.get("sigma_rel")), _number(entry.get("score"))
        if length is not None and score is not None:
            points.append(
                SweepPoint(
                    length,
                    score,
                    _number(entry.get("low")),
                    _number(entry.get("high")),
                    best=entry.get("best") is True,
                    tied=entry.get("tied") is True,
                )
            )
    if not points:
        return None
    return Sweep(tuple(points), "relative width of the EMA", known.get("higher_is_better") is True)


def _chosen(fields: Mapping[str, Any], recommendation: Mapping[str, Any]) -> str:
    for value in (recommendation.get("name"), recommendation.get("quality"), fields.get("chosen")):
        if isinstance(value, str):
            return value
        if isinstance(value, Mapping) and isinstance(value.get("name"), str):
            return str(value["name"])
    return ""


def _candidate(entry: Mapping[str, Any], standing: Mapping[str, Any], chosen: str) -> Candidate:
    merged = {**standing, **entry}
    interval = _dict(merged.get("interval"))
    name = str(merged.get("name", ""))
    return Candidate(
        name=clean(name, 200),
        kind=clean(merged.get("kind", ""), 40),
        score=_number(merged.get("score")),
        low=_number(interval.get("low")),
        high=_number(interval.get("high")),
        p_best=_number(merged.get("p_best")),
        tied=merged.get("tied") is True,
        chosen=bool(chosen) and name == chosen,
        detail=clean(_detail(entry), 300),
    )


def _detail(entry: Mapping[str, Any]) -> str:
    """Other names, what it is made of, and what it costs to serve."""
    cost = _dict(entry.get("cost"))
    parts = [f"the same as {name}" for name in _list(entry.get("also"))]
    members = _list(entry.get("members"))
    if len(members) > 1:
        parts.append(f"{len(members)} members")
    parameters, passes = _number(cost.get("parameters")), _number(cost.get("forward_passes"))
    if parameters is not None:
        parts.append(f"{parameters / 1e6:.3g} M parameters")
    if passes is not None and passes > 1:
        parts.append(f"{passes:g} forward passes")
    median = _number(_dict(cost.get("latency")).get("median_ms"))
    if median is not None:
        parts.append(f"{median:.3g} ms a request")
    return ", ".join(parts)


def _pairwise(value: object) -> Iterator[Pairwise]:
    entries = list(value.values()) if isinstance(value, Mapping) else value
    for entry in _dicts(entries)[:_ROWS_MAX]:
        bootstrap = _dict(entry.get("bootstrap"))
        interval = _dict(bootstrap.get("interval"))
        p = _number(entry.get("p_adjusted"))
        delta = _number(bootstrap.get("delta"))
        yield Pairwise(
            candidate=clean(entry.get("candidate", ""), 200),
            baseline=clean(entry.get("baseline", ""), 200),
            delta=delta,
            low=_number(interval.get("low")),
            high=_number(interval.get("high")),
            p=p,
            verdict=clean(
                entry.get("verdict") or _verdict(delta, p, entry.get("higher_is_better") is True)
            ),
        )


def _verdict(delta: float | None, p: float | None, higher_is_better: bool) -> str:
    if delta is None or p is None:
        return ""
    if p > _SIGNIFICANT:
        return "no evidence of a difference"
    return "better" if (delta > 0) == higher_is_better else "worse"


def _samples(value: object) -> Iterator[Sample]:
    for entry in _dicts(value)[:_SAMPLES_MAX]:
        outputs = _dict(entry.get("outputs") or entry.get("translations"))
        yield Sample(
            clean(entry.get("source", ""), 1000),
            clean(entry.get("reference", ""), 1000),
            tuple((clean(k, 200), clean(v, 1000)) for k, v in list(outputs.items())[:20]),
        )


def _flag(fields: Mapping[str, Any], best_of: Mapping[str, Any]) -> bool:
    return fields.get("higher_is_better", best_of.get("higher_is_better", True)) is not False


def _dict(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _dicts(value: object) -> list[Mapping[str, Any]]:
    return [entry for entry in _list(value) if isinstance(entry, Mapping)]


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def _count(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None
