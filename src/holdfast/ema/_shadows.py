"""The averaged tensors of a model, kept in step with tensors that come, go, freeze and thaw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from holdfast.ema._average import Average, new_shadow
from holdfast.ema._fold import Folder
from holdfast.ema._offload import BeginCopies, Offload, cuda_copies
from holdfast.ema._roster import Entry, Roster, averageable, memory
from holdfast.staging import before_write

BufferPolicy: TypeAlias = Literal["copy", "average", "ignore"]


class Shadows:
    """All averages of one model. copies: buffers as they were at the last update, by FQN.

    begin_copies: how weights come to averages on the host beside training, whatever their device;
    None is by CUDA streams from GPUs.
    """

    def __init__(
        self,
        model: nn.Module,
        averages: Sequence[Average],
        *,
        device: torch.device | None,
        dtype: torch.dtype | None,
        buffers: BufferPolicy,
    ) -> None:
        self.averages = tuple(averages)
        self.copies: dict[str, Tensor] = {}
        self._roster = Roster(model)
        self._device = device
        self._dtype = dtype
        self._buffers = buffers
        self._folder: Folder | None = None
        self._offload: Offload | None = None
        self._attached = False
        self._cuda_copies = cuda_copies({})
        self.begin_copies: BeginCopies | None = None

    def attach(self, attached: bool) -> None:
        """Whether an optimizer's hook makes the updates: then they may run beside training."""
        self._attached = attached
        self.forget_batches()

    def settle(self) -> None:
        """Wait for an update that runs beside training. Raises AverageError if it was torn."""
        if self._offload is not None:
            self._offload.settle()

    @property
    def entries(self) -> dict[str, Entry]:
        """The model's tensors by first FQN, as of now."""
        self._roster.refresh()
        return self._roster.entries

    def refresh(self) -> None:
        """Wait for an update under way, then `look_up`: the averages can be read and written."""
        self.settle()
        self.look_up()

    def look_up(self) -> None:
        """Start averages of what has come or thawed at its present value, drop what has gone."""
        if not self._roster.refresh() and self._folder is not None:
            return
        self.forget_batches()
        entries = self._roster.entries
        for average in self.averages:
            average.shadow = {
                name: self._fitting(average.shadow.get(name), entry, averaged=True)
                for name, entry in entries.items()
                if self._is_averaged(entry, average)
            }
        self.copies = {
            entry.name: self._fitting(self.copies.get(entry.name), entry, averaged=False)
            for entry in self._roster.buffers()
            if self._is_copied(entry)
        }
        tensors = [
            (entries[name], [average.shadow[name] for average in self.averages])
            for name in self.averages[0].shadow
        ]
        self._folder = Folder([(entry.live, shadows) for entry, shadows in tensors])
        begin = self.begin_copies or (self._cuda_copies if _crosses(tensors) else None)
        if self._attached and begin is not None:
            self._offload = Offload(tensors, begin)

    def restart(self, averages: Sequence[Average]) -> None:
        """Set the tensors of these averages to the present weights, and forget their counters."""
        self.refresh()
        before_write()
        for average in averages:
            average.clear()
            for name, shadow in average.shadow.items():
                shadow.copy_(memory(self._roster.entries[name].live))
        self.copy_buffers()

    def fold(self) -> None:
        """Fold the present weights into every average."""
        self.look_up()
        before_write()
        shares = [average.take_share() for average in self.averages]
        if self._offload is not None:
            entries = self._roster.entries
            buffers = [(memory(entries[name].live), copy) for name, copy in self.copies.items()]
            self._offload.fold(shares, buffers)
            return
        if self._folder is not None:
            self._folder.fold(shares)
        self.copy_buffers()

    @torch.no_grad()
    def copy_buffers(self) -> None:
        """Take over the buffers that are copied."""
        for name, copy in self.copies.items():
            copy.copy_(memory(self._roster.entries[name].live), non_blocking=copy.is_cuda)

    def forget_batches(self) -> None:
        """Look everything up again at the next update: tensors were replaced."""
        offload, self._folder, self._offload = self._offload, None, None
        if offload is not None:
            offload.close()

    def _is_averaged(self, entry: Entry, average: Average) -> bool:
        if entry.is_parameter:
            return entry.trains or (entry.name in average.shadow and averageable(entry.live))
        return self._buffers == "average" and averageable(entry.live)

    def _is_copied(self, entry: Entry) -> bool:
        if self._buffers == "average":
            return not averageable(entry.live)
        return self._buffers == "copy"

    def _fitting(self, shadow: Tensor | None, entry: Entry, *, averaged: bool) -> Tensor:
        live = memory(entry.live)
        if shadow is None or shadow.shape != live.shape:
            return new_shadow(entry, self._device, self._dtype, averaged=averaged)
        if self._device is None and shadow.device != live.device:
            return shadow.to(live.device)
        return shadow


def _crosses(tensors: Sequence[tuple[Entry, Sequence[Tensor]]]) -> bool:
    """Whether weights have to come from a GPU to averages on the host."""
    return bool(tensors) and all(
        memory(entry.live).is_cuda and shadows[0].is_cpu for entry, shadows in tensors
    )
