"""Durations and sizes as people say them."""

from __future__ import annotations

from collections.abc import Sequence

_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60))
_PREFIXES = ("bytes", "kB", "MB", "GB", "TB", "PB")


def duration(seconds: float) -> str:
    """A span in its largest fitting unit: "1.5 hours", "30 days", "12 seconds"."""
    for unit, size in _UNITS:
        if seconds >= size:
            return _plural(seconds / size, unit)
    return _plural(seconds, "second")


def size(count: float) -> str:
    """A number of bytes with a decimal prefix: "12.5 GB"."""
    power = 0
    while count >= 999.5 and power < len(_PREFIXES) - 1:
        count /= 1000
        power += 1
    return f"{count:.3g} {_PREFIXES[power]}"


def listing(words: Sequence[str], *, word: str = "and") -> str:
    """ "a", "a and b", "a, b and c"."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {word} {words[-1]}"


def _plural(count: float, unit: str) -> str:
    number = f"{count:.3g}" if count < 1000 else f"{count:.0f}"
    return f"{number} {unit}{'' if number == '1' else 's'}"
