"""Deployment cards: the `card.json` of every release made of the run, flattened to rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from holdfast.errors import FormatError
from holdfast.jsontext import parse_object
from holdfast.report.lines import read_small
from holdfast.report.text import clean, number, size
from holdfast.report.values import Release

CARD = "card.json"
_SCHEMA = "holdfast-card/1"
_CARDS_MAX = 10
_ROWS_MAX = 200
_CARD_BYTES_MAX = 4 << 20
_LIST_MAX = 12


def read_releases(run: Path, also: Sequence[Path] = ()) -> tuple[list[Release], list[str]]:
    """The cards in the run's folder, one or two levels down, or beside it; notes on others.

    also: release folders that are elsewhere.
    """
    releases: list[Release] = []
    notes: list[str] = []
    for path in [*(folder / CARD for folder in also), *_cards(run)[:_CARDS_MAX]]:
        data = read_small(path, _CARD_BYTES_MAX)
        shown = clean(path, 300)
        if data is None:
            continue
        try:
            card = parse_object(data, where=shown)
        except FormatError as error:
            notes.append(f"The deployment card {shown} could not be read: {clean(error.what)}.")
            continue
        rows = list(_summary(card) if card.get("schema") == _SCHEMA else _rows(card, ""))
        releases.append(Release(shown, tuple(rows[:_ROWS_MAX])))
    return releases, notes


def _cards(run: Path) -> list[Path]:
    found = [*run.glob(f"*/{CARD}"), *run.glob(f"*/*/{CARD}")]
    if run.name == "checkpoints":
        found += [*run.parent.glob(f"*/{CARD}"), *run.parent.glob(f"*/*/{CARD}")]
    return sorted(set(found))


def _summary(card: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What a release's card says, in the rows that decide whether to use it."""
    yield "release", clean(f"{card.get('name', '')} {card.get('version', '')}".strip())
    for key in ("description", "created", "licence", "digest"):
        if card.get(key):
            yield key, clean(card[key])
    origin = _dict(card.get("provenance"))
    yield "made of", clean(f"{origin.get('name', '')}, step {origin.get('global_step', 'unknown')}")
    weights = _dict(card.get("weights"))
    if weights:
        dtypes = ", ".join(map(str, _list(weights.get("dtypes"))))
        nbytes = weights.get("bytes")
        shown = size(nbytes) if isinstance(nbytes, (int, float)) else ""
        yield "weights", clean(f"{weights.get('numbers', '')} numbers, {shown}, {dtypes}")
    for metric in _list(card.get("metrics"))[:20]:
        one = _dict(metric)
        yield clean(one.get("name", "metric"), 100), clean(_plain(one.get("value")))
    for artifact in _list(card.get("artifacts"))[:20]:
        one = _dict(artifact)
        passed = "passed its gate" if one.get("passed") is True else "did not pass"
        worst = _plain(one.get("max_difference"))
        cases = len(_list(one.get("cases")))
        label = f"{one.get('graph', '')} as {one.get('format', '')}"
        yield clean(label, 120), clean(f"{passed}: {cases} cases, differs by {worst} at most")
    for refused in _list(card.get("refused"))[:20]:
        one = _dict(refused)
        reasons = "; ".join(map(str, _list(one.get("reasons"))))
        yield (
            clean(f"{one.get('graph', '')} as {one.get('format', '')}", 120),
            clean(f"refused: {reasons}"),
        )
    yield from _rows(card.get("latency") or {}, "latency")
    for limit in _list(card.get("limits"))[:20]:
        yield "limit", clean(limit)


def _dict(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _rows(value: object, label: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _rows(inner, f"{label}, {key}" if label else str(key))
    elif isinstance(value, list):
        if all(not isinstance(inner, (Mapping, list)) for inner in value):
            more = f" and {len(value) - _LIST_MAX} more" if len(value) > _LIST_MAX else ""
            yield clean(label, 120), clean(", ".join(map(_plain, value[:_LIST_MAX])) + more)
        else:
            for index, inner in enumerate(value[:_LIST_MAX]):
                yield from _rows(inner, f"{label} {index + 1}")
    else:
        yield clean(label, 120).replace("_", " "), clean(_plain(value))


def _plain(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return number(value, 6) if isinstance(value, float) else str(value)
