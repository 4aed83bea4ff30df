"""State that the step function can reach and no checkpoint holds.

Objects are followed from the step function through closures, globals that its code names, bound
objects, containers and the attributes of objects of the user's own classes, so that each piece has
a name a person recognises: `step.batches`, `trainer.noise.bit_generator`. What the checkpoints hold
is not entered. Random generators, modules, optimizers, loaders and their iterators are leaves.
"""

from __future__ import annotations

import functools
import random
import sys
import types
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader, Sampler
from torch.utils.data.dataloader import _BaseDataLoaderIter

from holdfast.rehearsal.digests import value_digest
from holdfast.rehearsal.records import Kind, Mark

_NODES_MAX = 20_000
_DEPTH_MAX = 14
_PLAIN = (int, float, complex, str, bytes, bool, type(None))
_FOREIGN = frozenset(
    {"torch", "numpy", "holdfast", "logging", "threading", "torchdata", "transformers", "rich"}
)


def hidden_marks(step: Any, known: set[int]) -> dict[str, Mark]:
    """A mark for each piece of state, by name. known: ids of what the checkpoints hold."""
    walk = _Walk(known)
    walk.enter(getattr(step, "__name__", "step"), step, 0)
    return walk.marks


@dataclass(frozen=True)
class _Place:
    """Where a generator stands in its code."""

    at: int


class _Walk:
    def __init__(self, known: set[int]) -> None:
        self._seen = set(known)
        self._kept: list[Any] = []
        self.marks: dict[str, Mark] = {}

    def enter(self, name: str, value: Any, depth: int) -> None:
        """Mark a leaf, or enter what holds others."""
        if isinstance(value, _PLAIN):
            self._mark(name, "value", repr(value))
            return
        if id(value) in self._seen or depth > _DEPTH_MAX or len(self._seen) > _NODES_MAX:
            return
        self._seen.add(id(value))
        self._kept.append(value)
        found = _leaf(value)
        if found is not None:
            kind, state = found
            self._mark(name, kind, value_digest(state))
            return
        for inner, child in _children(name, value):
            self.enter(inner, child, depth + 1)

    def _mark(self, name: str, kind: Kind, digest: str) -> None:
        self.marks[name] = Mark(kind, digest, saved=False)


def _leaf(value: Any) -> tuple[Kind, Any] | None:
    """The kind and the state of a leaf, None for what is to be entered."""
    if isinstance(value, torch.Generator):
        return "random stream", value.get_state()
    if isinstance(value, random.Random):
        return "random stream", value.getstate()
    if isinstance(value, np.random.Generator):
        return "random stream", value.bit_generator.state
    if isinstance(value, np.random.RandomState):
        return "random stream", value.get_state(legacy=False)
    if isinstance(value, nn.Module):
        return "module", value.state_dict()
    if isinstance(value, Optimizer):
        return "optimizer", value.state_dict()
    if isinstance(value, LRScheduler) or (_stateful(value) and hasattr(value, "last_epoch")):
        return "scheduler", value.state_dict()
    if isinstance(value, torch.amp.GradScaler):
        return "scaler", value.state_dict()
    if isinstance(value, _BaseDataLoaderIter):
        return "loader", value._num_yielded
    if _stateful(value):
        return ("loader" if isinstance(value, DataLoader) else "stateful"), value.state_dict()
    if isinstance(value, (Tensor, np.ndarray)):
        return "tensor", value
    if isinstance(value, _Place):
        return "iterator", value.at
    if not isinstance(value, types.GeneratorType) and isinstance(value, Iterator):
        return "iterator", _reduced(value)
    return None


def _stateful(value: Any) -> bool:
    """Whether it is an object (not a class) that can be saved and loaded."""
    if isinstance(value, type):
        return False
    return callable(getattr(value, "state_dict", None)) and callable(
        getattr(value, "load_state_dict", None)
    )


def _reduced(value: Any) -> Any:
    """Where a built-in iterator stands, as far as it says; reading does not move it."""
    if type(value).__module__ not in ("builtins", "itertools"):
        return vars(value) if hasattr(value, "__dict__") else type(value).__name__
    hint = getattr(value, "__length_hint__", None)
    return (type(value).__name__, hint() if hint is not None else repr(value)[:200])


def _children(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((f"{name}[{key!r}]", child) for key, child in list(value.items()))
    elif isinstance(value, (list, tuple, deque)):
        yield from ((f"{name}[{index}]", child) for index, child in enumerate(value))
    elif isinstance(value, functools.partial):
        yield name, value.func
        yield f"{name}.args", value.args
        yield f"{name}.keywords", value.keywords
    elif isinstance(value, types.MethodType):
        yield _owner(name, value), value.__self__
        yield name, value.__func__
    elif isinstance(value, types.FunctionType):
        yield from _of_function(name, value)
    elif isinstance(value, types.GeneratorType):
        frame = value.gi_frame
        if frame is not None:
            yield f"{name}.at", _Place(frame.f_lasti)
            yield from ((f"{name}.{key}", child) for key, child in frame.f_locals.items())
    elif isinstance(value, (DataLoader, Sampler)):
        yield from _of_loader(name, value)
    elif _is_the_users(value):
        yield from ((f"{name}.{key}", child) for key, child in list(vars(value).items()))


def _owner(name: str, method: types.MethodType) -> str:
    return type(method.__self__).__name__ if name == method.__name__ else f"{name}.__self__"


def _of_function(name: str, function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    for variable, cell in zip(
        function.__code__.co_freevars, function.__closure__ or (), strict=True
    ):
        try:
            yield f"{name}.{variable}", cell.cell_contents
        except ValueError:
            continue
    for variable in function.__code__.co_names:
        if variable in function.__globals__:
            child = function.__globals__[variable]
            if not isinstance(child, (types.ModuleType, type)) and _is_of_user_code(child):
                yield variable, child
    yield from (
        (f"{name}.default", child)
        for child in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
    )


def _of_loader(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The random generators of a loader and its sampler, and an iterator that is kept."""
    for key in ("generator", "sampler", "batch_sampler", "_iterator"):
        child = getattr(value, key, None)
        if child is not None:
            yield f"{name}.{key}", child


def _is_of_user_code(value: Any) -> bool:
    """Functions of libraries are not entered: they have no state of the training."""
    if not isinstance(value, (types.FunctionType, types.BuiltinFunctionType)):
        return True
    return _root(getattr(value, "__module__", None) or "") not in _FOREIGN


def _is_the_users(value: Any) -> bool:
    if isinstance(value, (type, types.ModuleType)) or not hasattr(value, "__dict__"):
        return False
    root = _root(type(value).__module__)
    return root not in _FOREIGN and root not in sys.stdlib_module_names


def _root(module: str) -> str:
    return module.partition(".")[0]
