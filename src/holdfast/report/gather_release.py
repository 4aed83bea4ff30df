"""Deployment cards: the `card.json` of every release made of the run, flattened to rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from holdfast.errors import FormatError
from holdfast.jsontext import parse_object
from holdfast.report.lines import read_small
from holdfast.report.text import clean, number
from holdfast.report.values import Release

CARD = "card.json"
_CARDS_MAX = 10
_ROWS_MAX = 200
_CARD_BYTES_MAX = 4 << 20
_LIST_MAX = 12


def read_releases(run: Path) -> tuple[list[Release], list[str]]:
    """The cards in the run's folder, one or two levels down, or beside it; notes on others."""
    releases: list[Release] = []
    notes: list[str] = []
    for path in _cards(run)[:_CARDS_MAX]:
        data = read_small(path, _CARD_BYTES_MAX)
        shown = clean(path, 300)
        if data is None:
            continue
        try:
            card = parse_object(data, where=shown)
        except FormatError as error:
            notes.append(f"The deployment card {shown} could not be read: {clean(error.what)}.")
            continue
        rows = list(_rows(card, ""))
        releases.append(Release(shown, tuple(rows[:_ROWS_MAX])))
    return releases, notes


def _cards(run: Path) -> list[Path]:
    found = [*run.glob(f"*/{CARD}"), *run.glob(f"*/*/{CARD}")]
    if run.name == "checkpoints":
        found += [*run.parent.glob(f"*/{CARD}")]
    return sorted(set(found))


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
