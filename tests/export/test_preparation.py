"""What is proven of a model before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from export_world import SIGNATURE, new_tagger, ready
from torch import Tensor, nn
from torch.nn.functional import dropout

from holdfast.errors import ExportError
from holdfast.export import (
    Axis,
    Graph,
    Input,
    Signature,
    exportable,
    shape_matrix,
    tokens,
    without_unused,
)
from holdfast.export.building import build
from holdfast.export.prepare import flatten, identical

VECTORS = Signature((Input("x", (Axis("batch", 1, 4), 8)),), ("y",))


class Wrapped(nn.Module):
    """A function as a module, with submodules."""

    def __init__(self, function: object, **modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the function to this module and x."""
        made: Tensor = self.function(self, x)  # type: ignore[operator]
        return made


def test_evaluation_mode_is_forced_and_given_back() -> None:
    """Every submodule has its own mode again afterwards."""
    model = new_tagger().train()
    model.norm.eval()
    with ready(model):
        assert not any(one.training for one in model.modules())
    assert model.training
    assert model.dropout.training
    assert not model.norm.training


def test_a_module_that_stays_in_training_mode_is_refused() -> None:
    """Overridden train() methods are a common reason for exports that answer by chance."""

    class Stubborn(nn.Dropout):
        def train(self, mode: bool = True) -> Stubborn:
            super().train(True)
            return self

    model = Wrapped(lambda self, x: self.drop(x), drop=Stubborn())
    with pytest.raises(ExportError, match=r"1 modules stay in training mode.*drop \(Stubborn\)"):
        ready(model, VECTORS).__enter__()


def test_functional_dropout_is_found_by_asking_twice() -> None:
    """Randomness that no module flag shows is caught by comparing two calls."""
    model = Wrapped(lambda self, x: dropout(x, 0.5, training=True))
    with pytest.raises(ExportError, match="two answers to the same input"):
        ready(model, VECTORS).__enter__()


def test_batch_normalisation_without_statistics_is_refused() -> None:
    """One row's answer would depend on the others."""
    model = Wrapped(lambda self, x: self.norm(x), norm=nn.BatchNorm1d(8, track_running_stats=False))
    with pytest.raises(ExportError, match="whatever else is in the batch: norm"):
        ready(model, VECTORS).__enter__()


def test_a_range_the_model_cannot_do_is_refused_before_any_export() -> None:
    """The signature's promise is tried on the model itself first."""
    wide = Signature((tokens("ids", (Axis("batch", 1, 3), Axis("length", 1, 40)), 20),), ("y",))
    with pytest.raises(ExportError, match=r"cannot do the case 'length 40, the longest'"):
        ready(new_tagger(), wide).__enter__()


def test_answers_that_are_not_finite_are_refused() -> None:
    """Nothing can be compared with NaN."""
    model = Wrapped(lambda self, x: x / 0)
    with pytest.raises(ExportError, match="y is not finite"):
        ready(model, VECTORS).__enter__()


def test_unused_layers_are_listed_and_removed_on_request() -> None:
    """Parameters and whole layers that no output needs are found; removing them changes nothing."""
    model = Wrapped(
        lambda self, x: self.used(x),
        used=nn.Linear(8, 8),
        forgotten=nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)),
    )
    model.register_buffer("table", torch.zeros(5))
    with ready(model, VECTORS) as found:
        unused = found.unused
        slim = without_unused(model, unused)
        for case, expected in zip(found.cases, found.expected, strict=True):
            assert identical(expected, flatten(slim(*case.inputs)))
    assert unused.layers == ("forgotten",)
    assert set(unused.parameters) == {
        f"forgotten.{i}.{n}" for i in (0, 1) for n in ("weight", "bias")
    }
    assert unused.buffers == ("table",)
    assert unused.bytes == 4 * (2 * (64 + 8) + 5)
    assert set(slim.state_dict()) == {"used.weight", "used.bias"}


def test_artifacts_can_be_made_without_what_is_unused(tmp_path: Path) -> None:
    """The model given stays whole; the artifact has what it needs, and the report says the rest."""
    model = Wrapped(lambda self, x: self.used(x), used=nn.Linear(8, 8), extra=nn.Linear(8, 8))
    built, _ = build(exportable(model, VECTORS), tmp_path, ["program"], remove_unused=True)
    assert built.reports[0].passed
    program = torch.export.load(tmp_path / "model.pt2")
    assert set(program.state_dict) == {"used.weight", "used.bias"}
    assert set(built.graphs[0].removed.parameters) == {"extra.weight", "extra.bias"}
    assert set(model.state_dict()) == {"used.weight", "used.bias", "extra.weight", "extra.bias"}


def test_a_model_elsewhere_than_on_the_cpu_is_refused() -> None:
    """It is compared where everybody can repeat it."""
    with pytest.raises(ExportError, match="on meta; exports are made and compared on the CPU"):
        ready(nn.Linear(8, 8, device="meta"), VECTORS).__enter__()


def test_tied_and_indirectly_used_tensors_are_used() -> None:
    """A tensor reached through a tie, a view or a transposition is not called unused."""
    with ready() as found:
        assert not found.unused.names
    assert str(found.unused) == "every parameter and buffer is used"


def test_the_matrix_tries_both_ends_of_every_axis_and_padding() -> None:
    """No two axes of the example are alike or one, so that nothing is specialised by chance."""
    source = tokens("ids", (Axis("batch", 1, 6), Axis("source", 1, 30)), 50)
    mask = Input("mask", source.axes, "int64", 0, 1, mask=True)
    target = tokens("target", (Axis("batch", 1, 6), Axis("target", 1, 20)), 50)
    graph = Graph("g", nn.Identity(), Signature((source, mask, target), ("y",)))
    cases = shape_matrix(graph)
    example = list(cases[0].sizes.values())
    assert len(set(example)) == 3
    assert 1 not in example
    for axis in graph.signature.axes.values():
        assert {axis.min, axis.max} <= {case.sizes[axis.name] for case in cases}
    padded = cases[-1]
    assert padded.name == "padded in every row"
    assert bool((padded.inputs[0] == 0).any(dim=1).all())
    assert torch.equal(padded.inputs[0] != 0, padded.inputs[1] == 1)
    assert not any(bool((case.inputs[0] == 0).any()) for case in cases[:-1])


def test_the_matrix_is_the_same_each_time() -> None:
    """Values and sizes are drawn from a seed alone."""
    graph = Graph("g", nn.Identity(), SIGNATURE)
    for one, other in zip(shape_matrix(graph), shape_matrix(graph), strict=True):
        assert one.name == other.name
        assert identical(one.inputs, other.inputs)
