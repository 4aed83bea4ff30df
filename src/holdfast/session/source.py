"""What a restore reads from: a checkpoint folder, or an imported file already in memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from torch import Tensor

from holdfast.state import StoredComponent
from holdfast.values import CheckpointInfo


class CheckpointSource(Protocol):
    """A sound place to restore from; nothing it returns has touched a live object."""

    @property
    def place(self) -> str:
        """Where it is, for error messages."""
        ...

    @property
    def info(self) -> CheckpointInfo | None:
        """The manifest's view; None for imported files, which have no manifest."""
        ...

    def components(self) -> Collection[str]:
        """Names of the components it holds."""
        ...

    def elsewhere(self, component: str) -> str | None:
        """Why a component is not for this rank, so that it is not restored; None if it is."""
        ...

    def stored(self, component: str) -> StoredComponent:
        """Everything about a component but the data of its tensors."""
        ...

    def verify(
        self, components: Collection[str], *, but: Mapping[str, Collection[str]] | None = None
    ) -> None:
        """Prove every byte of these components. Raises DamagedError naming file and tensor.

        but: by component, stored tensors that may be left to `fill_fresh`, which proves them too.
        """
        ...

    def check(self, component: str, targets: Mapping[str, Tensor]) -> None:
        """Prove that every target can take its tensor; touches none. Raises MismatchError."""
        ...

    def fill_fresh(self, component: str, targets: Mapping[str, Tensor]) -> None:
        """Write stored tensors into memory nobody uses yet, by stored name.

        Raises DamagedError if bytes are not what was committed.
        """
        ...

    def fill(self, component: str, targets: Mapping[str, Tensor]) -> None:
        """Write stored tensors into live targets, by stored name.

        Raises InterruptedLoadError if that fails half-way.
        """
        ...
