"""What might be deployed: a checkpoint, an average, an EMA, an ensemble; known by its weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from holdfast.digest import digest_bytes
from holdfast.ensemble import require_one_vocabulary
from holdfast.errors import LoadError
from holdfast.jsontext import Json, dump
from holdfast.selection.averaging import average_state
from holdfast.selection.members import MODEL, Member, open_member
from holdfast.selection.record import MemberRecord
from holdfast.selection.request import OnDamage, attempt, requested
from holdfast.state import torch_codec

Kind: TypeAlias = Literal["checkpoint", "average", "ema", "ensemble"]
State: TypeAlias = "dict[str, Any]"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to get a model. paths: its checkpoints, best first. component: what of them."""

    name: str
    kind: Kind
    paths: tuple[Path, ...]
    component: str = MODEL


@dataclass(frozen=True, slots=True)
class Identified:
    """A candidate whose members were opened and found to be of one kind.

    members: best first, those left out not among them. digest: of its weights; equal digests are
    equal models. configs: `model_config` of each model that answers, tagged JSON; one but for
    ensembles, whose members may differ in it. excluded: why members were left out, by path. also:
    names of candidates that turned out to be the same.
    """

    candidate: Candidate
    members: tuple[MemberRecord, ...]
    digest: str
    configs: tuple[Json, ...]
    excluded: Mapping[str, str]
    also: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The candidate's name."""
        return self.candidate.name

    @property
    def paths(self) -> tuple[Path, ...]:
        """Folders of the members that take part."""
        return tuple(Path(member.path) for member in self.members)

    @property
    def forward_passes(self) -> int:
        """How many models answer a request."""
        return len(self.configs)

    def config_values(self) -> list[Any]:
        """The model configurations as they were given to `save`."""
        return [torch_codec().decode(config, where="model_config") for config in self.configs]

    def states(self) -> Iterator[State]:
        """The weights as a state dict of plain FQNs for each model, proven while they are read.

        Raises LoadError.
        """
        groups = [self.paths] if len(self.configs) == 1 else [(path,) for path in self.paths]
        for group in groups:
            yield average_state(group, component=self.candidate.component)

    def without(self, path: Path, reason: str) -> Identified:
        """The candidate less one member. Raises as `identify` does."""
        rest = tuple(other for other in self.paths if other != path)
        smaller = identify(replace(self.candidate, paths=rest), "raise")
        return replace(smaller, excluded={**self.excluded, str(path): reason}, also=self.also)


def identify(candidate: Candidate, on_damage: OnDamage) -> Identified:
    """Open the members and see what they are, before a tensor is read.

    on_damage: "exclude" leaves out members of averages and ensembles whose record cannot be
    trusted, as long as two are left. Raises LoadError, and MismatchError if an average's members
    are not of one model or an ensemble's not of one vocabulary.
    """
    if candidate.kind == "ensemble":
        return _ensemble(candidate, on_damage)
    several = len(candidate.paths) > 1
    request = requested(
        candidate.paths,
        on_damage=on_damage if several else "raise",
        component=candidate.component,
    )
    (recipe, config), excluded = attempt(
        request, lambda prepared: (prepared.recipe, prepared.members[-1].config)
    )
    order = {str(path): place for place, path in enumerate(candidate.paths)}
    members = tuple(sorted(recipe.members, key=lambda member: order[member.path]))
    digest = _joined("average", members) if len(members) > 1 else members[0].digest
    return Identified(candidate, members, digest, (config,), excluded)


def _ensemble(candidate: Candidate, on_damage: OnDamage) -> Identified:
    found: dict[Path, Member] = {}
    excluded: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        for path in candidate.paths:
            try:
                found[path] = open_member(path, candidate.component)
                stack.callback(found[path].close)
            except LoadError as error:
                excluded[str(path)] = str(error)
                if on_damage == "raise" or len(candidate.paths) - len(excluded) < 2:
                    raise
        require_one_vocabulary({member.place: member.vocabularies for member in found.values()})
        members = tuple(member.record for member in found.values())
        configs = tuple(member.config for member in found.values())
    return Identified(candidate, members, _joined("ensemble", members), configs, excluded)


def _joined(kind: str, members: Sequence[MemberRecord]) -> str:
    """The digest of several: the order of members matters neither to a mean nor to an ensemble."""
    parts: Json = [kind, *sorted(member.digest for member in members)]
    return digest_bytes(dump(parts))


def merged(found: list[Identified]) -> list[Identified]:
    """Candidates of equal weights as one, in the order of the first of each."""
    by_digest: dict[str, Identified] = {}
    for one in found:
        first = by_digest.setdefault(one.digest, one)
        if first is not one:
            by_digest[one.digest] = replace(first, also=(*first.also, one.name))
    return list(by_digest.values())
