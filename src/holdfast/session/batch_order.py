"""Batch order in a restore: what a resumable loader says of its saved position."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from holdfast.session.checklist import Line


@runtime_checkable
class OrderedLoader(Protocol):
    """A loader that can tell how a saved position differs from what it would draw now."""

    epoch: int
    position: int

    def __len__(self) -> int:
        """Batches in an epoch."""

    def mismatches(self, state: Mapping[str, Any]) -> list[Any]:
        """Every difference that changes which samples come next."""

    def state_dict(self) -> dict[str, Any]:
        """The position."""

    def load_state_dict(self, state: Mapping[str, Any], *, strict: bool = True) -> None:
        """Take the position back; strict refuses one that differs."""


class LenientLoader:
    """Takes a position back even where the order differs, and remembers the differences."""

    def __init__(self, loader: OrderedLoader) -> None:
        self._loader = loader
        self.found: list[str] = []

    def state_dict(self) -> dict[str, Any]:
        """The loader's position."""
        return self._loader.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Note what differs, then let the loader make the best of it."""
        self.found = [str(mismatch) for mismatch in self._loader.mismatches(state)]
        self._loader.load_state_dict(state, strict=False)


def order_line(name: str, loader: OrderedLoader, differences: list[str]) -> Line:
    """Where the loader stands, and whether its order is proven to be the saved one."""
    place = f"epoch {loader.epoch}, {loader.position} of {len(loader)} batches consumed"
    if differences:
        return Line(name, "mismatch", f"batch order differs: {'; '.join(differences)}; {place}")
    return Line(name, "restored", f"batch order verified: {place}")
