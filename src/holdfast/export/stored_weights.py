"""Whether the weights inside an artifact are the model's, bit for bit.

Outputs alone may hide a small change. A format that keeps the model's names must keep its bytes.
One that folds, fuses and renames (ONNX) must hold on disk what left the converter; how much of the
model is found in that, by bytes, straight or transposed, is told but not judged.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from holdfast.digest import raw_digest
from holdfast.export.prepare import Prepared
from holdfast.export.unused import BATCH_COUNTER
from holdfast.tensorfile import byte_view


def compare_weights(
    prepared: Prepared, stored: Mapping[str, Tensor], converted: Mapping[str, bytes]
) -> tuple[str, list[str]]:
    """One sentence on what was found, and the problems.

    stored: tensors of the artifact by its own names; empty if it does not tell. converted: their
    digests as they left the converter; empty if the names are the model's.
    """
    if not stored:
        return "the format does not show its weights", []
    wanted = {
        name: tensor.cpu()
        for name, tensor in prepared.weights.items()
        if name not in prepared.unused.names and not name.endswith(BATCH_COUNTER) and tensor.numel()
    }
    digests = {name: tensor_digest(tensor) for name, tensor in stored.items()}
    present = frozenset(digests.values())
    found = [
        name
        for name, tensor in wanted.items()
        if tensor_digest(tensor) in present
        or (tensor.dim() == 2 and tensor_digest(tensor.t()) in present)
    ]
    said = f"{len(found)} of {len(wanted)} tensors are in it bit for bit"
    if converted:
        lost = len(wanted) - len(found)
        folded = f", {lost} folded into others" if lost else ""
        return said + folded, _unlike_converted(digests, converted)
    missing = wanted.keys() - set(found)
    return said, [_changed(name, wanted[name], stored.get(name)) for name in sorted(missing)]


def tensor_digest(tensor: Tensor) -> bytes:
    """Digest of a tensor's dtype, shape and row-major bytes."""
    plain = tensor.detach().cpu().contiguous()
    head = f"{plain.dtype} {list(plain.shape)}".encode()
    return raw_digest(head + raw_digest(byte_view(plain) if plain.numel() else b""))


def _unlike_converted(digests: Mapping[str, bytes], converted: Mapping[str, bytes]) -> list[str]:
    problems = [f"{name} is not in the file" for name in converted.keys() - digests.keys()]
    problems += [
        f"{name} in the file is not what the converter made"
        for name, digest in digests.items()
        if name in converted and converted[name] != digest
    ]
    return sorted(problems)


def _changed(name: str, wanted: Tensor, found: Tensor | None) -> str:
    if found is None:
        return f"{name} is not in the artifact"
    if found.dtype != wanted.dtype:
        return f"{name} is stored as {found.dtype}, the model's is {wanted.dtype}"
    if found.shape != wanted.shape:
        return f"{name} has shape {list(found.shape)}, the model's {list(wanted.shape)}"
    gap = (found.double() - wanted.double()).abs()
    return (
        f"{name} is not the model's: {int((gap > 0).sum())} of {gap.numel()} numbers differ, by up "
        f"to {float(gap.max()):.3g}"
    )
