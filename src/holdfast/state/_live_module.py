"""What a live module's state dict is made of, and which of it can be written in place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from holdfast.state._entangled import entangled_names
from holdfast.state._module_state import module_state
from holdfast.state._regions import Region, region, region_keys
from holdfast.state.names import CanonicalNames
from holdfast.state.sharded import is_sharded

EXTRA_STATE = "_extra_state"

# Loaders that do no more than copy by name when every name is there.
_PLAIN_LOADERS = (
    "torch.nn.modules.module",
    "torch.nn.modules.batchnorm",
    "torch.nn.modules.instancenorm",
)
# Hooks of known wrappers that only put their own segment back into the keys, or see to it that
# parameters are in their sharded form, which they are once `state_dict()` was called.
_HARMLESS_HOOKS = ("torch.distributed.algorithms._checkpoint", "torch.distributed.fsdp._fully_")


@dataclass(frozen=True)
class LiveModule:
    """A module's state dict by FQN, as it is now.

    tensors: FQN to the state dict's tensor. extras: FQNs of what only `load_state_dict` can set.
    raw: FQN to raw key. regions: FQN to the memory region of its tensor.
    in_place: FQNs whose tensor is live memory that may be written directly.
    entangled: FQNs of live memory that other tensors share in part, so that it may not.
    own_loading: FQNs of modules that load by code of their own. after_load: whether any module
    wants to be told after a load.
    """

    module: nn.Module
    tensors: Mapping[str, Tensor]
    extras: frozenset[str]
    raw: Mapping[str, str]
    regions: Mapping[str, Region]
    in_place: frozenset[str]
    entangled: frozenset[str]
    own_loading: frozenset[str]
    after_load: bool
    metadata: Mapping[str, Mapping[str, Any]]

    def loads_itself(self, name: str) -> bool:
        """Whether a module on the way to this FQN loads by code of its own."""
        return not self.own_loading.isdisjoint(_parents(name))


def inspect_module(module: nn.Module) -> LiveModule:
    """Look at a module's state dict, hooks and loaders; changes nothing."""
    state = module_state(module)
    canonical = CanonicalNames(module)
    kinds = {type(submodule) for submodule in state.modules.values()}
    loaders = {kind for kind in kinds if _has_own_loader(kind)}
    own_loading = frozenset(
        canonical.of_module(raw)
        for raw, submodule in state.modules.items()
        if type(submodule) in loaders
        or not all(map(_is_harmless, submodule._load_state_dict_pre_hooks.values()))
    )
    tensors = {
        fqn: value
        for fqn, value in state.values.items()
        if isinstance(value, Tensor) and not (fqn.endswith(EXTRA_STATE) and is_extra(fqn))
    }
    regions, apart = region_keys(tensors)
    by_itself = {fqn: tensor for fqn, tensor in tensors.items() if not is_lazy(tensor)}
    if not state.registered:
        regions = {fqn: region(tensor) for fqn, tensor in tensors.items()}
        writable = {region(tensor) for tensor in _registered(module)}
        by_itself = {
            fqn: tensor
            for fqn, tensor in by_itself.items()
            if regions[fqn] in writable or tensor.numel() == 0
        }
    if own_loading:
        by_itself = {
            fqn: tensor
            for fqn, tensor in by_itself.items()
            if own_loading.isdisjoint(_parents(fqn))
        }
    entangled: frozenset[str] = frozenset()
    if not apart:
        entangled = entangled_names(
            {fqn: t for fqn, t in by_itself.items() if not _without_memory(t)}, regions
        )
    return LiveModule(
        module=module,
        tensors=tensors,
        extras=frozenset(state.values.keys() - tensors.keys()),
        raw=state.raw,
        regions=regions,
        in_place=frozenset(by_itself) - entangled,
        entangled=entangled,
        own_loading=own_loading,
        after_load=any(
            not _is_harmless(hook)
            for sub in state.modules.values()
            for hook in sub._load_state_dict_post_hooks.values()
        ),
        metadata=state.metadata,
    )


def is_extra(name: str) -> bool:
    """Whether a state-dict key is what `get_extra_state` returned."""
    return name.rpartition(".")[2] == EXTRA_STATE


def _without_memory(tensor: Tensor) -> bool:
    # Parts of sharded tensors are memory of their own.
    return tensor.is_meta or tensor.numel() == 0 or is_sharded(tensor)


def _registered(module: nn.Module) -> Iterable[Tensor]:
    for submodule in module.modules():
        yield from (p for p in submodule._parameters.values() if p is not None)
        yield from (b for b in submodule._buffers.values() if b is not None)


def _has_own_loader(kind: type[nn.Module]) -> bool:
    if kind.load_state_dict.__module__ != nn.Module.__module__:
        return True
    return kind._load_from_state_dict.__module__ not in _PLAIN_LOADERS


def _is_harmless(hook: Callable[..., object]) -> bool:
    function = getattr(hook, "hook", hook)
    return str(getattr(function, "__module__", "")).startswith(_HARMLESS_HOOKS)


def _parents(name: str) -> list[str]:
    """FQNs of the modules on the way to a tensor, the root ("") first."""
    segments = name.split(".")
    return [".".join(segments[:depth]) for depth in range(len(segments))]
