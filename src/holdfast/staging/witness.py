"""What tells whether tensors changed while they were being copied.

Version counters count the in-place operations that autograd sees, also under `no_grad`. They miss
(found on torch 2.13) edits through `.data` and NumPy views, and the kernels of fused
optimizers. So beside the counters a sample of the values is kept, one element in 64 KiB and at
least 16 of each tensor, taken on the training thread before `save` returns: if the copy shows other
values there, somebody wrote while it was made. An edit of any run of 64 KiB cannot hide from it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from holdfast.staging.copying import copyable
from holdfast.staging.layout import sample_of

EVERY_BYTES = 64 << 10
COUNT_MIN = 16


def versions(tensors: Sequence[Tensor]) -> list[int]:
    """The version counters, which all aliases of a tensor share."""
    return [tensor._version for tensor in tensors]


class Witness:
    """Counters and samples of some live tensors at one moment. CPU tensors are sampled only."""

    def __init__(self, tensors: Sequence[Tensor], labels: Sequence[str]) -> None:
        self._tensors = tensors
        self._labels = labels
        self._versions = versions(tensors)
        self._sampled = [index for index, tensor in enumerate(tensors) if tensor.is_cpu]
        self._samples = _gather([tensors[index] for index in self._sampled])

    def counted(self) -> list[str]:
        """Labels of tensors whose counter has moved since."""
        return [
            label
            for label, tensor, version in zip(
                self._labels, self._tensors, self._versions, strict=True
            )
            if tensor._version != version
        ]

    def differing(self, others: Sequence[Tensor] | None = None) -> list[str]:
        """Labels of tensors whose sample is another in `others`: their twins, or themselves now."""
        now = self._tensors if others is None else others
        found = _gather([now[index] for index in self._sampled])
        return [
            self._labels[index]
            for index, before, after in zip(self._sampled, self._samples, found, strict=True)
            if not torch.equal(before, after)
        ]


def _gather(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Samples as bytes, so that NaN equals itself. One batched copy for all."""
    views = [copyable(sample_of(tensor, EVERY_BYTES, COUNT_MIN)) for tensor in tensors]
    copies = [torch.empty(view.shape, dtype=view.dtype) for view in views]
    if views:
        torch._foreach_copy_(copies, views)
    return [copy.view(torch.uint8) for copy in copies]
