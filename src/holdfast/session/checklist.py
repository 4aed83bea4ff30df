"""The resume checklist: every part of a training session, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from holdfast.errors import printable

Status: TypeAlias = Literal["restored", "absent", "mismatch", "agrees", "skipped", "note"]

_MARKS: dict[Status, str] = {
    "restored": "+",
    "agrees": "=",
    "absent": "-",
    "skipped": "-",
    "note": "*",
    "mismatch": "!",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the checklist: the part, what became of it, and the reason or detail."""

    item: str
    status: Status
    detail: str = ""

    def padded(self, width: int) -> str:
        """The line with its part in a column of `width` characters."""
        tail = f"  {printable(self.detail)}" if self.detail else ""
        item = printable(self.item)
        return f"  {_MARKS[self.status]} {item:<{width}} {self.status:<9}{tail}".rstrip()


def render(heading: str, lines: Sequence[Line], passed_over: Sequence[str]) -> str:
    """The checklist as text for people."""
    skipped = [f"  ! passed over {reason}" for reason in passed_over]
    width = max((len(line.item) for line in lines), default=0)
    return "\n".join([heading, *skipped, *(line.padded(width) for line in lines)])
