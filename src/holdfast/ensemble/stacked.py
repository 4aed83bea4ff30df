"""Models of one architecture run together, their parameters stacked (`torch.func`)."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state


def stackable(models: Sequence[nn.Module]) -> bool:
    """Whether the models look alike: class, structure, names, shapes, dtypes and devices.

    What cannot be seen (a number of heads kept in an attribute) can only be tried.
    """
    return len({_likeness(model) for model in models}) == 1


class Stacked:
    """Calls all models at once. Their parameters and buffers become views of the stacks."""

    def __init__(self, models: Sequence[nn.Module]) -> None:
        parameters, buffers = stack_module_state(list(models))
        self._state = {name: stack.detach() for name, stack in {**parameters, **buffers}.items()}
        for index, model in enumerate(models):
            _point_at(model, {name: stack[index] for name, stack in self._state.items()})
        self._count = len(models)
        shell = copy.copy(models[0])
        # Out of the list of submodules: a shell is no member.
        self._shell = [shell]

    def __call__(self, inputs: tuple[Any, ...], named: dict[str, Any]) -> list[Tensor]:
        """The output of each model."""

        def one(state: dict[str, Tensor]) -> Tensor:
            return cast(Tensor, functional_call(self._shell[0], state, inputs, named))

        outputs = torch.vmap(one)(self._state)
        return list(outputs.unbind(0))

    def tried(self, inputs: tuple[Any, ...], named: dict[str, Any]) -> list[Tensor] | None:
        """The outputs; None if the models cannot be called like this, for whatever reason.

        An operator without a batched form would run once for each member after all, and slower: one
        such (attention on a CPU, in torch 2.13) is a reason not to.
        """
        try:
            with _without_fallback():
                return self(inputs, named)
        except Exception:  # noqa: BLE001 (whatever user code raises here means: not like this)
            return None


@contextlib.contextmanager
def _without_fallback() -> Iterator[None]:
    """Let operators without a batched form raise, where torch can be told so."""
    switch = getattr(torch._C._functorch, "_set_vmap_fallback_enabled", None)
    if switch is None:
        yield
        return
    switch(False)
    try:
        yield
    finally:
        switch(True)


def _likeness(model: nn.Module) -> tuple[object, ...]:
    facts = [
        (name, tuple(tensor.shape), tensor.dtype, tensor.device, tensor.requires_grad)
        for named in (model.named_parameters(), model.named_buffers())
        for name, tensor in named
    ]
    return type(model), repr(model), tuple(facts)


def _point_at(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    for named in (model.named_parameters(), model.named_buffers()):
        for name, tensor in named:
            tensor.data = tensors[name]
