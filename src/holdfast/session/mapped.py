"""A source seen through a mapping of names: renamed, split and fused tensors under new names."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from holdfast.errors import MismatchError
from holdfast.session.source import CheckpointSource
from holdfast.state import StoredComponent, StoredTensor
from holdfast.state.key_mapping import KeyMapping, MappingEntry
from holdfast.values import CheckpointInfo


class MappedSource:
    """Gives one component's tensors under the names of the mapping; all others as they are.

    Tensors that are put together are read straight into their places; one that is split is read
    into memory of its own first.
    """

    def __init__(self, source: CheckpointSource, mapping: KeyMapping, component: str) -> None:
        """Raises MismatchError listing every entry that does not fit what is stored."""
        self._source, self._component = source, component
        self._stored = source.stored(component)
        self._entries = {entry.to: self._resolved(entry) for entry in mapping.entries}
        self._facts: dict[str, StoredTensor] = {}
        problems: list[str] = []
        for name, entry in self._entries.items():
            facts = self._facts_of(entry)
            if isinstance(facts, str):
                problems.append(f"{name}: {facts}")
            else:
                self._facts[name] = facts
        if problems:
            raise MismatchError(
                "The mapping does not fit the checkpoint",
                problems=problems,
                where=source.place,
                fix="make it anew: holdfast doctor CHECKPOINT --model module:function",
            )

    @property
    def place(self) -> str:
        """Where the source is, for error messages."""
        return self._source.place

    @property
    def info(self) -> CheckpointInfo | None:
        """The manifest's view."""
        return self._source.info

    def components(self) -> Collection[str]:
        """Names of the components it holds."""
        return self._source.components()

    def stored(self, component: str) -> StoredComponent:
        """Everything about a component but the data of its tensors, under the new names."""
        if component != self._component:
            return self._source.stored(component)
        used = {name for entry in self._entries.values() for name in entry.sources}
        kept = {n: facts for n, facts in self._stored.tensors.items() if n not in used}
        aliases = {n: to for n, to in self._stored.aliases.items() if to not in used}
        named = {n: to for n, to in aliases.items() if n not in self._facts}
        return replace(self._stored, tensors={**kept, **self._facts}, aliases=named)

    def elsewhere(self, component: str) -> str | None:
        """Why a component is not for this rank."""
        return self._source.elsewhere(component)

    def verify(
        self, components: Collection[str], *, but: Mapping[str, Collection[str]] | None = None
    ) -> None:
        """Prove every byte of these components; all of the mapped one, whatever is left out."""
        others = {name: left for name, left in (but or {}).items() if name != self._component}
        self._source.verify(components, but=others)

    def check(self, component: str, targets: Mapping[str, Tensor]) -> None:
        """Prove that every target can take its tensor; touches none."""
        if component != self._component:
            self._source.check(component, targets)
            return
        self._source.check(component, self._direct(targets))

    def fill_fresh(self, component: str, targets: Mapping[str, Tensor]) -> None:
        """Write stored tensors into memory nobody uses yet."""
        if component != self._component:
            self._source.fill_fresh(component, targets)
        else:
            self.fill(component, targets)

    def fill(self, component: str, targets: Mapping[str, Tensor]) -> None:
        """Write stored tensors into the targets."""
        if component != self._component:
            self._source.fill(component, targets)
            return
        self._source.fill(component, self._direct(targets))
        for stored, pieces in self._by_whole(targets).items():
            whole = self._stored.tensors[stored].allocate(torch.device("cpu"))
            self._source.fill(component, {stored: whole})
            with torch.no_grad():
                for target, rows in pieces:
                    target.copy_(whole if rows is None else whole[slice(*rows)])

    def _direct(self, targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Targets that are filled where they are, by stored name."""
        direct: dict[str, Tensor] = {}
        shared = self._by_whole(targets)
        for name, target in targets.items():
            entry = self._entries.get(name)
            if entry is None:
                direct[name] = target
            elif len(entry.sources) > 1:
                at = 0
                for source in entry.sources:
                    rows = self._stored.tensors[source].shape[0]
                    direct[source] = target.narrow(0, at, rows)
                    at += rows
            elif entry.sources[0] not in shared:
                direct[entry.sources[0]] = target
        return direct

    def _by_whole(
        self, targets: Mapping[str, Tensor]
    ) -> dict[str, list[tuple[Tensor, tuple[int, int] | None]]]:
        """Stored tensors that several targets, or a part of one, come from."""
        found: dict[str, list[tuple[Tensor, tuple[int, int] | None]]] = {}
        for name, target in targets.items():
            entry = self._entries.get(name)
            if entry is not None and len(entry.sources) == 1:
                found.setdefault(entry.sources[0], []).append((target, entry.rows))
        return {
            stored: pieces
            for stored, pieces in found.items()
            if len(pieces) > 1 or pieces[0][1] is not None
        }

    def _resolved(self, entry: MappingEntry) -> MappingEntry:
        """The entry with aliases of the checkpoint as the names they are stored under."""
        aliases = self._stored.aliases
        return replace(entry, sources=tuple(aliases.get(name, name) for name in entry.sources))

    def _facts_of(self, entry: MappingEntry) -> StoredTensor | str:
        """What the new name stands for, or why it stands for nothing."""
        there = [self._stored.tensors.get(name) for name in entry.sources]
        facts = [tensor for tensor in there if tensor is not None]
        if len(facts) < len(there):
            lacking = entry.sources[there.index(None)]
            return f"the checkpoint has no {lacking!r}"
        first = facts[0]
        if entry.rows is not None:
            if not first.shape or entry.rows[1] > first.shape[0]:
                return f"{entry.sources[0]!r} of shape {list(first.shape)} has no such rows"
            rows = entry.rows[1] - entry.rows[0]
            return StoredTensor(first.dtype, (rows, *first.shape[1:]))
        if len(facts) == 1:
            return first
        if any(
            not f.shape or f.shape[1:] != first.shape[1:] or f.dtype != first.dtype for f in facts
        ):
            return "its sources differ in dtype, or beyond the first dimension"
        return StoredTensor(first.dtype, (sum(f.shape[0] for f in facts), *first.shape[1:]))
