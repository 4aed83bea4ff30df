"""Names of places inside a value, such as scheduler.milestones[3]; no two places share one."""

from __future__ import annotations

_NAME_CHARACTERS_MAX = 200


def at_key(key: object, position: int) -> str:
    """The place of a dict's entry relative to the dict.

    Keys that are short and whose text is theirs alone are shown; others by their position.
    """
    if type(key) is str and len(key) <= _NAME_CHARACTERS_MAX:
        return f".{key}" if key.isidentifier() else f"[{key!r}]"
    if key is None or type(key) is bool or (type(key) is int and abs(key) < 1 << 63):
        return f"[{key}]"
    return f"[#{position}]"
