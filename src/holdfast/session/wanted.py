"""Which part of a checkpoint a load restores, and how exactly it must fit."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from holdfast.errors import ConfigError
from holdfast.session.objects import (
    MODEL,
    OPTIMIZER,
    RNG,
    RUN,
    SCALER,
    SCHEDULER,
    LiveObjects,
)
from holdfast.state import CastPolicy, StoredComponent
from holdfast.state.key_mapping import KeyMapping

Only: TypeAlias = "str | Iterable[str] | Callable[[str], bool]"

_CLOSE_SHOWN = 3


@dataclass(frozen=True)
class Wanted:
    """The options of one load.

    optimizer: also optimizer, scheduler and scaler. rng: also random states.
    components: these by name and no others, whatever `optimizer` and `rng` say; None for all, or
    for the model alone if `only` is given. only: the FQNs of the tensors and extra states to load
    into modules: names of tensors, of submodules (all below them), patterns with * and ?, or a
    function of the FQN; the others are neither read nor required.
    strict: names must agree on both sides. cast: whether floating dtypes may differ.
    device: where tensors are put that have no live memory to go to. mapping: under which names the
    checkpoint holds what the model wants; alone it stands for the model, as `only` does.
    """

    optimizer: bool = True
    rng: bool = True
    components: Collection[str] | None = None
    only: Only | None = None
    strict: bool = True
    cast: CastPolicy = "refuse"
    device: torch.device = torch.device("cpu")  # noqa: RUF009 (a device is immutable)
    mapping: KeyMapping | None = None

    @property
    def partial(self) -> bool:
        """Whether it asks for a part, so that the session does not become the checkpoint's."""
        parts = (self.components, self.only, self.mapping)
        return any(part is not None for part in parts)

    def live(self, objects: LiveObjects) -> dict[str, Any]:
        """The live objects to restore into, by component name, random states left out.

        Raises ConfigError for a component nothing here is called.
        """
        there = objects.components()
        if not self.partial:
            held = {} if self.optimizer else {OPTIMIZER, SCHEDULER, SCALER}
            return {name: value for name, value in there.items() if name not in held}
        names = self._names()
        unknown = [name for name in names if name not in there and name != RNG]
        if unknown:
            raise ConfigError(
                f"There is no component {unknown[0]!r} to restore into "
                f"(there are: {', '.join([*there, RNG])})",
                fix="give the object to the manager, or register() it under that name first",
            )
        return {name: value for name, value in there.items() if name in names}

    @property
    def random_states(self) -> bool:
        """Whether random states are to be restored."""
        return RNG in self._names() if self.partial else self.rng

    def selects(self, stored: Mapping[str, StoredComponent]) -> Callable[[str], bool] | None:
        """`only` as a function of the FQN, None for everything.

        stored: the modules to load. Raises ConfigError if a name or pattern fits nothing in them.
        """
        if self.only is None or callable(self.only):
            return self.only
        patterns = [self.only] if isinstance(self.only, str) else list(self.only)
        names = [n for module in stored.values() for n in (*module.tensors, *module.aliases)]
        for pattern in patterns:
            if not any(_fits(name, pattern) for name in names):
                close = difflib.get_close_matches(pattern, names, _CLOSE_SHOWN)
                raise ConfigError(
                    f"only={pattern!r} fits nothing in the checkpoint"
                    + (f"; close to it: {', '.join(close)}" if close else ""),
                    where=", ".join(stored) or None,
                    fix="use FQNs, names of submodules, or patterns such as 'encoder.*.weight'",
                )
        return lambda name: any(_fits(name, pattern) for pattern in patterns)

    def _names(self) -> Collection[str]:
        if self.components is None:
            return (MODEL,)
        if isinstance(self.components, str):
            raise ConfigError(
                f"components is the text {self.components!r}",
                fix=f"pass a list: components=[{self.components!r}]",
            )
        return [name for name in self.components if name != RUN]


def device_of(map_location: str | torch.device | None) -> torch.device:
    """`map_location` as a device, the CPU for None.

    Raises ConfigError for a device that cannot be used here, and for the functions and dicts that
    `torch.load` takes: live tensors are filled where they are, so there is nothing to map.
    """
    if map_location is None:
        return torch.device("cpu")
    if not isinstance(map_location, (str, torch.device)):
        raise ConfigError(
            f"map_location is a {type(map_location).__name__}",
            fix="pass one device; tensors of live objects are filled where those are",
        )
    try:
        device = torch.device(map_location)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(
            f"map_location={str(map_location)!r} cannot be used here: {reason}",
            fix='pass "cpu", or a device that this process can use',
        ) from error
    return device


def _fits(name: str, pattern: str) -> bool:
    return name == pattern or name.startswith(f"{pattern}.") or fnmatch.fnmatchcase(name, pattern)
