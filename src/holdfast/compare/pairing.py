"""Which tensor of one side is which of the other; torch comes in only to guess at renames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from holdfast.compare.records import Status, TensorChange
from holdfast.compare.stored import Part, Stored


@dataclass
class Pairs:
    """settled: tensors about which all is said. to_read: changes with both tensors to compare."""

    settled: list[TensorChange] = field(default_factory=list)
    to_read: list[tuple[TensorChange, Stored, Stored]] = field(default_factory=list)


def pair_parts(left: Part | None, right: Part | None) -> Pairs:
    """Pair the tensors of one component. Those whose digests are equal are not to be read."""
    name = (right or left).name  # type: ignore[union-attr]
    before: Mapping[str, Stored] = {} if left is None else left.tensors
    after: Mapping[str, Stored] = {} if right is None else right.tensors
    pairs = Pairs()
    removed = {key: stored for key, stored in before.items() if key not in after}
    added = {key: stored for key, stored in after.items() if key not in before}
    renames = _renames(removed, added)
    for key, stored in after.items():
        if key in before:
            _pair(pairs, name, key, None, before[key], stored, certain=True)
        elif key in renames:
            old, certain = renames[key]
            _pair(pairs, name, key, old, before[old], stored, certain=certain)
        else:
            pairs.settled.append(_alone(name, key, "added", stored))
    renamed = {old for old, _ in renames.values()}
    pairs.settled += [
        _alone(name, key, "removed", stored)
        for key, stored in removed.items()
        if key not in renamed
    ]
    return pairs


def _pair(
    pairs: Pairs,
    component: str,
    name: str,
    old: str | None,
    left: Stored,
    right: Stored,
    *,
    certain: bool,
) -> None:
    alike = left.raw == right.raw and left.dtype == right.dtype
    equal = (
        alike
        and left.shape == right.shape
        and left.digest is not None
        and left.digest == right.digest
    )
    status: Status = "equal" if equal else "changed"
    if old is not None:
        status = "renamed"
    elif left.shape != right.shape:
        status = "reshaped"
    elif left.dtype != right.dtype:
        status = "recast"
    change = TensorChange(
        component,
        name,
        status,
        left.dtype,
        right.dtype,
        left.shape,
        right.shape,
        left_name=old,
        certain=certain,
    )
    comparable = left.elements == right.elements and _is_pair(left) == _is_pair(right)
    if equal or status == "reshaped" or not comparable or _is_packed(left) or _is_packed(right):
        pairs.settled.append(change)
    else:
        pairs.to_read.append((change, left, right))


def _alone(component: str, name: str, status: Status, stored: Stored) -> TensorChange:
    sides = (stored.dtype, stored.shape)
    if status == "added":
        return TensorChange(component, name, status, None, sides[0], None, sides[1])
    return TensorChange(component, name, status, sides[0], None, sides[1], None)


def _renames(
    removed: Mapping[str, Stored], added: Mapping[str, Stored]
) -> dict[str, tuple[str, bool]]:
    """New name -> (old name, whether the bytes prove it)."""
    if not removed or not added:
        return {}
    found: dict[str, tuple[str, bool]] = {}
    by_digest: dict[tuple[bytes, str, tuple[int, ...]], list[str]] = {}
    for name, stored in removed.items():
        if stored.digest is not None:
            by_digest.setdefault((stored.digest, stored.dtype, stored.shape), []).append(name)
    for name, stored in added.items():
        if stored.digest is None:
            continue
        same = by_digest.get((stored.digest, stored.dtype, stored.shape), [])
        # Equal bytes prove a rename only where there is no other of them: all zeros prove nothing.
        if len(same) == 1:
            found[name] = (same.pop(), True)
    taken = {old for old, _ in found.values()}
    left = {name: stored.shape for name, stored in removed.items() if name not in taken}
    right = {name: stored.shape for name, stored in added.items() if name not in found}
    if left and right:
        from holdfast.state.renames import find_renames

        found |= {new: (old, False) for new, old in find_renames(right, left).pairs.items()}
    return found


def _is_pair(stored: Stored) -> bool:
    return stored.dtype.startswith("complex")


def _is_packed(stored: Stored) -> bool:
    """Whether bytes hold more than one number each."""
    return stored.dtype.startswith("float4")
