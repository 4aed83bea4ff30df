"""Times as the manifest writes them: UTC, microseconds, RFC 3339."""

from __future__ import annotations

import re
from datetime import datetime, timezone

_FORM = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z")


def iso_time(seconds: float) -> str:
    """Seconds since the epoch as `2026-11-23T14:00:00.000000Z`."""
    moment = datetime.fromtimestamp(seconds, tz=timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: str) -> float:
    """Inverse of `iso_time`. Raises ValueError for anything else."""
    if _FORM.fullmatch(text) is None:
        raise ValueError(f"{text[:40]!r} does not match 2026-11-23T14:00:00.000000Z")
    moment = datetime.fromisoformat(text[:-1] + "+00:00")
    if not 1970 <= moment.year < 9999:
        raise ValueError(f"{text} is outside the years that every clock can tell")
    return moment.timestamp()
