"""What is exported: a module with the signature of its forward, and checks beyond single calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import torch
from torch import Tensor, nn

from holdfast.export.signature import Signature
from holdfast.jsontext import Json

Runner: TypeAlias = Callable[..., tuple[Tensor, ...]]
"""Tensors in the order of the signature to tensors in the order of its outputs, on the CPU."""

MakeInputs: TypeAlias = Callable[[Mapping[str, int], torch.Generator], Sequence[Tensor]]
"""Sizes by axis to one set of inputs, for graphs whose inputs must fit one another."""


@dataclass(frozen=True)
class Graph:
    """A module to be exported, called with positional tensors.

    name: becomes the stem of its files, so several graphs can share a release. The module may
    return a tensor, or tensors in tuples, lists, dicts and their like: they are flattened.
    """

    name: str
    module: nn.Module
    signature: Signature
    make_inputs: MakeInputs | None = None


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check found. text: one sentence with the figures. data: the figures."""

    name: str
    passed: bool
    text: str
    data: Mapping[str, Json] = field(default_factory=dict)


class Check(Protocol):
    """A comparison that needs more than one call: the same greedy tokens, the same BLEU.

    Called once per format with the graphs by name: in eager mode, and reloaded from their files.
    """

    def __call__(self, eager: Mapping[str, Runner], artifact: Mapping[str, Runner]) -> CheckResult:
        """Compare; a difference is a result, not an exception."""
        ...
