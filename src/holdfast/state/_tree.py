"""Decoding a component's tree before and after its tensors are there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from holdfast.codec import Codec
from holdfast.errors import FormatError
from holdfast.state.component import StoredComponent


@dataclass(frozen=True, slots=True)
class Reference:
    """Stands for a stored tensor in a tree decoded before any tensor was read."""

    name: str


@dataclass
class Outline:
    """A tree decoded with references in place of tensors. names: all that are referred to."""

    value: object
    names: set[str] = field(default_factory=set)


def outline(stored: StoredComponent, codec: Codec) -> Outline:
    """Decode the tree with a `Reference` for each tensor.

    Raises FormatError if the tree refers to a tensor that the component does not have.
    """
    names: set[str] = set()

    def resolve(name: str, path: str) -> Reference:
        if name not in stored.tensors:
            raise FormatError(
                f"The state tree refers to a tensor {name!r} that is not stored",
                where=f"{stored.name}: {path}",
            )
        names.add(name)
        return Reference(name)

    return Outline(codec.decode(stored.tree, where=stored.name, resolve=resolve), names)


def filled(stored: StoredComponent, codec: Codec, tensor: Callable[[str], object]) -> object:
    """Decode the tree with the actual tensors."""
    return codec.decode(stored.tree, where=stored.name, resolve=lambda name, _: tensor(name))


def fresh_targets(
    stored: StoredComponent, names: set[str], device: torch.device
) -> dict[str, Tensor]:
    """Allocate a tensor for each of the named stored tensors, in stored order."""
    return {name: facts.allocate(device) for name, facts in stored.tensors.items() if name in names}
