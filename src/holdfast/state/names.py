"""Canonical FQNs: the names a module's tensors have when no wrapper stands around it.

A wrapper is recognised by its type, never by the spelling of a key, so that an attribute a user
happens to call `module` keeps its name. Known wrappers, at the top or anywhere inside:
DistributedDataParallel, DataParallel, the module `torch.compile` returns, fully sharded data
parallel (the wrapping kind) and activation checkpointing. `AveragedModel` is not one of them: it
has state of its own (`n_averaged`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TypeAlias

from torch import nn

from holdfast.errors import ConfigError

_Wrappers: TypeAlias = "tuple[tuple[type, str], ...]"

# Where a wrapper type lives, what it is called, and the attribute that holds the wrapped module.
_WRAPPERS = (
    ("torch.nn.parallel.distributed", "DistributedDataParallel", "module"),
    ("torch.nn.parallel.data_parallel", "DataParallel", "module"),
    ("torch._dynamo.eval_frame", "OptimizedModule", "_orig_mod"),
    (
        "torch.distributed.fsdp.fully_sharded_data_parallel",
        "FullyShardedDataParallel",
        "_fsdp_wrapped_module",
    ),
    (
        "torch.distributed.algorithms._checkpoint.checkpoint_wrapper",
        "ActivationWrapper",
        "_checkpoint_wrapped_module",
    ),
)

# What wrappers put into keys; used only to suggest renames for names of unknown origin.
WRAPPER_SEGMENTS = frozenset(attribute for _, _, attribute in _WRAPPERS)


def unwrap(module: nn.Module) -> nn.Module:
    """Return the user's own module inside any wrappers at the top; `module` itself if none."""
    attribute = _wrapped_attribute(module)
    while attribute is not None:
        module = module._modules[attribute]  # type: ignore[assignment]
        attribute = _wrapped_attribute(module)
    return module


def wrapped_attributes(kind: type) -> tuple[str, ...]:
    """Where a module of this class, if it is a known wrapper, may hold the wrapped module."""
    return tuple(
        attribute for wrapper, attribute in _loaded_wrappers() if issubclass(kind, wrapper)
    )


class CanonicalNames:
    """The FQNs of one module's keys; each way through the module is followed once.

    A key is followed through the actual modules, and a segment is dropped exactly where the
    module it passes through is a wrapper and the segment is the one that wrapper adds.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._attributes: dict[type, tuple[str, ...]] = {}
        self._known: dict[str, str] = {"": ""}

    def of_tensor(self, raw: str) -> str:
        """The FQN of a raw key of `state_dict()`, `named_parameters()` or `named_buffers()`."""
        parent, dot, last = raw.rpartition(".")
        owner = self.of_module(parent) if dot else ""
        return f"{owner}.{last}" if owner else last

    def of_module(self, raw: str) -> str:
        """The FQN of a raw name of `named_modules()`; empty for the user's module itself."""
        if raw not in self._known:
            self._known[raw] = self._follow(raw.split("."))
        return self._known[raw]

    def _follow(self, segments: list[str]) -> str:
        kept: list[str] = []
        current: nn.Module | None = self._module
        position = 0
        while position < len(segments) and current is not None:
            segment = segments[position]
            attribute = self._attribute(current)
            if attribute is None:
                kept.append(segment)
                position += 1
                current = current._modules.get(segment)
            elif segment == attribute or not _is_own(current, segment):
                # Some wrappers strip their own segment from state dicts: then none is consumed.
                position += segment == attribute
                current = current._modules[attribute]
            else:
                break
        return ".".join(kept + segments[position:])

    def _attribute(self, module: nn.Module) -> str | None:
        kind = type(module)
        if kind not in self._attributes:
            self._attributes[kind] = wrapped_attributes(kind)
        return next((name for name in self._attributes[kind] if name in module._modules), None)


def canonical_name(module: nn.Module, raw: str) -> str:
    """Return the FQN of one raw key; `CanonicalNames` is quicker for many."""
    return CanonicalNames(module).of_tensor(raw)


def canonical_names(module: nn.Module, raw_names: Iterable[str]) -> dict[str, str]:
    """Map each raw key to its FQN, in the same order.

    Raises ConfigError if two raw keys would get one FQN, which takes a wrapper with tensors of
    its own named like those of the module it wraps.
    """
    canonical = CanonicalNames(module)
    names: dict[str, str] = {}
    taken: dict[str, str] = {}
    for raw in raw_names:
        name = canonical.of_tensor(raw)
        if name in taken:
            raise ConfigError(
                f"The keys {taken[name]!r} and {raw!r} are both {name!r} without wrappers",
                where=type(module).__name__,
                fix="rename the tensor that the wrapper itself holds",
            )
        taken[name] = raw
        names[raw] = name
    return names


def _loaded_wrappers() -> _Wrappers:
    """The wrapper types that exist in this process; one never imported has no instances."""
    homes = [(sys.modules.get(place), name, attribute) for place, name, attribute in _WRAPPERS]
    return tuple(
        (getattr(home, name), attribute)
        for home, name, attribute in homes
        if home is not None and isinstance(getattr(home, name, None), type)
    )


def _wrapped_attribute(module: nn.Module) -> str | None:
    held = (name for name in wrapped_attributes(type(module)) if name in module._modules)
    return next(held, None)


def _is_own(module: nn.Module, name: str) -> bool:
    return name in module._modules or name in module._parameters or name in module._buffers
