"""Means of tensors: correctly rounded, whatever the values and the order."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from holdfast.errors import ConfigError
from holdfast.weights import mean_of

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def exact_mean(values: list[float], weights: list[int]) -> Fraction:
    """The mean in rational numbers."""
    total = sum((Fraction(v) * w for v, w in zip(values, weights, strict=True)), Fraction(0))
    return total / sum(weights)


def neighbours(value: Tensor) -> list[float]:
    """The next values of the same dtype on both sides."""
    both = [torch.nextafter(value, torch.full_like(value, float(d))) for d in ("inf", "-inf")]
    return [float(n) for n in both if torch.isfinite(n)]


def assert_nearest(result: Tensor, tensors: list[Tensor], weights: list[int]) -> None:
    """No neighbour of the result is nearer to the exact mean."""
    for index, found in enumerate(result):
        exact = exact_mean([float(tensor[index]) for tensor in tensors], weights)
        distance = abs(Fraction(float(found)) - exact)
        for other in neighbours(found):
            assert abs(Fraction(other) - exact) >= distance, (index, exact, float(found))


def bits_of(dtype: torch.dtype) -> st.SearchStrategy[Tensor]:
    """Four finite values of a dtype, drawn as bit patterns: subnormals and extremes included."""
    integer = torch.int32 if dtype.itemsize == 4 else torch.int16
    edge = 2 ** (8 * dtype.itemsize - 1)
    numbers = st.lists(st.integers(-edge, edge - 1), min_size=4, max_size=4)
    mantissa = round(-math.log2(torch.finfo(dtype).eps))

    def finite(drawn: list[int]) -> Tensor:
        """The values; an exponent of all ones loses its last, which makes it finite."""
        bits = torch.tensor(drawn, dtype=integer)
        special = ~torch.isfinite(bits.view(dtype))
        return torch.where(special, bits ^ (1 << mantissa), bits).view(dtype)

    return numbers.map(finite)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_the_mean_of_any_values_is_the_nearest_there_is(
    dtype: torch.dtype, data: st.DataObject
) -> None:
    """Within half a unit in the last place for every bit pattern, cancellation included."""
    tensors = data.draw(st.lists(bits_of(dtype), min_size=1, max_size=6))
    weights = data.draw(
        st.lists(st.integers(1, 10**20), min_size=len(tensors), max_size=len(tensors))
        | st.just([1] * len(tensors))
    )
    assert_nearest(mean_of(tensors, weights), tensors, weights)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("count", [2, 3, 10])
def test_the_mean_of_weights_as_models_have_them_is_the_nearest_there_is(
    dtype: torch.dtype, count: int
) -> None:
    """Ties between two neighbours, which are common with few members, are no exception."""
    torch.manual_seed(count)
    tensors = [(torch.randn(400) * 0.02).to(dtype) for _ in range(count)]
    assert_nearest(mean_of(tensors), tensors, [1] * count)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_the_order_of_the_members_does_not_matter(data: st.DataObject) -> None:
    """Any permutation gives the same bits."""
    dtype = data.draw(st.sampled_from([*DTYPES, torch.float64]))
    if dtype == torch.float64:
        numbers = st.floats(-1e100, 1e100)
        tensors = data.draw(
            st.lists(
                st.lists(numbers, min_size=4, max_size=4).map(
                    lambda n: torch.tensor(n, dtype=torch.float64)
                ),
                min_size=2,
                max_size=6,
            )
        )
    else:
        tensors = data.draw(st.lists(bits_of(dtype), min_size=2, max_size=6))
    weights = data.draw(
        st.lists(st.integers(1, 10**12), min_size=len(tensors), max_size=len(tensors))
    )
    order = data.draw(st.permutations(range(len(tensors))))
    first = mean_of(tensors, weights)
    second = mean_of([tensors[i] for i in order], [weights[i] for i in order])
    assert torch.equal(first, second)


def test_rounding_happens_once_on_the_way_to_a_narrow_dtype() -> None:
    """A mean just above the middle of two bfloat16 goes up, although float32 would call it even."""
    middle = 1.0 + 2.0**-8
    values = [torch.tensor([middle]), torch.tensor([middle + 2.0**-23])]
    weights = [2**20, 1]
    assert float(mean_of(values, weights).to(torch.bfloat16)) == 1.0
    assert float(mean_of(values, weights, dtype=torch.bfloat16)) == 1.0 + 2.0**-7


def test_large_tensors_are_averaged_in_blocks_with_the_same_result() -> None:
    """What lies behind the first block is not forgotten, and layout does not matter."""
    torch.manual_seed(0)
    tensors = [torch.randn(300, 500) for _ in range(3)]
    whole = mean_of(tensors)
    assert torch.equal(whole, torch.stack([t.double() for t in tensors]).mean(0).float())
    assert torch.equal(mean_of([t.t() for t in tensors]), whole.t())


def test_weights_mean_the_decimal_numbers_they_print_as() -> None:
    """A weight of 0.1 is a tenth, so that one tenth and nine tenths make one."""
    a, b = torch.tensor([10.0]), torch.tensor([0.0])
    assert float(mean_of([a, b], [0.1, 0.9])) == 1.0
    assert torch.equal(mean_of([a, b], [0.1, 0.9]), mean_of([a, b], ["1/10", "9/10"]))


def test_complex_tensors_are_averaged_by_their_parts() -> None:
    """Real and imaginary parts each have their mean."""
    tensors = [torch.tensor([1 + 2j, 3 - 4j]), torch.tensor([3 + 4j, 5 - 8j])]
    assert torch.equal(mean_of(tensors), torch.tensor([2 + 3j, 4 - 6j]))


@pytest.mark.parametrize(
    "weights", [[0, 1], [-1, 2], [float("nan"), 1], [float("inf"), 1], ["x", 1], [1]]
)
def test_weights_that_are_no_weights_are_refused(weights: list[object]) -> None:
    """Zero, negative, not finite, no numbers, too few: each is an error that says so."""
    with pytest.raises(ConfigError):
        mean_of([torch.ones(2), torch.ones(2)], weights)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64], ids=str)
def test_values_that_are_not_finite_are_refused(bad: float, dtype: torch.dtype) -> None:
    """NaN in one member does not become a silent NaN in the mean."""
    with pytest.raises(ConfigError, match="position 1"):
        mean_of([torch.ones(3, dtype=dtype), torch.tensor([1.0, bad, 1.0], dtype=dtype)])


def test_a_mean_beyond_the_dtype_asked_for_is_refused() -> None:
    """float32 weights that float16 cannot hold are no silent infinities."""
    with pytest.raises(ConfigError, match=r"not finite as torch\.float16"):
        mean_of([torch.tensor([1e6]), torch.tensor([1e6])], dtype=torch.float16)


def test_tensors_without_a_mean_are_refused() -> None:
    """Integers, unlike shapes and nothing at all have no mean."""
    with pytest.raises(ConfigError):
        mean_of([torch.ones(2, dtype=torch.int64)] * 2)
    with pytest.raises(ConfigError):
        mean_of([torch.ones(2), torch.ones(3)])
    with pytest.raises(ConfigError):
        mean_of([])
