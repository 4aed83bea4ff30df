"""What all ranks agree on before a save: where training stands, and who stores what.

Rank 0 decides whatever there is one of: name, branch, metrics, reason. Objects other than modules
and optimizers are stored once if they are equal on all ranks, and by each rank if they are not, so
that nobody has to say which are which.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from holdfast.digest import digest_bytes
from holdfast.engine.rank_part import Agreed, meshes_of, part_of
from holdfast.engine.tensor_writer import digest_of
from holdfast.errors import RankFailedError, SaveError
from holdfast.jsontext import dump
from holdfast.manager.ranks import Ranks, as_save_error
from holdfast.session.objects import RUN
from holdfast.state import ComponentState
from holdfast.values import Parent, SaveReason


@dataclass(frozen=True)
class Facts:
    """What there is one of, as rank 0 decides it."""

    id: str
    attempt: int
    branch: int
    sequence: int
    time: float
    reason: SaveReason
    metrics: Mapping[str, float]
    parents: tuple[Parent, ...]


@dataclass(frozen=True)
class Settled:
    """What was agreed, or why this save is left out."""

    facts: Facts | None
    agreed: Agreed | None
    skipped: str | None = None


def settle(
    ranks: Ranks,
    stand: tuple[int, int],
    capture: Callable[[], Sequence[ComponentState]],
    facts: Callable[[], Facts | str],
) -> Settled:
    """Capture, and agree with all ranks on one save.

    stand: epoch and global step, which must be equal on all. facts: asked on rank 0; text is the
    reason to leave this save out. Raises SaveError on all ranks if one of them cannot save, or they
    do not fit together; on the one that cannot, its own error.
    """
    joined = ranks.joined()
    operation = ranks.begin("save")

    def decide(parts: Sequence[bytes]) -> bytes:
        views = [json.loads(part) for part in parts]
        _refuse_differences(views)
        made = facts()
        if isinstance(made, str):
            return json.dumps({"skipped": made}).encode()
        by_number = zip(*(view["meshes"] for view in views), strict=True)
        meshes = [_distinct(numbered) for numbered in by_number]
        objects = [view["objects"] for view in views]
        own = sorted(n for n in objects[0] if any(o[n] != objects[0][n] for o in objects))
        agreed = {"facts": asdict(made), "per_rank": own, "meshes": meshes}
        return json.dumps(agreed).encode()

    try:
        components = capture()
        meshes = meshes_of(components)
        view = _view(stand, components, meshes, joined.size)
        answer = json.loads(operation.round("agree", view, decide))
        if "skipped" in answer:
            operation.__exit__(None, None, None)
            return Settled(None, None, answer["skipped"])
        own = frozenset(answer["per_rank"])
        siblings = {
            mesh: [tuple(ranks) for ranks in answer["meshes"][number]]
            for mesh, number in meshes.items()
        }
        part = part_of(components, joined.rank, joined.size, own, siblings)
    except BaseException as error:
        operation.__exit__(type(error), error, None)
        if isinstance(error, RankFailedError):
            raise as_save_error(error, f"rank {joined.rank}") from error
        raise
    agreed = Agreed(operation, joined.rank, joined.size, own, part, ranks.timeout_seconds)
    return Settled(_facts(answer["facts"]), agreed)


def _facts(fields: dict[str, Any]) -> Facts:
    parents = tuple(Parent(**parent) for parent in fields.pop("parents"))
    return Facts(reason=SaveReason(**fields.pop("reason")), parents=parents, **fields)


def _view(
    stand: tuple[int, int],
    components: Sequence[ComponentState],
    meshes: Mapping[tuple[int, ...], int],
    size: int,
) -> bytes:
    """What the others need to know of this rank."""
    view = {
        "stand": stand,
        "objects": {c.name: _content(c) for c in components if not _is_divided(c)},
        "layouts": {c.name: _layout(c, meshes) for c in components if _is_divided(c)},
        # A mesh of all ranks is the same on all of them.
        "meshes": [mesh if len(mesh) < size else [] for mesh in meshes],
    }
    return json.dumps(view).encode()


def _distinct(meshes: Sequence[Sequence[int]]) -> list[list[int]]:
    return [list(mesh) for mesh in dict.fromkeys(map(tuple, meshes)) if mesh]


def _is_divided(component: ComponentState) -> bool:
    return component.kind != "object" or bool(component.placed)


def _content(component: ComponentState) -> str:
    """Equal on two ranks if they hold the same values.

    Of the record of the run only the user's part counts: the rest of it is rank 0's.
    """
    tree, tensors = component.tree, component.tensors
    if component.name == RUN and isinstance(tree, dict):
        tree = tree.get("extra_state")
        tensors = {n: t for n, t in tensors.items() if n.startswith(f"{RUN}/extra_state")}
    digests = {name: digest_of(tensor).hex() for name, tensor in tensors.items()}
    return digest_bytes(dump([tree, digests]))


def _layout(component: ComponentState, meshes: Mapping[tuple[int, ...], int]) -> str:
    """Equal on two ranks if they hold parts of the same tensors."""
    lines = []
    for name, tensor in component.tensors.items():
        found = component.placed.get(name)
        if found is None:
            lines.append(f"{name} {tensor.dtype} {tuple(tensor.shape)}")
        else:
            lines.append(f"{name} {tensor.dtype} {found.shape} on {meshes[found.mesh]}")
    lines += [f"{alias}={name}" for alias, name in component.aliases.items()]
    return digest_bytes("\n".join(lines).encode() + dump(component.tree))


def _refuse_differences(views: Sequence[dict[str, Any]]) -> None:
    first = views[0]
    for rank, view in enumerate(views[1:], 1):
        if view["stand"] != first["stand"]:
            raise SaveError(
                f"Rank {rank} saves epoch {view['stand'][0]}, step {view['stand'][1]}; rank 0 "
                f"epoch {first['stand'][0]}, step {first['stand'][1]}",
                fix="all ranks must save at the same step",
            )
        if any(view[key].keys() != first[key].keys() for key in ("objects", "layouts")):
            raise SaveError(
                f"Rank {rank} and rank 0 save different components",
                fix="register the same objects on all ranks",
            )
        for name, layout in view["layouts"].items():
            if layout != first["layouts"][name]:
                raise SaveError(
                    f"The {name} of rank {rank} has other tensors, or other settings, than that of "
                    "rank 0",
                    fix="all ranks must train one model, sharded or replicated, with one optimizer",
                )
