"""Values as people read them, and texts made harmless: escaped controls, bounded length."""

from __future__ import annotations

import math
import time

from holdfast.errors import printable

TEXT_MAX = 400


def clean(value: object, limit: int = TEXT_MAX) -> str:
    """Any value as one line of at most about `limit` characters, control characters escaped.

    What makes a text lie about itself (escape sequences, marks that turn the direction of writing)
    becomes visible. HTML is not escaped here: the templates do that.
    """
    text = value if isinstance(value, str) else str(value)
    if len(text) > limit:
        text = f"{text[:limit]}… ({len(text):,} characters)"
    return printable(text)


def number(value: float | None, digits: int = 4) -> str:
    """A number with so many significant digits, exactly if it is a whole one; "" for none."""
    if value is None:
        return ""
    if isinstance(value, int) or (math.isfinite(value) and value == int(value) < 1e15):
        return f"{int(value):,}" if abs(value) >= 10_000 else str(int(value))
    return f"{value:.{digits}g}" if math.isfinite(value) else str(value)


def size(nbytes: float | None) -> str:
    """Bytes with a decimal unit, as disks are sold."""
    if nbytes is None:
        return ""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(nbytes) < 1000:
            return f"{nbytes:.3g} {unit}"
        nbytes /= 1000
    return f"{nbytes:.3g} TB"


def seconds(value: float | None) -> str:
    """A span: "3.2 ms", "1.4 s", "2 min 5 s", "3 h 12 min", "4 d 2 h"."""
    if value is None or not math.isfinite(value):
        return ""
    if abs(value) < 1:
        return f"{1000 * value:.3g} ms"
    if abs(value) < 60:
        return f"{value:.3g} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def moment(value: float | None) -> str:
    """Seconds since the epoch as a UTC time."""
    if value is None or not 0 <= value < 32_503_680_000:
        return ""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(value))


def plural(count: int, noun: str) -> str:
    """ "1 checkpoint", "2 checkpoints"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
