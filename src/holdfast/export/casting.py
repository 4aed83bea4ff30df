"""Weights in a narrower dtype, with what that costs measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from holdfast.errors import ConfigError, ExportError
from holdfast.export.source import Weights
from holdfast.jsontext import Json

DTYPES = {
    "bf16": torch.bfloat16,
    "bfloat16": torch.bfloat16,
    "fp16": torch.float16,
    "float16": torch.float16,
    "fp32": torch.float32,
    "float32": torch.float32,
}


@dataclass(frozen=True, slots=True)
class CastEffect:
    """What rounding did to the weights.

    relative: L2 norm of the change by that of the weights. largest: change of one number.
    worst: the tensor with the largest relative change, and that change. flushed: numbers that
    became zero. tensors: how many were converted. outputs: what it does to the model's outputs,
    if they were compared (see `output_effect`).
    """

    dtype: str
    tensors: int
    relative: float
    largest: float
    worst: tuple[str, float]
    flushed: int
    outputs: str = "not compared"

    def __str__(self) -> str:
        name, share = self.worst
        return (
            f"{self.tensors} tensors rounded to {self.dtype}: weights changed by "
            f"{self.relative:.2g} of their size, most in {name} ({share:.2g}); {self.flushed} "
            f"numbers became zero; outputs: {self.outputs}"
        )

    def to_dict(self) -> dict[str, Json]:
        """As plain values for the card."""
        return {**asdict(self), "worst": list(self.worst)}


def parse_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """A floating dtype by its name or short name. Raises ConfigError for any other."""
    found = DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if found is None or found not in DTYPES.values():
        raise ConfigError(f"Weights cannot be cast to {dtype}", fix="use bf16, fp16 or fp32")
    return found


def cast_weights(
    weights: Weights, dtype: str | torch.dtype, *, keep: Sequence[str] = ()
) -> tuple[Weights, CastEffect]:
    """Floating tensors in `dtype`; counters, flags and complex numbers as they are; ties kept.

    keep: shell patterns of FQNs that stay as they are. Raises ExportError naming the tensors that
    hold numbers beyond the dtype: in float16 everything over 65504.
    """
    wanted = parse_dtype(dtype)
    made: dict[int, Tensor] = {}
    changes: dict[str, tuple[float, float, float, int]] = {}
    beyond: list[str] = []
    for name, tensor in weights.unique().items():
        kept = any(fnmatchcase(name, pattern) for pattern in keep)
        if kept or not tensor.is_floating_point() or tensor.dtype == wanted:
            made[id(tensor)] = tensor
            continue
        narrow = tensor.to(wanted)
        if bool((tensor.isfinite() & ~narrow.isfinite()).any()):
            beyond.append(f"{name} (up to {float(tensor.abs().max()):.3g})")
        made[id(tensor)] = narrow
        changes[name] = _change(tensor, narrow)
    if beyond:
        raise ExportError(
            f"{len(beyond)} tensors hold numbers beyond {wanted}: {', '.join(beyond[:5])}",
            where=weights.place,
            fix="use bf16, which has the range of float32, or keep them as they are with keep=",
        )
    tensors = {name: made[id(tensor)] for name, tensor in weights.tensors.items()}
    return replace(weights, tensors=tensors), _effect(wanted, changes)


def _change(tensor: Tensor, narrow: Tensor) -> tuple[float, float, float, int]:
    """Sum of squares of the change and of the tensor, largest change, numbers that became zero."""
    if tensor.numel() == 0:
        return 0.0, 0.0, 0.0, 0
    wide = tensor.double()
    gap = (narrow.double() - wide).nan_to_num(nan=0.0)
    return (
        float(gap.square().sum()),
        float(wide.square().sum()),
        float(gap.abs().max()),
        int(((narrow == 0) & (tensor != 0)).sum()),
    )


def _effect(dtype: torch.dtype, changes: dict[str, tuple[float, float, float, int]]) -> CastEffect:
    shares = {
        name: (gap / size) ** 0.5 if size else 0.0 for name, (gap, size, _, _) in changes.items()
    }
    gap = sum(change[0] for change in changes.values())
    size = sum(change[1] for change in changes.values())
    worst = max(shares, key=shares.__getitem__, default="nothing")
    return CastEffect(
        str(dtype).removeprefix("torch."),
        len(changes),
        (gap / size) ** 0.5 if size else 0.0,
        max((change[2] for change in changes.values()), default=0.0),
        (worst, shares.get(worst, 0.0)),
        sum(change[3] for change in changes.values()),
    )
