"""What a checkpoint's names may mean to a model they do not fit: ranked proposals, never applied.

Four kinds of evidence, the strongest first: one prefix that explains many names; projections that
one side keeps fused (queries, keys and values; gate and up) and the other apart; names that are
spelled alike; shapes that only one tensor on each side has.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from holdfast.state.key_mapping import KeyMapping, MappingEntry
from holdfast.state.renames import Shape, find_renames

_PREFIX, _FUSED, _SPELLING, _SHAPE = 0.95, 0.8, 0.6, 0.3

# What fused projections hold, in order, and what each part is called alone.
_FUSED_NAMES = {
    "qkv": ("q", "k", "v"),
    "qkv_proj": ("q", "k", "v"),
    "in_proj": ("q", "k", "v"),
    "c_attn": ("q", "k", "v"),
    "Wqkv": ("q", "k", "v"),
    "query_key_value": ("q", "k", "v"),
    "kv": ("k", "v"),
    "kv_proj": ("k", "v"),
    "gate_up_proj": ("gate", "up"),
    "gate_up": ("gate", "up"),
}
_PART_NAMES = {
    "q": ("q", "q_proj", "query", "query_proj", "to_q", "wq", "linear_q", "q_lin"),
    "k": ("k", "k_proj", "key", "key_proj", "to_k", "wk", "linear_k", "k_lin"),
    "v": ("v", "v_proj", "value", "value_proj", "to_v", "wv", "linear_v", "v_lin"),
    "gate": ("gate", "gate_proj"),
    "up": ("up", "up_proj"),
}
_PART_OF = {name: part for part, names in _PART_NAMES.items() for name in names}


@dataclass(frozen=True, slots=True)
class Proposal:
    """Entries that one rule explains. confidence: 0 to 1."""

    rule: str
    confidence: float
    entries: tuple[MappingEntry, ...]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """proposals: the likeliest first; no tensor of the model is in two. missing, unexpected: names
    that nothing explains. reshaped: names on both sides whose shapes differ: (model, checkpoint).
    fitting: how many tensors fit as they are.
    """

    fitting: int
    proposals: tuple[Proposal, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    reshaped: Mapping[str, tuple[Shape, Shape]] = field(default_factory=dict)

    @property
    def fits(self) -> bool:
        """Whether nothing is amiss."""
        return not (self.proposals or self.missing or self.unexpected or self.reshaped)

    def mapping(self, min_confidence: float = 0.0) -> KeyMapping:
        """All proposals of at least this confidence as one mapping."""
        return KeyMapping(
            tuple(
                entry
                for proposal in self.proposals
                if proposal.confidence >= min_confidence
                for entry in proposal.entries
            )
        )


def diagnose(wanted: Mapping[str, Shape], found: Mapping[str, Shape]) -> Diagnosis:
    """Compare the names and shapes of a model with those of a checkpoint, and propose a mapping.

    wanted: of the model. found: of the checkpoint. Nothing is ever loaded by this.
    """
    common = wanted.keys() & found.keys()
    reshaped = {n: (wanted[n], found[n]) for n in wanted if n in common and wanted[n] != found[n]}
    missing = {name: shape for name, shape in wanted.items() if name not in found}
    unexpected = {name: shape for name, shape in found.items() if name not in wanted}
    proposals: list[Proposal] = []

    def settle(proposal: Proposal) -> None:
        if not proposal.entries:
            return
        proposals.append(proposal)
        for entry in proposal.entries:
            missing.pop(entry.to, None)
            for source in entry.sources:
                unexpected.pop(source, None)

    renames = find_renames(missing, unexpected)
    ruled = {to: name for to, name in renames.pairs.items() if renames.rule and _suffix(to, name)}
    settle(_renaming(renames.rule, _PREFIX, ruled))
    prefixes = _prefixes(ruled)
    settle(_split(missing, unexpected, prefixes))
    settle(_fused(missing, unexpected, prefixes))
    spelled = {
        to: name
        for to, name in find_renames(missing, unexpected).pairs.items()
        if to in missing and name in unexpected
    }
    settle(_renaming("spelled alike, with the same shape", _SPELLING, spelled))
    settle(_renaming("the only ones of their shape", _SHAPE, _only_of_shape(missing, unexpected)))
    return Diagnosis(
        len(common) - len(reshaped), tuple(proposals), tuple(missing), tuple(unexpected), reshaped
    )


def _suffix(first: str, second: str) -> bool:
    """Whether one name is the end of the other, or both differ by wrapper segments only."""
    a, b = first.split("."), second.split(".")
    short, long = sorted((a, b), key=len)
    return long[-len(short) :] == short or [s for s in long if s in short] == short


def _renaming(rule: str, confidence: float, pairs: Mapping[str, str]) -> Proposal:
    entries = [MappingEntry(to, (name,), None, rule, confidence) for to, name in pairs.items()]
    return Proposal(rule, confidence, tuple(entries))


def _prefixes(ruled: Mapping[str, str]) -> tuple[str, str]:
    """What stands before the names of the model, and of the checkpoint, in what is settled."""
    for to, name in ruled.items():
        if name.endswith(to):
            return "", name.removesuffix(to)
        if to.endswith(name):
            return to.removesuffix(name), ""
    return "", ""


def _split(
    missing: Mapping[str, Shape], unexpected: Mapping[str, Shape], prefixes: tuple[str, str]
) -> Proposal:
    """The checkpoint has projections fused that the model keeps apart."""
    rule = "parts of a fused projection, by rows in the order of its name"
    parts = _parts(missing, prefixes[0])
    entries: list[MappingEntry] = []
    for name, shape in unexpected.items():
        for parent, kind, roles in _as_fused(name.removeprefix(prefixes[1])):
            members = [parts.get((parent, kind, role)) for role in roles]
            if not all(members) or not _add_up(shape, [missing[m] for m in members if m]):
                continue
            at = 0
            for member in filter(None, members):
                rows = (at, at + missing[member][0])
                entries.append(MappingEntry(member, (name,), rows, rule, _FUSED))
                at = rows[1]
            break
    return Proposal(rule, _FUSED, tuple(entries))


def _fused(
    missing: Mapping[str, Shape], unexpected: Mapping[str, Shape], prefixes: tuple[str, str]
) -> Proposal:
    """The model has projections fused that the checkpoint keeps apart."""
    rule = "a fused projection, put together in the order of its name"
    parts = _parts(unexpected, prefixes[1])
    entries: list[MappingEntry] = []
    for name, shape in missing.items():
        for parent, kind, roles in _as_fused(name.removeprefix(prefixes[0])):
            members = [parts.get((parent, kind, role)) for role in roles]
            if all(members) and _add_up(shape, [unexpected[m] for m in members if m]):
                sources = tuple(filter(None, members))
                entries.append(MappingEntry(name, sources, None, rule, _FUSED))
                break
    return Proposal(rule, _FUSED, tuple(entries))


def _as_fused(name: str) -> Iterable[tuple[str, str, tuple[str, ...]]]:
    """Readings of a name as that of a fused projection: parent, weight or bias, roles in order."""
    head, _, last = name.rpartition(".")
    if last in ("in_proj_weight", "in_proj_bias"):
        yield head, last.removeprefix("in_proj_"), _FUSED_NAMES["in_proj"]
    parent, _, module = head.rpartition(".")
    if module in _FUSED_NAMES:
        yield parent, last, _FUSED_NAMES[module]


def _parts(names: Mapping[str, Shape], prefix: str) -> dict[tuple[str, str, str], str]:
    """Names of single projections by parent (without the prefix), weight or bias, and role."""
    found: dict[tuple[str, str, str], str] = {}
    for name in names:
        head, _, last = name.removeprefix(prefix).rpartition(".")
        parent, _, module = head.rpartition(".")
        if module in _PART_OF:
            found.setdefault((parent, last, _PART_OF[module]), name)
    return found


def _add_up(whole: Shape, parts: list[Shape]) -> bool:
    """Whether the parts fill the whole along the first dimension."""
    return (
        bool(whole)
        and all(part and part[1:] == whole[1:] for part in parts)
        and sum(part[0] for part in parts) == whole[0]
    )


def _only_of_shape(missing: Mapping[str, Shape], unexpected: Mapping[str, Shape]) -> dict[str, str]:
    here: dict[Shape, list[str]] = defaultdict(list)
    there: dict[Shape, list[str]] = defaultdict(list)
    for name, shape in missing.items():
        here[shape].append(name)
    for name, shape in unexpected.items():
        there[shape].append(name)
    return {
        names[0]: there[shape][0]
        for shape, names in here.items()
        if len(names) == 1 and len(there.get(shape, [])) == 1 and shape
    }
