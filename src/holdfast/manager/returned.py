"""The dict that `load` returns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from holdfast.session.checklist import Line, render

_ON_DEMAND = {
    "model_state_dict": "model",
    "optimizer_state_dict": "optimizer",
    "scheduler_state_dict": "scheduler",
    "scaler_state_dict": "scaler",
    "rng_states": "rng",
}


class LoadedCheckpoint(dict[str, Any]):
    """A plain dict of the small things, which also answers to the components when asked.

    `loaded["model_state_dict"]` reads that component from the checkpoint, verified, at the moment
    it is asked for, so that a load does not hold a second copy of the state. Iteration and
    printing show only what is already there. path: where it was loaded from. lines: what became of
    every part of the session; `report` is the same as text.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        available: Iterable[str],
        read: Callable[[str], Any],
        path: object,
        lines: Iterable[Line] = (),
    ) -> None:
        super().__init__(values)
        self.path = path
        self.lines = tuple(lines)
        self._read = read
        present = set(available)
        self._on_demand = {key: name for key, name in _ON_DEMAND.items() if name in present}
        self._on_demand |= {f"{name}_state_dict": name for name in present} | self._on_demand

    @property
    def report(self) -> str:
        """What was restored, what was not, and why, a line for each part."""
        return render(f"Loaded from {self.path}", self.lines, ())

    def __missing__(self, key: str) -> Any:
        if key not in self._on_demand:
            raise KeyError(key)
        value = self[key] = self._read(self._on_demand[key])
        return value

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or key in self._on_demand

    def get(self, key: str, default: Any = None) -> Any:
        """As `dict.get`, reading a component if that is what the key names."""
        try:
            return self[key]
        except KeyError:
            return default
