"""The live objects of a training session, by the component names they are saved under."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from holdfast.errors import ConfigError
from holdfast.state import ModuleState, SavesItself, parameter_names

MODEL, OPTIMIZER, SCHEDULER, SCALER = "model", "optimizer", "scheduler", "scaler"
RNG, RUN = "rng", "run"
RESERVED = frozenset({MODEL, OPTIMIZER, SCHEDULER, SCALER, RNG, RUN, "state", "manifest", "config"})

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")


@dataclass
class LiveObjects:
    """What a checkpoint is taken from and restored into; None for what the session lacks.

    registered: further objects with `state_dict()` and `load_state_dict()`, in order of
    registration. generators: NumPy or torch generators whose state belongs to the random state.
    """

    model: nn.Module
    optimizer: Optimizer | None = None
    scheduler: Any = None
    scaler: Any = None
    registered: dict[str, Any] = field(default_factory=dict)
    generators: dict[str, Any] = field(default_factory=dict)

    def register(self, name: str, stateful: object) -> None:
        """Add an object under a component name of its own.

        Raises ConfigError for a name that is taken or unusable, or an object without state.
        """
        if _NAME.fullmatch(name) is None:
            raise ConfigError(
                f"{name!r} cannot name a component",
                fix="use letters, digits, '_' and '-', starting with a letter",
            )
        if name in RESERVED or name in self.registered:
            raise ConfigError(
                f"The component name {name!r} is taken", fix="register it under another name"
            )
        lacking = [m for m in ("state_dict", "load_state_dict") if not hasattr(stateful, m)]
        if lacking:
            raise ConfigError(
                f"The object to register as {name!r}, a {type(stateful).__name__}, has no "
                f"{' and no '.join(lacking)}",
                fix="register an object with both methods, or pass plain values as extra_state",
            )
        self.registered[name] = stateful
        if isinstance(stateful, SavesItself):
            for suffix, companion in stateful.companions().items():
                self.register(f"{name}{suffix}", companion)

    def components(self) -> dict[str, Any]:
        """Every object that is there, by component name; random states are not among them."""
        named = {
            MODEL: self.model,
            OPTIMIZER: self.optimizer,
            SCHEDULER: self.scheduler,
            SCALER: self.scaler,
        }
        return {name: value for name, value in named.items() if value is not None} | self.registered

    def optimizers(self) -> Iterator[tuple[str, Optimizer]]:
        """Every optimizer, by component name."""
        if self.optimizer is not None:
            yield OPTIMIZER, self.optimizer
        for name, value in self.registered.items():
            if isinstance(value, Optimizer):
                yield name, value

    def modules(self) -> Iterator[tuple[str, nn.Module]]:
        """Every module, by component name, the model first."""
        yield MODEL, self.model
        for name, value in self.registered.items():
            if isinstance(value, nn.Module):
                yield name, value

    def announced_tensors(self) -> Iterator[Tensor]:
        """Tensors of registered objects that are changed after an announcement only."""
        for value in self.registered.values():
            if isinstance(value, SavesItself):
                yield from value.announced_tensors()

    def parameter_names(self, states: Mapping[str, ModuleState] | None = None) -> dict[Tensor, str]:
        """FQN of every parameter; those of registered modules are prefixed with their name.

        states: of the modules, by component, where they are known already.
        """
        names: dict[Tensor, str] = {}
        for component, module in self.modules():
            prefix = "" if component == MODEL else f"{component}."
            state = (states or {}).get(component)
            known = (
                parameter_names(module, prefix) if state is None else state.parameter_names(prefix)
            )
            for parameter, fqn in known.items():
                names.setdefault(parameter, fqn)
        return names

    def reshard(self) -> None:
        """Bring fully sharded modules (FSDP2) into their sharded form.

        After a forward without a backward some parameters are whole, and other objects than those
        the optimizer knows.
        """
        home = sys.modules.get("torch.distributed.fsdp")
        if home is None or not hasattr(home, "FSDPModule"):
            return
        for _, module in self.modules():
            for part in module.modules():
                if isinstance(part, home.FSDPModule):
                    part.reshard()
