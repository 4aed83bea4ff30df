"""An average as a state dict in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from holdfast.errors import MismatchError
from holdfast.selection.members import references
from holdfast.selection.request import Prepared
from holdfast.selection.stream import AverageStream
from holdfast.state import canonical_names, torch_codec
from holdfast.tensorfile import allocate, byte_view


def state_of(prepared: Prepared) -> dict[str, Any]:
    """The average by FQN, tied names sharing one tensor, extra state of the newest member.

    Memory: the state itself and a few chunks. Raises MemberFailed as the stream does.
    """
    newest, plan = prepared.members[-1], prepared.plan
    tensors = {
        task.name: torch.empty(newest.tensors[task.name].shape, dtype=task.dtype)
        for task in plan.tasks
    }
    blocks = AverageStream(prepared.members, prepared.weights, plan).blocks()
    with contextlib.closing(blocks):
        _fill(tensors, blocks)
    for name, note in plan.notes.items():
        if "order" in note:
            shaped = allocate(plan.file.specs[name], note, where=newest.place)
            tensors[name] = shaped.copy_(tensors[name])
    tree: Any = torch_codec().decode(
        newest.tree, where=newest.place, resolve=lambda name, _: tensors[name]
    )
    private = set(references(newest.tree))
    named = {name: tensors[name] for name in newest.tensors if name not in private}
    ties = {alias: tensors[stored] for alias, stored in newest.aliases.items()}
    return named | ties | dict(tree.get("extra", {}))


def fitted(state: Mapping[str, Any], model: nn.Module) -> dict[str, Any]:
    """The state under the names that `model.load_state_dict` expects, wrappers included.

    Raises MismatchError with every name and shape that does not fit the model.
    """
    live = model.state_dict()
    names = canonical_names(model, live)
    problems = [f"{fqn} is missing" for fqn in names.values() if fqn not in state]
    known = set(names.values())
    problems += [f"{fqn} is not in the model" for fqn in state if fqn not in known]
    for raw, fqn in names.items():
        mine, theirs = live[raw], state.get(fqn)
        if isinstance(mine, Tensor) and isinstance(theirs, Tensor) and mine.shape != theirs.shape:
            problems.append(f"{fqn} has shape {list(theirs.shape)}, the model {list(mine.shape)}")
    if problems:
        raise MismatchError(
            f"The average does not fit the {type(model).__name__} given:",
            problems=problems[:20],
            fix="give the model that the checkpoints were saved from",
        )
    return {raw: state[fqn] for raw, fqn in names.items()}


def _fill(tensors: Mapping[str, Tensor], blocks: Iterator[memoryview]) -> None:
    """Copy the blocks into the tensors one after the other; their borders need not agree."""
    block = memoryview(b"")
    for tensor in tensors.values():
        target = byte_view(tensor) if tensor.numel() else memoryview(b"")
        while len(target):
            if not len(block):
                block = next(blocks)
            count = min(len(block), len(target))
            target[:count] = block[:count]
            target, block = target[count:], block[count:]
    for _ in blocks:
        pass  # what is left are tensors without elements, and the proof of them
