"""What a module's state dict holds, by FQN, found in one walk where that is all it would do.

`Module.state_dict` calls itself once for each submodule and detaches every tensor, and the names of
its keys are followed through the modules a second time. Where no module, class or hook changes
what it returns, the same is found by walking the modules once; everywhere else it is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from holdfast.state.names import CanonicalNames, canonical_names, wrapped_attributes

# What may be overridden to change the state dict or the names in it.
_ASKED = (
    "state_dict",
    "_save_to_state_dict",
    "get_extra_state",
    "named_parameters",
    "named_modules",
)


@dataclass(frozen=True)
class ModuleState:
    """values: FQN to what the state dict holds, in its order: tensors (live parameters and buffers,
    or what stands for them), and whatever `get_extra_state` returned.

    raw: FQN to raw key. metadata: of every submodule, by raw name, as torch keeps it. parameters:
    FQN of every parameter, all names of a tied one. modules: every submodule by raw name, shared
    ones under each of theirs. registered: whether all tensors among the values are the very
    parameters and buffers.
    """

    values: Mapping[str, object]
    raw: Mapping[str, str]
    metadata: Mapping[str, Mapping[str, Any]]
    parameters: Mapping[str, Tensor]
    modules: Mapping[str, nn.Module]
    registered: bool

    def parameter_names(self, prefix: str = "") -> dict[Tensor, str]:
        """Each parameter object with its FQN (the first one, if tied), `prefix` before it."""
        names: dict[Tensor, str] = {}
        for fqn, parameter in self.parameters.items():
            names.setdefault(parameter, prefix + fqn)
        return names


def module_state(module: nn.Module) -> ModuleState:
    """Look at a module's state; changes nothing. Raises ConfigError as `canonical_names` does."""
    walk = _Walk()
    if walk.visit(module, "", ""):
        return walk.found()
    state = module.state_dict()
    names = canonical_names(module, state)
    canonical = CanonicalNames(module)
    return ModuleState(
        values={names[raw]: value for raw, value in state.items()},
        raw={fqn: raw for raw, fqn in names.items()},
        metadata=getattr(state, "_metadata", {}),
        parameters={canonical.of_tensor(raw): p for raw, p in module.named_parameters()},
        modules=dict(module.named_modules(remove_duplicate=False)),
        registered=False,
    )


def parameter_names(module: nn.Module, prefix: str = "") -> dict[Tensor, str]:
    """Map each parameter object to its FQN (the first one, if tied), with `prefix` before it.

    Tensors are keys by identity, as in `Optimizer.state`.
    """
    walk = _Walk()
    if walk.visit(module, "", ""):
        return walk.found().parameter_names(prefix)
    canonical = CanonicalNames(module)
    return {
        parameter: prefix + canonical.of_tensor(raw) for raw, parameter in module.named_parameters()
    }


class _Walk:
    """One walk through the modules, in the order in which `state_dict` would go."""

    def __init__(self) -> None:
        self._classes: dict[type, tuple[bool, tuple[str, ...]]] = {}
        self._versions: dict[object, Mapping[str, Any]] = {}
        self._metadata: dict[str, Mapping[str, Any]] = {}
        self._values: dict[str, object] = {}
        self._raw: dict[str, str] = {}
        self._parameters: dict[str, Tensor] = {}
        self._modules: dict[str, nn.Module] = {}

    def visit(self, module: nn.Module, raw: str, fqn: str) -> bool:
        """Take in a submodule and all below it; False if its state dict must be asked for.

        raw, fqn: what stands before the names in it, with a dot at the end unless empty.
        """
        kind = type(module)
        known = self._classes.get(kind)
        if known is None:
            known = self._classes[kind] = (_is_plain(kind), wrapped_attributes(kind))
        own = module.__dict__
        if (
            not known[0]
            or module._state_dict_hooks
            or module._state_dict_pre_hooks
            or "state_dict" in own
            or "_save_to_state_dict" in own
            or "named_parameters" in own
        ):
            return False
        self._take_in(module, raw, fqn)
        inside = next((name for name in known[1] if name in module._modules), None)
        if inside is not None and (len(module._modules) > 1 or module._parameters):
            return False
        if inside is not None and module._buffers:
            return False
        for name, child in module._modules.items():
            if child is not None:
                below = fqn if name == inside else f"{fqn}{name}."
                if not self.visit(child, f"{raw}{name}.", below):
                    return False
        return True

    def _take_in(self, module: nn.Module, raw: str, fqn: str) -> None:
        """The parameters and buffers of a module itself."""
        version = getattr(module, "_version", None)
        if version not in self._versions:
            self._versions[version] = {"version": version}
        self._metadata[raw[:-1]] = self._versions[version]
        self._modules[raw[:-1]] = module
        for name, parameter in module._parameters.items():
            if parameter is not None:
                self._values[fqn + name] = self._parameters[fqn + name] = parameter
                if raw != fqn:
                    self._raw[fqn + name] = raw + name
        for name, buffer in module._buffers.items():
            if buffer is not None and name not in module._non_persistent_buffers_set:
                self._values[fqn + name] = buffer
                if raw != fqn:
                    self._raw[fqn + name] = raw + name

    def found(self) -> ModuleState:
        """All that was taken in."""
        return ModuleState(
            values=self._values,
            raw={name: self._raw.get(name, name) for name in self._values},
            metadata=self._metadata,
            parameters=self._parameters,
            modules=self._modules,
            registered=True,
        )


def _is_plain(kind: type) -> bool:
    """Whether no method that makes the state dict is another than torch's own."""
    return not issubclass(kind, torch.jit.ScriptModule) and all(
        getattr(kind, name) is getattr(nn.Module, name) for name in _ASKED
    )
