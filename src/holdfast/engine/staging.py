"""Component states whose tensors are a snapshot: they can be written while training goes on."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from holdfast.engine.division import divide
from holdfast.staging import Snapshot, Stager
from holdfast.state import ComponentState
from holdfast.tensorfile import file_order


@dataclass(frozen=True, slots=True)
class StagedComponents:
    """components: as captured, but with tensors that belong to `snapshot`."""

    components: Sequence[ComponentState]
    snapshot: Snapshot


def stage_components(
    stager: Stager,
    components: Sequence[ComponentState],
    step_only: Collection[int] = (),
    *,
    split_bytes: int | None = None,
) -> StagedComponents:
    """Copy the tensors of captured components; trees are values already.

    step_only: see `Stager.take`. split_bytes: see `divide`; what goes to one file is laid out in
    memory as it will lie there. Waits for memory while earlier snapshots hold all of it.
    """
    places = [(component, name) for component in components for name in component.tensors]
    snapshot = stager.take(
        [component.tensors[name] for component, name in places],
        [f"{component.name}: {name}" for component, name in places],
        step_only,
        runs=lambda: _runs(components, split_bytes),
    )
    twins = iter(snapshot.tensors)
    staged = [
        replace(component, tensors={name: next(twins) for name in component.tensors})
        for component in components
    ]
    return StagedComponents(staged, snapshot)


def _runs(components: Sequence[ComponentState], split_bytes: int | None) -> list[list[int]]:
    """Places of the tensors of each file, in file order."""
    division = divide(components, split_bytes)
    files: dict[str, dict[str, Tensor]] = {}
    place = 0
    for component in components:
        file_of = {name: file for file, names in division[component.name].items() for name in names}
        for name, tensor in component.tensors.items():
            files.setdefault(file_of[name], {})[str(place)] = tensor
            place += 1
    return [[int(name) for name in file_order(tensors)] for tensors in files.values()]
