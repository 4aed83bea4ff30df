"""Which unexpected name is likely the missing one: prefixes first, then shape and spelling."""

from __future__ import annotations

import difflib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from holdfast.state.names import WRAPPER_SEGMENTS

Shape = tuple[int, ...]
T = TypeVar("T")

_UNMISTAKABLE = WRAPPER_SEGMENTS - {"module"}
_COMPARISONS_MAX = 4_000
_CANDIDATES_MAX = 64
_SIMILARITY_MIN = 0.6


@dataclass(frozen=True, slots=True)
class Renames:
    """Likely renames. pairs: wanted name to found name. rule: one sentence if one rule explains
    several pairs, else empty.
    """

    pairs: Mapping[str, str] = field(default_factory=dict)
    rule: str = ""


def find_renames(wanted: Mapping[str, Shape], found: Mapping[str, Shape]) -> Renames:
    """Pair missing names with unexpected ones of the same shape.

    wanted: missing here, by shape. found: unexpected in the checkpoint, by shape. A prefix that
    one side has more is tried first, then keys that differ only by wrapper segments such as
    `_orig_mod`, then names with the same last segment that are spelled alike (at most a fixed
    number of comparisons, so that 10,000 names take no more than moments). Suggestions only:
    nothing is ever loaded by them.
    """
    pairs, rule = _by_prefix(wanted, found)
    if not pairs:
        pairs = _by_wrapper_segments(wanted, found)
        rule = "the names differ only by what wrappers add to them" if pairs else ""
    left = {name: shape for name, shape in wanted.items() if name not in pairs}
    used = set(pairs.values())
    rest = {name: shape for name, shape in found.items() if name not in used}
    return Renames({**pairs, **_by_spelling(left, rest)}, rule)


def strip_wrapper_prefixes(state: Mapping[str, T]) -> dict[str, T]:
    """A state dict of unknown origin without what wrappers put into its keys.

    For files only: where the module is at hand, `canonical_names` knows. `module.` is cut where
    it leads every key, the other wrappers' segments, which no one else uses, wherever they stand.
    Returns the keys unchanged if two would become one.
    """
    names = {
        key: ".".join(part for part in key.split(".") if part not in _UNMISTAKABLE) for key in state
    }
    while names and all(name.startswith("module.") for name in names.values()):
        names = {key: name.removeprefix("module.") for key, name in names.items()}
    if len(set(names.values())) < len(names):
        return dict(state)
    return {names[key]: value for key, value in state.items()}


def _by_prefix(
    wanted: Mapping[str, Shape], found: Mapping[str, Shape]
) -> tuple[dict[str, str], str]:
    extra_there = _commonest(_prefixes(found, wanted))
    extra_here = _commonest(_prefixes(wanted, found))
    if extra_there[1] >= extra_here[1] and extra_there[1]:
        prefix = extra_there[0]
        pairs = {name: prefix + name for name in wanted if prefix + name in found}
        rule = f"the checkpoint's names have the prefix {prefix!r} before those wanted here"
    elif extra_here[1]:
        prefix = extra_here[0]
        pairs = {
            name: name[len(prefix) :]
            for name in wanted
            if name.startswith(prefix) and name[len(prefix) :] in found
        }
        rule = f"the names here have the prefix {prefix!r} before those of the checkpoint"
    else:
        return {}, ""
    return {name: other for name, other in pairs.items() if wanted[name] == found[other]}, rule


def _prefixes(longer: Iterable[str], shorter: Mapping[str, Shape]) -> Iterator[str]:
    """What stands before a name of `shorter` in a name of `longer`, for every such pair."""
    for name in longer:
        dot = name.find(".")
        while dot != -1:
            if name[dot + 1 :] in shorter:
                yield name[: dot + 1]
            dot = name.find(".", dot + 1)


def _commonest(prefixes: Iterator[str]) -> tuple[str, int]:
    counted = Counter(prefixes).most_common(1)
    return counted[0] if counted else ("", 0)


def _by_wrapper_segments(wanted: Mapping[str, Shape], found: Mapping[str, Shape]) -> dict[str, str]:
    bare = {_without_wrappers(name): name for name in found}
    likely = {name: bare.get(_without_wrappers(name)) for name in wanted}
    return {name: other for name, other in likely.items() if other and wanted[name] == found[other]}


def _without_wrappers(name: str) -> str:
    return ".".join(segment for segment in name.split(".") if segment not in WRAPPER_SEGMENTS)


def _by_spelling(wanted: Mapping[str, Shape], found: Mapping[str, Shape]) -> dict[str, str]:
    alike: dict[tuple[str, Shape], list[str]] = defaultdict(list)
    for name, shape in found.items():
        alike[_last(name), shape].append(name)
    pairs: dict[str, str] = {}
    budget = _COMPARISONS_MAX
    for name, shape in wanted.items():
        candidates = alike[_last(name), shape][:_CANDIDATES_MAX]
        budget -= len(candidates)
        if budget < 0:
            break
        best = difflib.get_close_matches(name, candidates, n=1, cutoff=_SIMILARITY_MIN)
        if best:
            pairs[name] = best[0]
            alike[_last(name), shape].remove(best[0])
    return pairs


def _last(name: str) -> str:
    return name.rpartition(".")[2]
