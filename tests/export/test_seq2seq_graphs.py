"""What the recipe learns of any module that steps, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from seq2seq_models import SOURCE_SIZE, graphs_of, some_sources
from torch import Tensor, nn

from holdfast.decoding.tensors import Axes, TensorCache, TensorSteps
from holdfast.errors import ConfigError
from holdfast.export.formats import FORMATS, FormatOptions
from holdfast.export.gate import inspect
from holdfast.export.prepare import prepared
from holdfast.export.seq2seq import CacheEntry, SequenceModel
from holdfast.export.seq2seq.program import load_program


class Attentive(nn.Module):
    """A recurrent state with its rows second, which looks back at the source at every step."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(SOURCE_SIZE, 8)
        self.cell = nn.GRUCell(8, 8)
        self.output = nn.Linear(16, 29)
        self.cache_axes: dict[str, Axes] = {
            "state": (None, "rows", None),
            "seen": ("rows", "source", None),
        }

    def start(self, source: Tensor) -> TensorCache:
        """The mean of the source, and all of it."""
        seen = self.embedding(source)
        return {"state": seen.mean(dim=1)[None].tanh(), "seen": seen}

    def step(self, tokens: Tensor, cache: TensorCache) -> tuple[Tensor, TensorCache]:
        """One token further."""
        state = self.cell(self.embedding(tokens), cache["state"][0])
        shares = (cache["seen"] @ state[:, :, None]).softmax(dim=1)
        context = (shares * cache["seen"]).sum(dim=1)
        logits = self.output(torch.cat([state, context], dim=1))
        return (5 * logits).log_softmax(dim=1), {**cache, "state": state[None]}


@pytest.fixture
def module() -> Attentive:
    """Random weights."""
    torch.manual_seed(4)
    return Attentive().eval()


def test_the_cache_is_observed(module: Attentive) -> None:
    """What changes, what stays, what varies, and who makes it."""
    assert graphs_of(module, "gru").recipe.cache == (
        CacheEntry("state", "float32", (1, "rows", 8), "start", True),
        CacheEntry("seen", "float32", ("rows", "source", 8), "start", False),
    )


def test_a_module_of_any_make_is_exported(module: Attentive, tmp_path: Path) -> None:
    """A recurrent network passes the gate and decodes to its tokens from the file."""
    graphs = graphs_of(module, "gru")
    graphs.recipe.write(tmp_path, "gru")
    for graph in graphs.graphs:
        with prepared(graph) as ready:
            artifact = FORMATS["program"].write(ready, tmp_path, graph.name, FormatOptions())
            inspect(ready, FORMATS["program"], tmp_path, artifact)[0].require()
    sources = some_sources(30)
    expected = SequenceModel(TensorSteps(module), graphs.recipe).decode(sources, width=2)
    found = load_program(tmp_path, "gru").decode(sources, width=2)
    assert [h.tokens for h in found] == [h.tokens for h in expected]


def test_a_growing_axis_must_have_a_name(module: Attentive) -> None:
    """Otherwise the graph would be of one length only."""

    def growing(tokens: Tensor, cache: TensorCache) -> tuple[Tensor, TensorCache]:
        return torch.zeros(len(tokens), 29), {**cache, "state": cache["state"].repeat(2, 1, 1)}

    module.step = growing  # type: ignore[method-assign]
    with pytest.raises(ConfigError, match="grew from 1 to 2"):
        graphs_of(module, "gru")


def test_an_axis_of_unknown_sizes_needs_a_range(module: Attentive) -> None:
    """One that is neither rows, nor source, nor growing."""
    module.cache_axes["seen"] = ("rows", "frames", None)
    with pytest.raises(ConfigError, match="frames"):
        graphs_of(module, "gru")


@pytest.mark.parametrize(
    "axes",
    [
        {"state": (None, "rows", None)},
        {"state": (None, None, None), "seen": ("rows", "source", None)},
        {"state": (None, "rows"), "seen": ("rows", "source", None)},
    ],
)
def test_axes_that_do_not_fit_the_cache_are_refused(
    module: Attentive, axes: dict[str, Axes]
) -> None:
    """A tensor without axes, without rows, or with another number of axes."""
    module.cache_axes = axes
    with pytest.raises(ConfigError, match="cache_axes"):
        graphs_of(module, "gru")
