"""Where the bytes of a stored tensor go: straight into memory, or through a staging buffer."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from holdfast.jsontext import Json
from holdfast.tensorfile import TensorSpec, allocate, byte_view, is_zero_copy, torch_dtype

_PLAIN_TYPES = frozenset({torch.Tensor, torch.nn.Parameter})
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class Target(NamedTuple):
    """A tensor to be written.

    stored: the dtype of the file's bytes. direct: they may go straight into the tensor's memory.
    reach: bytes its storage must have for that.
    """

    tensor: Tensor
    stored: torch.dtype
    direct: bool
    reach: int = 0

    def memory(self) -> memoryview:
        """The memory of a direct target."""
        return byte_view(self.tensor)


def plan_target(
    tensor: Tensor,
    spec: TensorSpec,
    note: Mapping[str, Json] | None,
    *,
    cast: bool,
    where: str,
) -> Target | str:
    """How `tensor` is to be written, or in a few words why it cannot be.

    Raises FormatError if the note fits no tensor.
    """
    problem = _no_place(tensor)
    if problem:
        return problem
    if note:
        form = allocate(spec, note, "meta", where=where)
        stored, shape = form.dtype, tuple(form.shape)
    else:
        stored, shape = torch_dtype(spec.dtype, where=where), spec.shape
    if tensor.shape != shape:
        return f"stored with shape {list(shape)}, the target has {list(tensor.shape)}"
    if tensor.dtype is stored:
        if type(tensor) in _PLAIN_TYPES and is_zero_copy(tensor):
            return Target(tensor, stored, direct=True, reach=_reach(tensor, tensor.numel()))
        return Target(tensor, stored, direct=False)
    if cast and torch.can_cast(stored, tensor.dtype):
        return Target(tensor, stored, direct=False)
    return f"stored as {stored}, the target is {tensor.dtype}"


def plan_direct(tensor: Tensor, spec: TensorSpec, dtype: torch.dtype) -> Target | None:
    """The plan for what nearly every target is, made at a glance; None asks for a closer look.

    That is a plain contiguous CPU tensor of the stored `dtype` (without a note) and shape.
    """
    if (
        tensor.dtype is dtype
        and type(tensor) in _PLAIN_TYPES
        and tensor.layout is torch.strided
        and not tensor.is_nested
        and tensor.shape == spec.shape
        and is_zero_copy(tensor)
    ):
        reach = int(tensor.storage_offset()) * dtype.itemsize + spec.end - spec.begin
        if tensor.untyped_storage().nbytes() >= reach:
            return Target(tensor, dtype, True, reach)
    return None


def _no_place(tensor: Tensor) -> str | None:
    if tensor.layout is not torch.strided or tensor.is_nested or tensor.is_quantized:
        return "the target is no dense tensor"
    if tensor.is_meta:
        return "the target is on the meta device and has no memory: materialise it first"
    if tensor.is_contiguous():
        span = tensor.numel()
    else:
        steps = [(s, n) for s, n in zip(tensor.stride(), tensor.shape, strict=True) if n > 1]
        if any(stride == 0 for stride, _ in steps):
            return "elements of the target share memory (an expanded view): give it its own"
        span = 1 + sum(stride * (size - 1) for stride, size in steps)
    if type(tensor) in _PLAIN_TYPES and not _storage_holds(tensor, span):
        return "the target's storage is smaller than its shape (freed or resized, as FSDP does)"
    return None


def _storage_holds(tensor: Tensor, span: int) -> bool:
    return tensor.untyped_storage().nbytes() >= _reach(tensor, span)


def _reach(tensor: Tensor, span: int) -> int:
    return (int(tensor.storage_offset()) + span) * tensor.itemsize if span else 0


def chunk_views(tensor: Tensor, max_elements: int) -> Iterator[Tensor]:
    """Cut a tensor, in row-major order, into views of at most `max_elements` elements."""
    if tensor.numel() <= max_elements:
        yield tensor
        return
    rows = max_elements // (tensor.numel() // tensor.shape[0])
    if rows:
        for begin in range(0, tensor.shape[0], rows):
            yield tensor[begin : begin + rows]
        return
    for row in tensor.unbind(0):
        yield from chunk_views(row, max_elements)


def synchronize(devices: Iterable[torch.device]) -> None:
    """Wait for all work on the CUDA devices: ours runs on streams of other threads."""
    for device in devices:
        if device.type == "cuda":
            torch.cuda.synchronize(device)


@dataclass(slots=True)
class Buffer:
    """A staging buffer, as tensor and as memory. devices: those told to copy from it."""

    tensor: Tensor
    view: memoryview
    devices: set[torch.device] = field(default_factory=set)
    events: list[torch.cuda.Event] = field(default_factory=list)

    def hand_over(self) -> None:
        """Note the point on each device's stream behind which the buffer is free again."""
        for device in self.devices:
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record(torch.cuda.current_stream(device))
            self.events.append(event)
        self.devices.clear()

    def wait(self) -> None:
        """Return when no device reads the buffer any more."""
        for event in self.events:
            event.synchronize()
        self.events.clear()


class Stage:
    """The staging buffers of one thread, used in turn. pinned: for copies to CUDA devices."""

    def __init__(self, nbytes: int, *, pinned: bool) -> None:
        self._pinned = pinned
        self._nbytes = nbytes
        self._waiting: deque[Buffer] = deque()
        self._current: Buffer | None = None

    def acquire(self) -> Buffer:
        """A buffer free to be overwritten; the one given out before is not to be used any more."""
        if self._current is not None:
            self._current.hand_over()
            self._waiting.append(self._current)
        if len(self._waiting) < (2 if self._pinned else 1):
            tensor = torch.empty(self._nbytes, dtype=torch.uint8, pin_memory=self._pinned)
            self._current = Buffer(tensor, byte_view(tensor))
        else:
            self._current = self._waiting.popleft()
            self._current.wait()
        return self._current

    def copy(self, buffer: Buffer, begin: int, end: int, target: Target, piece: Tensor) -> None:
        """Copy stored bytes [begin, end) of the buffer into `piece`, a part of the target."""
        data = buffer.tensor[begin:end]
        if begin % target.stored.itemsize:
            data = data.clone()
        with torch.inference_mode() if piece.is_inference() else contextlib.nullcontext():
            _assign(piece.detach(), data, target.stored)
        if piece.is_cuda:
            buffer.devices.add(piece.device)


def _assign(piece: Tensor, data: Tensor, stored: torch.dtype) -> None:
    """Copy bytes of dtype `stored` into `piece`, as integers where possible, so for any dtype."""
    if piece.dtype == stored and not piece.is_conj() and not piece.is_neg():
        if stored.itemsize > 8:
            piece = torch.view_as_real(piece)
            data = data.view(piece.dtype)
        else:
            piece = piece.view(_INTEGERS[stored.itemsize])
            data = data.view(piece.dtype)
    else:
        data = data.view(stored)
    piece.copy_(data.view(piece.shape), non_blocking=True)
