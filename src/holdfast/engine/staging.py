"""Component states whose tensors are a snapshot: they can be written while training goes on."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from holdfast.staging import Snapshot, Stager
from holdfast.state import ComponentState


@dataclass(frozen=True, slots=True)
class StagedComponents:
    """components: as captured, but with tensors that belong to `snapshot`."""

    components: Sequence[ComponentState]
    snapshot: Snapshot


def stage_components(
    stager: Stager, components: Sequence[ComponentState], step_only: Collection[int] = ()
) -> StagedComponents:
    """Copy the tensors of captured components; trees are values already.

    step_only: see `Stager.take`. Waits for memory while earlier snapshots hold all of it.
    """
    places = [(component, name) for component in components for name in component.tensors]
    snapshot = stager.take(
        [component.tensors[name] for component, name in places],
        [f"{component.name}: {name}" for component, name in places],
        step_only,
    )
    twins = iter(snapshot.tensors)
    staged = [
        replace(component, tensors={name: next(twins) for name in component.tensors})
        for component in components
    ]
    return StagedComponents(staged, snapshot)
