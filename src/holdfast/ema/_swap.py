"""An average put in the place of a model's training weights, and back again.

Where nothing can have kept the address of a weight, the weight's tensor object is pointed at the
average's memory and back: no copy, and the training weights are not touched at all. Otherwise the
training weights are copied aside and the average is copied into their memory.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from holdfast.ema._roster import Entry, memory, overlapping
from holdfast.staging import before_write

SwapMethod: TypeAlias = Literal["auto", "pointer", "copy"]


class Swap:
    """One swap. It is in force from `do` to `undo`; `undo` can be called at any moment."""

    def __init__(self, pairs: Iterable[tuple[Entry, Tensor]], *, by_pointer: bool) -> None:
        """pairs: entry of the model, and the averaged tensor to put in its place."""
        self._wanted = list(pairs)
        self.by_pointer = by_pointer
        self._done: list[tuple[Entry, Tensor]] = []
        self._versions: list[int] = []

    @torch.no_grad()
    def do(self) -> None:
        """Put the average in place; if that fails half-way, put everything back first."""
        prepared = [(entry, *self._prepared(entry, average)) for entry, average in self._wanted]
        self._announce()
        try:
            for entry, training, replacement in prepared:
                self._done.append((entry, training))
                self._place(entry, replacement)
        except BaseException:
            self.undo()
            raise
        self._versions = self._live_versions()

    @torch.no_grad()
    def undo(self) -> bool:
        """Put the training weights back; return whether the live weights were left alone."""
        untouched = self._versions == self._live_versions()
        self._announce()
        while self._done:
            self._place(*self._done[-1])
            self._done.pop()
        return untouched

    def _announce(self) -> None:
        """A save may still be copying what is about to be overwritten."""
        if not self.by_pointer:
            before_write()

    def pairs(self) -> Iterable[tuple[Tensor, Tensor]]:
        """(live tensor, training tensor) of all that is swapped now."""
        return [(live, training) for entry, training in self._done for live in entry.lives]

    def training(self) -> Mapping[str, Tensor]:
        """Training tensors by FQN, of all that is swapped now."""
        return {entry.name: training for entry, training in self._done}

    def _prepared(self, entry: Entry, average: Tensor) -> tuple[Tensor, Tensor]:
        """Where the training weights are kept, and what takes their place."""
        live = memory(entry.live)
        if self.by_pointer:
            return live, _in_place_of(live, average, shared=entry.is_parameter)
        return live.clone(), average

    def _place(self, entry: Entry, values: Tensor) -> None:
        if self.by_pointer:
            for live in entry.lives:
                live.data = values
        else:
            memory(entry.live).copy_(values)

    def _live_versions(self) -> list[int]:
        """How often each parameter was written to; buffers are free to change."""
        return [
            live._version
            for entry, _ in self._done
            if entry.is_parameter
            for live in entry.lives
            if not live.is_inference()
        ]


def pointer_swap_is_legal(model: nn.Module, entries: list[Entry]) -> bool:
    """Whether nothing that can be seen here depends on the addresses of these tensors.

    Compiled code and recurrent layers on a GPU keep them, sharded parameters are more than one
    tensor, and overlapping tensors would no longer overlap. A graph captured by hand cannot be
    seen: then ask for a copy.
    """
    plain = all(type(live) in (Tensor, nn.Parameter) for entry in entries for live in entry.lives)
    if not plain or _has_compiled(model) or overlapping(entries):
        return False
    recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    return not (recurrent and any(entry.live.is_cuda for entry in entries))


def _has_compiled(model: nn.Module) -> bool:
    """Whether the model is compiled, or anything in this process has been: then any part may be."""
    if any(getattr(module, "_compiled_call_impl", None) for module in model.modules()):
        return True
    if any(type(module).__name__ == "OptimizedModule" for module in model.modules()):
        return True
    dynamo = sys.modules.get("torch._dynamo.utils")
    counters = getattr(dynamo, "counters", {})
    return bool(counters.get("frames", {}).get("total", 0))


def _in_place_of(live: Tensor, average: Tensor, *, shared: bool) -> Tensor:
    """The average as it can stand for a live tensor: itself, or a copy if it must be converted.

    A buffer is always copied, so that a forward pass that changes it does not change the average.
    """
    if shared and average.dtype == live.dtype and average.device == live.device:
        return average
    return torch.empty_like(live).copy_(average)
