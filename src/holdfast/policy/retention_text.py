"""Retention rules as text: for the command line, and as they stand in manifests.

    last 5 + best 3 val_bleu max + every 10000 steps
    last 5 | every 1 hour for 1 day | at most 20 GB
    KeepLast(5) | KeepBest(3, 'val_bleu', mode='max')

Parts are joined by `+` or `|`. The second form is what `repr` of a rule gives.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from typing import Any, cast

from holdfast.errors import PolicyError
from holdfast.policy.ranking import Mode
from holdfast.policy.retention import KeepAll, KeepAnyOf, KeepAtMostBytes, Retention
from holdfast.policy.retention_rules import (
    KeepBest,
    KeepEverySeconds,
    KeepEverySteps,
    KeepLast,
    KeepPinned,
    KeepUnscored,
    KeepWithin,
)
from holdfast.policy.snapshot_retention import KeepEMASnapshots

_CLASSES: dict[str, Callable[..., Retention]] = {
    "KeepAll": KeepAll,
    "KeepAtMostBytes": KeepAtMostBytes,
    "KeepBest": KeepBest,
    "KeepEMASnapshots": KeepEMASnapshots,
    "KeepEverySeconds": KeepEverySeconds,
    "KeepEverySteps": KeepEverySteps,
    "KeepLast": KeepLast,
    "KeepPinned": KeepPinned,
    "KeepUnscored": KeepUnscored,
    "KeepWithin": KeepWithin,
}
_SECONDS = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400, "week": 604_800}
_BYTES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_BYTES |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
_SPAN = r"(\d+(?:\.\d+)?)?\s*(second|minute|hour|day|week)s?"
_TEXT_MAX = 10_000
_FIX = (
    "say for example: last 5 + best 3 val_bleu max + every 10000 steps + every 1 hour for 1 day "
    "+ within 2 days + unscored bleu + at most 20 GB"
)


def parse_retention(text: str, directions: Mapping[str, str] | None = None) -> Retention:
    """The rule that `text` describes; either form above.

    directions: "min" or "max" by metric, for `best 3 val_bleu` without a direction. Raises
    PolicyError naming the part that cannot be understood.
    """
    if len(text) > _TEXT_MAX:
        raise PolicyError("The rule is longer than any rule can be", fix=_FIX)
    if re.match(r"\s*Keep[A-Z]", text):
        return _expression(text)
    parts = [part.strip() for part in re.split(r"[+|]", text)]
    rules = [_part(part, directions or {}) for part in parts]
    return rules[0] if len(rules) == 1 else KeepAnyOf(tuple(rules))


def _part(part: str, directions: Mapping[str, str]) -> Retention:
    for pattern, make in _FORMS:
        found = re.fullmatch(pattern, part, re.IGNORECASE)
        if found is not None:
            return make(found, directions)
    raise PolicyError(f"{part!r} is no rule of what to keep", fix=_FIX)


def _best(found: re.Match[str], directions: Mapping[str, str]) -> Retention:
    metric = found[2]
    mode = (found[3] or directions.get(metric) or "").lower()
    if mode not in ("min", "max"):
        raise PolicyError(
            f"Whether a low or a high {metric!r} is better is not known",
            fix=f"say best {found[1] or 1} {metric} min, or max",
        )
    return KeepBest(int(found[1] or 1), metric, mode=cast(Mode, mode))


def _every(found: re.Match[str], _: Mapping[str, str]) -> Retention:
    within = None if found[4] is None else _seconds(found[3], found[4])
    return KeepEverySeconds(_seconds(found[1], found[2]), within_seconds=within)


def _seconds(count: str | None, unit: str) -> float:
    return float(count or 1) * _SECONDS[unit.lower()]


def _cap(found: re.Match[str], _: Mapping[str, str]) -> Retention:
    return KeepAtMostBytes(int(float(found[1]) * _BYTES[found[2].lower()]))


_FORMS: tuple[tuple[str, Callable[[re.Match[str], Mapping[str, str]], Retention]], ...] = (
    (r"all", lambda found, _: KeepAll()),
    (r"pinned", lambda found, _: KeepPinned()),
    (r"last(?: (\d{1,9}))?", lambda found, _: KeepLast(int(found[1] or 1))),
    (r"best(?: (\d{1,9}))? (\S+?)(?: (min|max))?", _best),
    (r"every (\d{1,18}) steps?", lambda found, _: KeepEverySteps(int(found[1]))),
    (rf"every {_SPAN}(?: for {_SPAN})?", _every),
    (rf"within {_SPAN}", lambda found, _: KeepWithin(_seconds(found[1], found[2]))),
    (r"unscored (\S+)", lambda found, _: KeepUnscored(found[1])),
    (r"snapshots (\d{1,9})", lambda found, _: KeepEMASnapshots(int(found[1]))),
    (r"at most (\d+(?:\.\d+)?) ?([kmgt]?i?b)", _cap),
)


def _expression(text: str) -> Retention:
    """The rule whose `repr` is `text`: calls of known rules with plain values, nothing else."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise PolicyError(f"{text[:200]!r} is no expression of rules", fix=_FIX) from error
    rules: list[Retention] = []
    while isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.BitOr):
        rules.append(_call(tree.right))
        tree = tree.left
    rules.append(_call(tree))
    return rules[0] if len(rules) == 1 else KeepAnyOf(tuple(reversed(rules)))


def _call(node: ast.expr) -> Retention:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _CLASSES:
        try:
            arguments: list[Any] = [ast.literal_eval(value) for value in node.args]
            options = {word.arg or "": ast.literal_eval(word.value) for word in node.keywords}
            return _CLASSES[node.func.id](*arguments, **options)
        except (TypeError, ValueError, SyntaxError, RecursionError, MemoryError) as error:
            if isinstance(error, PolicyError):
                raise
            raise PolicyError(f"{node.func.id} cannot be made so: {error}", fix=_FIX) from error
    raise PolicyError(
        f"{ast.unparse(node)[:200]!r} is no rule that text can give",
        fix="give a rule as text; one of your own class exists in your program only",
    )
