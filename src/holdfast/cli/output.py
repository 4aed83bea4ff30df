"""What commands print: data on standard output, as text for people or as JSON for programs.

Names and values in a checkpoint may be anybody's. Whatever a command prints as text passes
`emit` or `note`, which escape every control character and cut endless lines; colours are asked for
with `paint`, whose marks only `emit` turns into escape sequences.
"""

from __future__ import annotations

import contextvars
import json
import math
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from holdfast.engine.progress import Progress
from holdfast.errors import printable

LINE_MAX = 8_192
CELL_MAX = 240


class Color(str, Enum):
    """When to colour."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Settings:
    """The options that hold for every command."""

    as_json: bool = False
    quiet: bool = False
    color: Color = Color.AUTO
    yes: bool = False
    dry_run: bool = False


_settings: contextvars.ContextVar[Settings] = contextvars.ContextVar(
    "settings",
    default=Settings(),  # noqa: B039 (frozen)
)

# Not characters, so nobody's text needs them; one that has them can change a colour, no more.
_CODES = {
    "\ufdd0": "0",
    "\ufdd1": "1",
    "\ufdd2": "2",
    "\ufdd3": "31",
    "\ufdd4": "32",
    "\ufdd5": "33",
}
_STYLES = {
    "bold": "\ufdd1",
    "dim": "\ufdd2",
    "red": "\ufdd3",
    "green": "\ufdd4",
    "yellow": "\ufdd5",
}
_END = "\ufdd0"
_MARK = re.compile("([\ufdd0-\ufdd5])")


def current() -> Settings:
    """The options of the command that is running."""
    return _settings.get()


def use(settings: Settings) -> Settings:
    """Let these options hold from now on."""
    _settings.set(settings)
    return settings


def emit(data: Any, text: str, as_json: bool | None = None) -> None:
    """Print `data` as one JSON document if that was asked for, else `text`.

    Numbers that are not finite become the strings "NaN", "Infinity" and "-Infinity".
    """
    if current().as_json if as_json is None else as_json or current().as_json:
        rendered = json.dumps(strict(data), indent=2, allow_nan=False)
        print(rendered.replace("\x7f", "\\u007f"))
    elif text:
        print(_shown(text, colored=_colored(sys.stdout)))


def note(text: str) -> None:
    """Say something beside the data: on standard error, and not if --quiet was given."""
    if not current().quiet:
        print(_shown(text, colored=_colored(sys.stderr)), file=sys.stderr)


def progress(what: str) -> Progress:
    """Progress with MB/s and time left, on standard error if that is a terminal."""
    return Progress(what, enabled=not current().quiet)


def paint(text: str, style: str) -> str:
    """The text in a style: bold, dim, red, green or yellow. Does not count in `table`'s widths."""
    return f"{_STYLES[style]}{text}{_END}"


def plain(text: str) -> str:
    """The text as `emit` prints it where nothing is coloured."""
    return _shown(text, colored=False)


def clean(text: str, limit: int = CELL_MAX) -> str:
    """Foreign text as a part of a line: control characters escaped, cut where it is too long."""
    if len(text) > limit:
        text = f"{text[:limit]}… ({len(text) - limit} more)"
    return printable(text)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: str = "") -> str:
    """Aligned columns under a header. right: one letter a column, "r" to align it right.

    Cells are cleaned; styles of `paint` around a whole cell are kept.
    """
    lines = [[_cell(cell) for cell in row] for row in [header, *rows]]
    widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
    sides = right.ljust(len(widths))
    return "\n".join("  ".join(map(_padded, line, widths, sides)).rstrip() for line in lines)


def strict(value: Any) -> Any:
    """The value with floats that JSON has no numbers for as strings, and keys as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, Mapping):
        return {str(key): strict(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(entry) for entry in value]
    return value


def size_text(count: float) -> str:
    """A number of bytes with a decimal prefix, as "12.5 MB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def age_text(seconds: float) -> str:
    """How long ago something was, in its largest fitting unit: "12 s", "3 h", "5 d"."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def _cell(text: str) -> str:
    parts = _MARK.split(text)
    return "".join(part if part in _CODES else clean(part) for part in parts)


def _width(cell: str) -> int:
    return len(_MARK.sub("", cell)) if not cell.isprintable() else len(cell)


def _padded(cell: str, width: int, side: str) -> str:
    room = " " * (width - _width(cell))
    return room + cell if side == "r" else cell + room


def _shown(text: str, *, colored: bool) -> str:
    return "\n".join(_line(line, colored) for line in text.split("\n"))


def _line(line: str, colored: bool) -> str:
    if len(line) > LINE_MAX:
        line = f"{line[:LINE_MAX]}… ({len(line) - LINE_MAX} more)"
    if line.isprintable():
        return line
    parts = _MARK.split(line)
    painted = "".join(
        (f"\x1b[{_CODES[part]}m" if colored else "") if part in _CODES else printable(part)
        for part in parts
    )
    # Somebody else's mark must not colour what comes after this line.
    return f"{painted}\x1b[0m" if colored and len(parts) > 1 else painted


def _colored(stream: Any) -> bool:
    choice = current().color
    if choice is not Color.AUTO:
        return choice is Color.ALWAYS
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return bool(stream.isatty()) and os.environ.get("TERM") != "dumb"
