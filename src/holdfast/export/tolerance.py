"""How far an exported model may be from eager mode, by dtype, and how the distance is measured."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Tolerance:
    """An element passes if |artifact - eager| <= absolute + relative * |eager|.

    agreement: the least share of positions whose largest element along the last axis must be the
    same; positions where eager's two largest are closer than what is tolerated do not count, since
    there either choice is right.
    """

    absolute: float
    relative: float
    agreement: float = 0.999


DEFAULTS: dict[torch.dtype, Tolerance] = {
    torch.float64: Tolerance(1e-9, 1e-7),
    torch.float32: Tolerance(1e-4, 1e-3),
    torch.float16: Tolerance(2e-2, 2e-2, 0.99),
    torch.bfloat16: Tolerance(2e-2, 2e-2, 0.99),
}
"""Three times what the exporters were measured to differ by on a small Transformer in float32."""

EXACT = Tolerance(0.0, 0.0, 1.0)
"""For whole numbers and booleans."""


@dataclass(frozen=True, slots=True)
class Distance:
    """How far one output is from another.

    absolute: largest difference. relative: largest difference by the size of the eager element,
    where that is over the absolute tolerance. beyond: share of elements outside the tolerance.
    agreement: as in `Tolerance`; None where there is nothing to choose from. counted: positions
    it is of.
    """

    absolute: float
    relative: float
    beyond: float
    agreement: float | None
    counted: int = 0


def tolerance_for(dtype: torch.dtype, given: Tolerance | None = None) -> Tolerance:
    """The tolerance for outputs of a dtype: `given` for floating ones, or the default."""
    if not dtype.is_floating_point:
        return EXACT
    return given if given is not None else DEFAULTS.get(dtype, DEFAULTS[torch.bfloat16])


def distance(eager: Tensor, other: Tensor, tolerance: Tolerance) -> Distance:
    """Measure; both tensors have the same shape. A NaN or infinity in `other` is beyond any
    tolerance unless eager has the same there."""
    if eager.numel() == 0:
        return Distance(0.0, 0.0, 0.0, None)
    wanted, found = eager.double(), other.double()
    same = (wanted == found) | (wanted.isnan() & found.isnan())
    gap = torch.where(same, 0.0, (wanted - found).abs()).nan_to_num(nan=torch.inf)
    size = wanted.abs().nan_to_num(nan=0.0, posinf=0.0)
    allowed = tolerance.absolute + tolerance.relative * size
    large = size > tolerance.absolute
    relative = torch.where(large, gap / size.clamp(min=1e-300), 0.0)
    agreement, counted = _agreement(wanted, found, allowed) if _has_choice(eager) else (None, 0)
    return Distance(
        float(gap.max()),
        float(relative.max()),
        float((gap > allowed).double().mean()),
        agreement,
        counted,
    )


def _has_choice(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and tensor.dim() > 1 and tensor.shape[-1] > 1


def _agreement(wanted: Tensor, found: Tensor, allowed: Tensor) -> tuple[float | None, int]:
    top = wanted.topk(2, dim=-1)
    margin = top.values[..., 0] - top.values[..., 1]
    slack = 2 * allowed.gather(-1, top.indices).amax(dim=-1)
    clear = margin > slack
    counted = int(clear.sum())
    if not counted:
        return None, 0
    same = top.indices[..., 0] == found.argmax(dim=-1)
    return float(same[clear].double().mean()), counted
