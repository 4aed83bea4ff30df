"""Who stores what: every element once, evenly, as every rank works out alone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.engine.boxes import Box, coverage_problem
from holdfast.engine.rank_part import part_of
from holdfast.engine.shares import cut_line
from holdfast.state import ComponentState, Placed

SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)


@st.composite
def boxes_in(draw: st.DrawFn, shape: tuple[int, ...]) -> Box:
    """Any box, mostly inside the shape."""
    offsets = tuple(draw(st.integers(0, max(size, 1))) for size in shape)
    sizes = tuple(draw(st.integers(0, size + 1)) for size in shape)
    return Box(offsets, sizes)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_coverage_is_what_counting_says(data: st.DataObject) -> None:
    """The proof agrees with marking every element, for any boxes at all."""
    shape = data.draw(SHAPES)
    boxes = data.draw(st.lists(boxes_in(shape), max_size=4))
    counts = np.zeros([size + 6 for size in shape], dtype=int)
    for box in boxes:
        where = tuple(slice(o, o + s) for o, s in zip(box.offsets, box.sizes, strict=True))
        counts[where] += 1
    inside = tuple(slice(0, size) for size in shape)
    outside = counts.sum() - counts[inside].sum()
    empty_outside = any(
        o + s > size
        for box in boxes
        for o, s, size in zip(box.offsets, box.sizes, shape, strict=True)
    )
    sound = bool(boxes) and outside == 0 and bool((counts[inside] == 1).all())
    assert (coverage_problem(shape, boxes) is None) == (sound and not empty_outside)


def component(
    tensors: dict[str, torch.Tensor], placed: dict[str, Placed], buffers: Sequence[str] = ()
) -> ComponentState:
    """A module of these tensors as one rank holds them."""
    return ComponentState("model", "module", {}, tensors, placed=placed, buffers=frozenset(buffers))


def pieces(
    parts: Sequence[ComponentState], offsets: Sequence[dict[str, tuple[int, ...]]]
) -> dict[str, list[Box]]:
    """All ranks' pieces by name."""
    found: dict[str, list[Box]] = {}
    for part, at in zip(parts, offsets, strict=True):
        for name, tensor in part.tensors.items():
            zero = (0,) * tensor.dim()
            found.setdefault(name, []).append(Box(at.get(name, zero), tuple(tensor.shape)))
    return found


@given(
    st.lists(SHAPES | st.tuples(st.integers(1, 900), st.just(700)), min_size=1, max_size=8),
    st.integers(2, 5),
)
@settings(max_examples=60, deadline=None)
def test_what_all_hold_is_divided_evenly(shapes: list[tuple[int, ...]], size: int) -> None:
    """Replicated tensors: covered exactly once, no rank more than its share and a small tensor."""
    tensors = {f"t{n}": torch.empty(shape) for n, shape in enumerate(shapes)}
    made = [part_of([component(tensors, {})], rank, size, ()) for rank in range(size)]
    found = pieces([m.components[0] for m in made], [dict(m.offsets["model"]) for m in made])
    for name, tensor in tensors.items():
        assert coverage_problem(tuple(tensor.shape), found[name]) is None, name
    total = sum(tensor.nbytes for tensor in tensors.values())
    for part in made:
        stored = sum(tensor.nbytes for tensor in part.components[0].tensors.values())
        assert stored <= total / size + (1 << 20) + 4096


def test_replicas_of_shards_are_stored_once() -> None:
    """Two rows of four on a 2 x 2 mesh, and on meshes that are slices of it: no element twice."""
    flat: tuple[int, ...] = (0, 1, 2, 3)
    mesh: tuple[int, ...]
    places: tuple[int, ...]
    siblings: dict[tuple[int, ...], list[tuple[int, ...]]]
    for twins in (False, True):
        parts = []
        for rank, (copy, half) in enumerate(itertools.product(range(2), range(2))):
            if twins:
                mesh, places = (2 * copy, 2 * copy + 1), (half,)
                siblings = {mesh: [(0, 1), (2, 3)]}
            else:
                mesh, places = flat, (half, half + 2)
                siblings = {}
            where = Placed((4, 3), (2 * half, 0), (2, 3), mesh, places)
            state = component({"w": torch.full((2, 3), float(half))}, {"w": where})
            parts.append(part_of([state], rank, 4, (), siblings))
        offsets = [dict(part.offsets["model"]) for part in parts]
        found = pieces([part.components[0] for part in parts], offsets)
        assert coverage_problem((4, 3), found["w"]) is None


def test_buffers_are_those_of_rank_0() -> None:
    """As in data-parallel training, where rank 0's are sent to all."""
    tensors = {"w": torch.zeros(4), "mean": torch.zeros(4)}
    for rank in range(3):
        (found,) = part_of([component(tensors, {}, ["mean"])], rank, 3, ()).components
        assert ("mean" in found.tensors) == (rank == 0)


@given(st.lists(st.integers(0, 50), max_size=30), st.integers(1, 7))
@settings(max_examples=200, deadline=None)
def test_a_line_is_cut_into_all_its_items(sizes: list[int], parts: int) -> None:
    """Consecutive parts hold every item once, and none much more than its share."""
    cuts = cut_line(sizes, parts)
    assert len(cuts) == parts + 1
    assert (cuts[0], cuts[-1]) == (0, len(sizes))
    assert cuts == sorted(cuts)
    for begin, end in itertools.pairwise(cuts):
        assert sum(sizes[begin:end]) <= sum(sizes) / parts + max(sizes, default=0)
