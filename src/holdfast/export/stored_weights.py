"""Whether the weights inside an artifact are the model's, bit for bit.

Outputs alone may hide a small change. Exporters rename, transpose and fold weights, so a tensor of
the model is looked for by its name first, then by its bytes, straight and transposed; and what is
left on both sides is compared by shape: a near match is a changed weight, no match a folded one.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from holdfast.digest import raw_digest
from holdfast.export.prepare import Prepared
from holdfast.tensorfile import byte_view

_LIKE_SHARE = 0.5
_Key = tuple[str, tuple[int, ...], bytes]


def compare_weights(prepared: Prepared, stored: Mapping[str, Tensor]) -> tuple[str, list[str]]:
    """One sentence on what was found, and the problems: weights that were changed.

    stored: tensors of the artifact by its own names; empty if it does not tell.
    """
    if not stored:
        return "the format does not show its weights", []
    wanted = {
        name: tensor.cpu()
        for name, tensor in prepared.weights.items()
        if name not in prepared.unused.names and tensor.numel()
    }
    present = {_key(tensor) for tensor in stored.values()}
    lost = {
        name: tensor
        for name, tensor in wanted.items()
        if _key(tensor) not in present
        and not (tensor.dim() == 2 and _key(tensor.t()) in present)
    }
    own = {_key(tensor) for tensor in wanted.values()}
    own |= {_key(tensor.t()) for tensor in wanted.values() if tensor.dim() == 2}
    strange = {name: tensor for name, tensor in stored.items() if _key(tensor) not in own}
    problems = [
        said
        for name, tensor in lost.items()
        if (said := _changed(name, tensor, strange)) is not None
    ]
    equal = len(wanted) - len(lost)
    rest = f", {len(lost) - len(problems)} folded into others" if len(lost) > len(problems) else ""
    return f"{equal} of {len(wanted)} tensors are in it bit for bit{rest}", problems


def _key(tensor: Tensor) -> _Key:
    plain = tensor.detach().cpu().contiguous()
    data = byte_view(plain) if plain.numel() else b""
    return (str(plain.dtype), tuple(plain.shape), raw_digest(data))


def _changed(name: str, wanted: Tensor, strange: Mapping[str, Tensor]) -> str | None:
    """What became of a lost tensor, if something in the artifact is nearly it."""
    namesake = strange.get(name)
    if namesake is not None:
        if namesake.dtype != wanted.dtype:
            return f"{name} is stored as {namesake.dtype}, the model's is {wanted.dtype}"
        if namesake.shape != wanted.shape:
            return f"{name} is stored with shape {list(namesake.shape)}"
    for other in strange.values():
        for candidate in (other, other.t() if other.dim() == 2 else other):
            if candidate.shape == wanted.shape and candidate.dtype == wanted.dtype:
                gap = (candidate.double() - wanted.double()).abs()
                size = wanted.double().abs().max()
                if other is namesake or float(gap.mean()) < _LIKE_SHARE * float(
                    wanted.double().abs().mean()
                ):
                    return (
                        f"{name} is not the model's: {int((gap > 0).sum())} of {gap.numel()} "
                        f"numbers differ, by up to {float(gap.max()):.3g} (largest number "
                        f"{float(size):.3g})"
                    )
    return None
