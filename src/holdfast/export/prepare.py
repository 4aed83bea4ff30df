"""A module made ready for export: in evaluation mode, proven so, with what it never uses listed."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves

from holdfast.errors import ExportError
from holdfast.export.graph import Graph
from holdfast.export.matrix import Case, shape_matrix
from holdfast.export.tracing import trace_program
from holdfast.export.unused import Unused, find_unused

Outputs = tuple[Tensor, ...]


@dataclass(frozen=True)
class Prepared:
    """A graph with what it answers to every case of its matrix, in eager evaluation mode.

    The first case is the example to trace with. expected: per case. removed: what was unused and is
    not in the module any more. Valid while the context of `prepared` is open.
    """

    graph: Graph
    cases: Sequence[Case]
    expected: Sequence[Outputs]
    unused: Unused
    removed: Unused = field(default_factory=Unused)

    @property
    def example(self) -> tuple[Tensor, ...]:
        """Inputs to trace with."""
        return self.cases[0].inputs

    @functools.cached_property
    def program(self) -> ExportedProgram:
        """The graph as an exported program, made once for all formats. Raises ExportError."""
        return trace_program(self.graph, self.example)

    @property
    def weights(self) -> dict[str, Tensor]:
        """Parameters and buffers by FQN, tied ones under each of their names."""
        module = self.graph.module
        named = {
            **dict(module.named_parameters(remove_duplicate=False)),
            **dict(module.named_buffers(remove_duplicate=False)),
        }
        return {name: tensor.detach() for name, tensor in named.items()}


@contextlib.contextmanager
def prepared(graph: Graph, *, seed: int = 0) -> Iterator[Prepared]:
    """Put the graph's module in evaluation mode, prove that it is, run it on its shape matrix.

    The module must be on the CPU. On leaving, every submodule has the mode it had. Raises
    ExportError naming what would make answers depend on chance or on the other rows of a batch, or
    what the model itself cannot do.
    """
    if device_of(graph.module).type != "cpu":
        raise ExportError(
            f"The model is on {device_of(graph.module)}; exports are made and compared on the CPU",
            where=f"graph {graph.name}",
            fix="move it there first: model.cpu()",
        )
    with evaluating(graph.module), slow_path(), torch.no_grad():
        cases = shape_matrix(graph, seed=seed)
        runs = [_run(graph, case) for case in cases]
        for case, outputs in zip(cases, runs, strict=True):
            _check_outputs(graph, case, outputs)
        unused = find_unused(graph.module, [case.inputs for case in cases])
        yield Prepared(graph, cases, runs, unused)


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode, verified; the modes of all submodules are restored on leaving.

    Raises ExportError for modules that stay in training mode, and for batch normalisation without
    running statistics, where one row's answer depends on the other rows.
    """
    modes = [(one, one.training) for one in module.modules()]
    try:
        module.eval()
        stubborn = [_named(n, m) for n, m in module.named_modules() if m.training]
        if stubborn:
            raise ExportError(
                f"{len(stubborn)} modules stay in training mode after eval(): "
                f"{', '.join(stubborn[:5])}",
                fix="let their train() method pass the mode on, or set .training = False in it",
            )
        blind = [
            _named(name, one)
            for name, one in module.named_modules()
            if isinstance(one, _BatchNorm) and one.running_mean is None
        ]
        if blind:
            raise ExportError(
                "Batch normalisation without running statistics normalises by whatever else is in "
                f"the batch: {', '.join(blind[:5])}",
                fix="train with track_running_stats=True, or use another normalisation",
            )
        yield
    finally:
        for one, mode in modes:
            one.training = mode


@contextlib.contextmanager
def slow_path() -> Iterator[None]:
    """Without torch's fused inference path for attention, which answers slightly differently.

    Its rows of nothing but padding are NaN where an exported graph has numbers.
    """
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def flatten(value: object) -> Outputs:
    """The tensors in what a module returned, in order, on the CPU."""
    return tuple(leaf.detach().cpu() for leaf in tree_leaves(value) if isinstance(leaf, Tensor))


def device_of(module: nn.Module) -> torch.device:
    """Where the module's tensors are; the CPU if it has none."""
    for tensor in (*module.parameters(), *module.buffers()):
        return tensor.device
    return torch.device("cpu")


def identical(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    """Whether two results are equal bit for bit, NaN equal to NaN."""
    return len(one) == len(other) and all(
        a.dtype == b.dtype
        and a.shape == b.shape
        and torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))
        and torch.equal(a.isnan(), b.isnan())
        for a, b in zip(one, other, strict=True)
    )


def _run(graph: Graph, case: Case) -> Outputs:
    try:
        first, second = (flatten(graph.module(*case.inputs)) for _ in range(2))
    except Exception as error:
        raise ExportError(
            f"The model itself cannot do the case '{case.name}' ({_sizes(case.sizes)}): {error}",
            where=f"graph {graph.name}",
            fix="narrow the ranges of the signature to what the model can do",
        ) from error
    if not identical(first, second):
        raise ExportError(
            f"The model gave two answers to the same input (case '{case.name}') in evaluation mode",
            where=f"graph {graph.name}",
            fix="look for dropout called with training=True, and for other random numbers in "
            "forward()",
        )
    return first


def _check_outputs(graph: Graph, case: Case, outputs: Outputs) -> None:
    names = graph.signature.outputs
    if len(outputs) != len(names):
        raise ExportError(
            f"The model returned {len(outputs)} tensors, its signature names {len(names)}",
            where=f"graph {graph.name}",
            fix=f"name all outputs in the signature; now they are {', '.join(names)}",
        )
    for name, output in zip(names, outputs, strict=True):
        if output.is_floating_point() and not bool(output.isfinite().all()):
            raise ExportError(
                f"The model's own {name} is not finite in the case '{case.name}' "
                f"({_sizes(case.sizes)}): there is nothing to compare with",
                where=f"graph {graph.name}",
                fix="mend the weights, or narrow the ranges of the signature",
            )


def _sizes(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {size}" for name, size in sizes.items()) or "no axes"


def _named(name: str, module: nn.Module) -> str:
    return f"{name or 'the model'} ({type(module).__name__})"
