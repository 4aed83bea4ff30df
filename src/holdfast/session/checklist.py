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

    def __str__(self) -> str:
        tail = f"  {self.detail}" if self.detail else ""
        line = f"  {_MARKS[self.status]} {self.item:<16} {self.status:<9}{tail}".rstrip()
        return printable(line)


def render(heading: str, lines: Sequence[Line], passed_over: Sequence[str]) -> str:
    """The checklist as text for people."""
    skipped = [f"  ! passed over {reason}" for reason in passed_over]
    return "\n".join([heading, *skipped, *(str(line) for line in lines)])
