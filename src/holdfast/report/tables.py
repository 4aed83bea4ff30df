"""Tables of the page: plain cells, each with what it is sorted by."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

ROWS_MAX = 500
_LINE_CHARS = 36


@dataclass(frozen=True, slots=True)
class Cell:
    """text: as shown. sort: a number to sort by; None sorts by the text, and after all numbers.

    mark: a CSS class of ours that colours the cell, "" for none.
    """

    text: str
    sort: float | None = None
    mark: str = ""

    @property
    def style(self) -> str:
        """CSS classes of the cell."""
        return f"{self.mark} long".strip() if len(self.text) > _LINE_CHARS else self.mark

    @property
    def sort_key(self) -> str:
        """The number for the page's script; "" where the text decides."""
        if self.sort is None or not math.isfinite(self.sort):
            return ""
        return repr(float(self.sort))


@dataclass(frozen=True, slots=True)
class Column:
    """A heading; numbers are set to the right."""

    title: str
    numeric: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """caption: says what the rows are. omitted: how many rows the page leaves to the raw data."""

    id: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    omitted: int = 0


def table(
    name: str,
    caption: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[Cell | str]],
    *,
    omitted: int = 0,
) -> Table:
    """A table of the last rows. columns: titles, those of numbers beginning with "#".

    omitted: how many rows before these the caller has left out already.
    """
    cells = [tuple(c if isinstance(c, Cell) else Cell(c) for c in row) for row in rows]
    heads = tuple(Column(title.lstrip("#"), title.startswith("#")) for title in columns)
    left_out = omitted + max(0, len(cells) - ROWS_MAX)
    return Table(name, caption, heads, tuple(cells[-ROWS_MAX:]), left_out)
