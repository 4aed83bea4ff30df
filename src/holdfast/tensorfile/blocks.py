"""The bytes of tensors, in row-major order, in bounded memory.

A contiguous CPU tensor is handed out as it lies in memory, without a copy, whatever its dtype. Any
other tensor (strided, expanded, channels-last, conjugated, on a GPU) is converted piece by piece.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def is_zero_copy(tensor: Tensor) -> bool:
    """Whether `byte_view` can show the tensor's own memory."""
    if not tensor.is_cpu or not tensor.is_contiguous() or tensor.is_neg():
        return False
    return not tensor.dtype.is_complex or not tensor.is_conj()


def byte_view(tensor: Tensor) -> memoryview:
    """Return the memory of a contiguous CPU tensor as bytes; shares and keeps it alive.

    Writing to the view writes to the tensor. Requires `is_zero_copy(tensor)`.
    """
    # Not view(-1): it keeps the odd stride a dimension of size one may have.
    flat = tensor.detach().as_strided((tensor.numel(),), (1,)).view(torch.uint8)
    return flat.numpy().data


def byte_chunks(tensor: Tensor, max_bytes: int) -> Iterator[memoryview]:
    """Yield the tensor's bytes in row-major order, in pieces of at most `max_bytes` bytes.

    Each piece is memory of its own that does not change once yielded, so that at no time more
    than the pieces the caller holds (and one being copied from a GPU) exist.
    max_bytes: at least the size of one element.
    """
    pieces = _pieces(_reinterpreted(tensor.detach()), max_bytes)
    if tensor.is_cpu:
        for piece in pieces:
            yield byte_view(_contiguous_copy(piece))
    elif tensor.is_cuda:
        yield from _cuda_chunks(pieces)
    else:
        for piece in pieces:
            yield byte_view(piece.cpu().contiguous())


def _reinterpreted(tensor: Tensor) -> Tensor:
    """View the tensor as integers of its element size, so that copies are exact for any dtype.

    Lazily conjugated or negated tensors keep their dtype: their bits do not exist yet.
    """
    if tensor.is_conj() or tensor.is_neg():
        return tensor
    if tensor.itemsize > 8:
        tensor = torch.view_as_real(tensor)
    return tensor.view(_INTEGERS[tensor.itemsize])


def _pieces(tensor: Tensor, max_bytes: int) -> Iterator[Tensor]:
    """Cut along the first dimensions, in row-major order, into views of at most `max_bytes`."""
    if tensor.nbytes <= max_bytes:
        if tensor.numel():
            yield tensor
        return
    row_bytes = tensor.nbytes // tensor.shape[0]
    if row_bytes <= max_bytes:
        yield from torch.split(tensor, max(1, max_bytes // row_bytes))
        return
    for row in tensor:
        yield from _pieces(row, max_bytes)


def _contiguous_copy(piece: Tensor) -> Tensor:
    if piece.is_conj():
        # Conjugated halves have no copy kernel of their own: flip the sign of the imaginary part.
        parts = torch.view_as_real(piece.conj()).clone(memory_format=torch.contiguous_format)
        parts[..., 1].neg_()
        return parts
    return torch.empty(piece.shape, dtype=piece.dtype).copy_(piece)


def _cuda_chunks(pieces: Iterator[Tensor]) -> Iterator[memoryview]:
    """Copy through pinned memory, the next piece already on its way while one is used."""
    ready: tuple[Tensor, torch.cuda.Event] | None = None
    for piece in pieces:
        plain = piece.resolve_conj().resolve_neg().contiguous()
        host = torch.empty(plain.shape, dtype=plain.dtype, pin_memory=True)
        host.copy_(plain, non_blocking=True)
        copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        copied.record(torch.cuda.current_stream(piece.device))
        if ready is not None:
            ready[1].synchronize()
            yield byte_view(ready[0])
        ready = (host, copied)
    if ready is not None:
        ready[1].synchronize()
        yield byte_view(ready[0])
