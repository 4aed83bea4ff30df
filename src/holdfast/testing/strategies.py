"""Hypothesis strategies for what checkpoints hold: tensors, nested states, metrics histories.

Needs hypothesis, which nothing else in holdfast imports.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

_SHAPES = st.lists(st.integers(0, 3), max_size=3)
_DTYPES = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
)
_TEXT = st.text(max_size=8)
_METRIC_NAMES = ("val_loss", "val_bleu", "lr")


def tensors(dtypes: Sequence[torch.dtype] = _DTYPES) -> st.SearchStrategy[Tensor]:
    """Small CPU tensors: any bits of the dtype (NaN payloads too), 0-d, empty and strided ones."""

    @st.composite
    def build(draw: st.DrawFn) -> Tensor:
        shape, dtype = draw(_SHAPES), draw(st.sampled_from(dtypes))
        width = 1 if dtype is torch.bool else dtype.itemsize
        count = math.prod(shape)
        data = draw(st.binary(min_size=count * width, max_size=count * width))
        raw = torch.tensor(list(data), dtype=torch.uint8)
        flat = raw % 2 == 1 if dtype is torch.bool else raw.view(dtype)
        tensor = flat.reshape(shape)
        return tensor.t() if tensor.dim() == 2 and draw(st.booleans()) else tensor

    return build()


def plain_values() -> st.SearchStrategy[Any]:
    """Values as schedulers, scalers and loaders keep them, nested, with keys of several types."""
    atoms = st.none() | st.booleans() | st.integers() | st.floats() | _TEXT | st.binary(max_size=8)
    keys = _TEXT | st.integers() | st.tuples(st.integers(), _TEXT)
    return st.recursive(
        atoms,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.lists(inner, max_size=3).map(tuple),
            st.dictionaries(keys, inner, max_size=3),
        ),
        max_leaves=8,
    )


def state_dicts() -> st.SearchStrategy[dict[str, Any]]:
    """What `state_dict()` of a user's object may return: tensors and plain values under names."""
    return st.dictionaries(
        st.text("abcdefgh._", min_size=1, max_size=8), tensors() | plain_values(), max_size=5
    )


def metrics(names: Sequence[str] = _METRIC_NAMES) -> st.SearchStrategy[dict[str, float]]:
    """The metrics of one step: some missing, ties likely, NaN and infinities among them."""
    values = st.integers(0, 4).map(float) | st.floats()
    return st.dictionaries(st.sampled_from(names), values, max_size=len(names))


def metrics_histories(
    names: Sequence[str] = _METRIC_NAMES, *, max_size: int = 12
) -> st.SearchStrategy[list[tuple[int, int, Mapping[str, float]]]]:
    """Records (epoch, global_step, metrics), steps strictly ascending, epochs never descending."""

    @st.composite
    def build(draw: st.DrawFn) -> list[tuple[int, int, Mapping[str, float]]]:
        steps = sorted(draw(st.sets(st.integers(0, 10_000), max_size=max_size)))
        epochs = sorted(draw(st.lists(st.integers(0, 5), min_size=len(steps), max_size=len(steps))))
        return [
            (epoch, step, draw(metrics(names))) for epoch, step in zip(epochs, steps, strict=True)
        ]

    return build()
