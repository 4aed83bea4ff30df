"""The arithmetic of comparing, against torch and against exact sums."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from holdfast.compare.arithmetic import READ_BYTES, Comparer
from holdfast.compare.records import Numbers, total
from holdfast.compare.stored import Stored
from holdfast.tensorfile import dtype_name

FLOATS = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float8_e4m3fnuz,
    torch.float8_e5m2,
    torch.float8_e5m2fnuz,
]
INTEGERS = [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16]


def stored(tensor: Tensor) -> Stored:
    """The tensor as one side of a comparison."""
    data = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()

    def read(offset: int, buffer: memoryview) -> None:
        buffer[:] = data[offset : offset + len(buffer)]

    shape = tuple(tensor.shape)
    return Stored(str(tensor.dtype), dtype_name(tensor.dtype).name, shape, len(data), read, "test")


def reference(left: Tensor, right: Tensor) -> Numbers:
    """The same numbers by torch and exact sums, bits of equal dtypes compared as bits."""
    a, b = left.to(torch.float64), right.to(torch.float64)
    if left.dtype == right.dtype:
        size = left.element_size()
        kind = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[size]
        changed = int((left.view(kind) != right.view(kind)).sum())
    else:
        changed = int(((a != b) & ~(a.isnan() & b.isnan())).sum())
    finite = a.isfinite() & b.isfinite()
    x, y = a[finite], b[finite]
    return Numbers(
        left.numel(),
        changed,
        math.fsum((x * x).tolist()),
        math.fsum((y * y).tolist()),
        math.fsum(((y - x) ** 2).tolist()),
        float((y - x).abs().max()) if len(x) else 0.0,
        int(a.isnan().sum()),
        int(b.isnan().sum()),
        int(a.isinf().sum()),
        int(b.isinf().sum()),
    )


def agree(found: Numbers, wanted: Numbers) -> None:
    """Counts and extremes exactly, sums to the last digits of float64."""
    for field in (
        "elements",
        "changed",
        "max_abs",
        "nan_left",
        "nan_right",
        "inf_left",
        "inf_right",
    ):
        assert getattr(found, field) == getattr(wanted, field), field
    for field in ("squares_left", "squares_right", "squares_delta"):
        assert getattr(found, field) == pytest.approx(getattr(wanted, field), rel=1e-12), field


@settings(deadline=None, max_examples=60)
@given(
    left=st.sampled_from([*FLOATS, *INTEGERS]),
    right=st.sampled_from([*FLOATS, *INTEGERS]) | st.none(),
    seed=st.integers(0, 2**32),
    count=st.integers(0, 70),
    odd=st.booleans(),
)
def test_numbers_agree_with_torch_for_all_dtypes(
    left: torch.dtype, right: torch.dtype | None, seed: int, count: int, odd: bool
) -> None:
    """Same or different dtypes, with and without NaN and infinities, of any count."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(2, count, generator=generator, dtype=torch.float64) * 10
    values[1, ::2] = values[0, ::2]
    if odd and count:
        places = torch.randint(0, count, (4,), generator=generator)
        values[0, places[0]], values[0, places[1]] = math.nan, math.inf
        values[1, places[2]], values[1, places[3]] = math.nan, -math.inf
    sides = [_as(values[0], left), _as(values[1], right or left)]
    agree(Comparer().compare(stored(sides[0]), stored(sides[1])), reference(*sides))


def _as(values: Tensor, dtype: torch.dtype) -> Tensor:
    if dtype.is_floating_point:
        return values.to(dtype)
    return values.nan_to_num(0, 1, 2).abs().to(dtype)


@pytest.mark.parametrize("dtype", [d for d in FLOATS if d.itemsize == 1], ids=str)
def test_every_code_of_an_eight_bit_float_has_torchs_value(dtype: torch.dtype) -> None:
    """All 256 codes, NaN and infinities included."""
    codes = torch.arange(256, dtype=torch.uint8).view(dtype)
    plain = codes.to(torch.float64)
    found = Comparer().compare(stored(codes), stored(plain))
    assert found.changed == 0
    assert found.nan_left == found.nan_right == int(plain.isnan().sum())


def test_tensors_larger_than_a_buffer_are_read_in_pieces() -> None:
    """What spans several reads and ends within a piece gives the same numbers."""
    count = READ_BYTES // 4 + 70_001
    left = torch.randn(count, generator=torch.Generator().manual_seed(1))
    right = left.clone()
    right[::1000] += 1.0
    right[-1] = math.nan
    agree(Comparer().compare(stored(left), stored(right)), reference(left, right))


def test_small_angles_are_not_lost() -> None:
    """The cosine of nearly parallel vectors keeps its distance from one."""
    numbers = Numbers(2, 2, 1.0, 1.0, 1e-20)
    assert numbers.cosine == 1 - 5e-21
    left, right = torch.tensor([1.0, 0.0]).double(), torch.tensor([1.0, 1e-6]).double()
    found = Comparer().compare(stored(left), stored(right))
    assert found.cosine is not None
    assert 1 - found.cosine == pytest.approx(5e-13, rel=1e-3)


def test_from_nothing_and_to_nothing() -> None:
    """Zero against something has no angle and no finite relative change."""
    assert Numbers(1, 1, 0.0, 4.0, 4.0).relative_l2 == math.inf
    assert Numbers(1, 1, 0.0, 4.0, 4.0).cosine is None
    assert Numbers(0).relative_l2 == 0.0
    assert Numbers(0).changed_share == 0.0


@given(st.lists(st.floats(0, 1e300), max_size=20), st.randoms())
def test_totals_do_not_depend_on_the_order(values: list[float], random: object) -> None:
    """Sums over tensors are correctly rounded, so grouping them differently agrees."""
    parts = [Numbers(1, 0, value, value, value) for value in values]
    shuffled = list(parts)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert total(parts) == total(shuffled)
