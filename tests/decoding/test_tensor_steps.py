"""Torch modules as step models."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from holdfast.decoding import Marks, beam, greedy
from holdfast.decoding.tensors import Axes, TensorCache, TensorSteps
from holdfast.errors import ConfigError

MARKS = Marks(begin=1, end=2, never=(0, 1))


class Recurrent(nn.Module):
    """A recurrent network whose state has its rows on axis 1."""

    def __init__(self) -> None:
        super().__init__()
        self.cache_axes: dict[str, Axes] = {"state": (None, "rows", None)}
        self.embedding = nn.Embedding(9, 6)
        self.cell = nn.GRU(6, 9, batch_first=True)

    def start(self, source: Tensor) -> TensorCache:
        """The state after the source."""
        return {"state": self.cell(self.embedding(source))[1]}

    def step(self, tokens: Tensor, cache: TensorCache) -> tuple[Tensor, TensorCache]:
        """One token further."""
        outputs, state = self.cell(self.embedding(tokens[:, None]), cache["state"])
        return (9 * outputs[:, 0]).log_softmax(dim=1), {"state": state}


@pytest.fixture
def module() -> Recurrent:
    """Random weights."""
    torch.manual_seed(5)
    return Recurrent().eval()


def test_any_module_of_the_protocol_decodes(module: Recurrent) -> None:
    """Batches agree with one row at a time, without gradients anywhere."""
    sources = torch.randint(3, 9, (5, 4)).numpy()
    limits = sources[:, 0].copy()
    together = beam(TensorSteps(module), sources, limits, MARKS, width=3)
    for row, hypothesis in enumerate(together):
        one = slice(row, row + 1)
        alone = beam(TensorSteps(module), sources[one], limits[one], MARKS, width=3)[0]
        assert alone.tokens == hypothesis.tokens
    assert all(parameter.grad is None for parameter in module.parameters())


def test_rows_are_taken_on_the_axis_that_counts_them(module: Recurrent) -> None:
    """The state of rows 2, 0, 2 gives their distributions."""
    steps = TensorSteps(module)
    sources = torch.randint(3, 9, (3, 4)).numpy()
    tokens = sources[:, 0].copy()
    rows = torch.tensor([2, 0, 2]).numpy()
    cache = steps.start(sources)
    expected, _ = steps.step(tokens, cache)
    found, _ = steps.step(tokens[rows], steps.reorder(cache, rows))
    torch.testing.assert_close(torch.from_numpy(found), torch.from_numpy(expected[rows]))


@pytest.mark.parametrize("axes", [(None, None, None), ("rows", "rows", None)])
def test_every_tensor_has_one_axis_of_rows(module: Recurrent, axes: Axes) -> None:
    """The error names the tensor."""
    module.cache_axes = {"state": axes}
    with pytest.raises(ConfigError, match="state"):
        TensorSteps(module)


def test_greedy_gives_python_integers(module: Recurrent) -> None:
    """What comes out can be written as JSON."""
    sources = torch.randint(3, 9, (2, 4)).numpy()
    found = greedy(TensorSteps(module), sources, sources[:, 0], MARKS)
    assert {type(token) for hypothesis in found for token in hypothesis.tokens} <= {int}
