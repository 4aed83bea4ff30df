"""Objects that say themselves how they are stored: an average of weights is stored as a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, runtime_checkable

from torch import Tensor

from holdfast.state.component import ComponentState, StoredComponent
from holdfast.state.plan import RestorePlan


@runtime_checkable
class SavesItself(Protocol):
    """An object that is captured and planned by its own code, as a component of any kind."""

    def capture_component(self, name: str) -> ComponentState:
        """Capture it; tensors are views of live memory. A new segment of the run begins here."""

    def plan_component(
        self,
        stored: StoredComponent,
        *,
        strict: bool = True,
        only: Callable[[str], bool] | None = None,
    ) -> RestorePlan:
        """Plan to restore it; only: the FQNs to restore, for a part of it, counters left alone."""

    def start_afresh(self) -> None:
        """Other components were restored from a checkpoint that does not hold this one."""

    def announced_tensors(self) -> Iterable[Tensor]:
        """Those of its tensors that it never changes without `holdfast.staging.before_write`."""

    def companions(self) -> Mapping[str, SavesItself]:
        """Further components saved with it, by what is added to its name."""
