"""A weighted sum of stored averages: shown before anything is read, then read tensor by tensor."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from holdfast.ema import read_record
from holdfast.engine.open_checkpoint import OpenCheckpoint, open_checkpoint
from holdfast.errors import MismatchError
from holdfast.posthoc.snapshots import Snapshot
from holdfast.state import StoredComponent
from holdfast.storage.protocol import RunStorage


@dataclass(frozen=True)
class Recipe:
    """What an average is to be made of, before a tensor is read.

    label: what it will be. parts: (stored average, coefficient), coefficients sum to 1.
    error: predicted distance of its profile from the wanted one, relative; 0.0 where it is exact.
    """

    run: RunStorage
    label: str
    parts: tuple[tuple[Snapshot, float], ...]
    error: float

    @property
    def coefficient_sum(self) -> float:
        """Sum of absolute coefficients: what rounding in the stored averages is multiplied by."""
        return sum(abs(share) for _, share in self.parts)

    def __str__(self) -> str:
        return (
            f"{self.label} from {len(self.parts)} stored averages: predicted profile error "
            f"{self.error:.2g}, sum of absolute coefficients {self.coefficient_sum:.3g}"
        )

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON: where each part is stored, and its coefficient."""
        return {
            "label": self.label,
            "predicted_error": self.error,
            "coefficient_sum": self.coefficient_sum,
            "parts": [
                {
                    "checkpoint": part.checkpoint,
                    "component": part.component,
                    "steps": part.clock.steps,
                    "coefficient": share,
                }
                for part, share in self.parts
            ],
        }

    def read(self) -> dict[str, Tensor]:
        """The average as a state dict: every FQN, tied ones sharing memory."""
        return read_recipes([self])[0]

    def read_into(self, module: nn.Module) -> None:
        """Load it into a module of the same structure, floating dtypes converted."""
        module.load_state_dict(self.read())


def read_recipes(recipes: Sequence[Recipe]) -> list[dict[str, Tensor]]:
    """The state dicts of several recipes over one run, each stored tensor read once."""
    states: list[dict[str, Tensor]] = [{} for _ in recipes]
    aliases: dict[str, str] = {}
    for name, tensors, ties in stream_recipes(recipes):
        for state, tensor in zip(states, tensors, strict=True):
            state[name] = tensor
        aliases.update(ties)
    for state in states:
        state.update({alias: state[name] for alias, name in aliases.items()})
    return states


def stream_recipes(
    recipes: Sequence[Recipe], names: Sequence[str] | None = None
) -> Generator[tuple[str, list[Tensor], dict[str, str]], None, None]:
    """Yield each tensor of several recipes: (name, one tensor per recipe, its aliases).

    names: in this order, None for all as they are stored. Sums in float64 in the order of the
    parts, rounded once to the stored dtype. Memory: one stored tensor, and a float64 sum and a
    result per recipe. What is not averaged (buffers, frozen parameters) comes from the last part.
    Every byte is proven as it is read.
    Raises MismatchError if the stored averages are of different models, DamagedError if bytes are
    not what was committed.
    """
    if not recipes:
        return
    wanted = {
        (part.checkpoint, part.component): part for recipe in recipes for part, _ in recipe.parts
    }
    weights = [
        {(part.checkpoint, part.component): share for part, share in recipe.parts}
        for recipe in recipes
    ]
    with contextlib.ExitStack() as stack:
        folders: dict[str, OpenCheckpoint] = {}
        for checkpoint, _ in wanted:
            if checkpoint not in folders:
                opened = open_checkpoint(recipes[0].run, checkpoint)
                folders[checkpoint] = stack.enter_context(opened)
        stored = {key: folders[key[0]].stored(key[1]) for key in wanted}
        last = max(wanted, key=lambda key: wanted[key].clock.steps)
        _require_alike(stored)
        averaged = set(read_record(stored[last])["averaged"])
        for name in names or stored[last].tensors:
            ties = {alias: name for alias, own in stored[last].aliases.items() if own == name}
            sources = list(wanted) if name in averaged else [last]
            yield name, _sums(name, sources, folders, stored, weights, last), ties


def _sums(
    name: str,
    sources: Sequence[tuple[str, str]],
    folders: dict[str, OpenCheckpoint],
    stored: dict[tuple[str, str], StoredComponent],
    weights: Sequence[dict[tuple[str, str], float]],
    last: tuple[str, str],
) -> list[Tensor]:
    facts = stored[last].tensors[name]
    wide = torch.complex128 if facts.dtype.is_complex else torch.float64
    sums: list[Tensor] = []
    for source in sources:
        tensor = folders[source[0]].read(source[1], [name])[name]
        if len(sources) == 1 and source == last:
            return [tensor.clone() for _ in weights]
        if not sums:
            sums = [torch.zeros_like(tensor, dtype=wide) for _ in weights]
        for total, shares in zip(sums, weights, strict=True):
            if shares.get(source, 0.0):
                total.add_(tensor.to(wide), alpha=shares[source])
    return [total.to(facts.dtype) for total in sums]


def _require_alike(stored: dict[tuple[str, str], StoredComponent]) -> None:
    shapes = {
        key: {name: facts.shape for name, facts in one.tensors.items()}
        for key, one in stored.items()
    }
    first = next(iter(shapes.values()))
    for (checkpoint, component), found in shapes.items():
        if found != first:
            raise MismatchError(
                "The stored averages are of models with different tensors",
                problems=sorted(set(found.items()) ^ set(first.items()))[:8],
                where=f"{checkpoint}: {component}",
                fix="reconstruct from checkpoints taken since the model had its present form",
            )
