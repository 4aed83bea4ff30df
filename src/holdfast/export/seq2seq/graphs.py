"""The two graphs of a step module, ready for the gate, and the recipe to run them by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from holdfast.decoding import LengthRule, Marks
from holdfast.decoding.tensors import Axes, StepModule, TensorCache
from holdfast.errors import ConfigError
from holdfast.export.graph import Graph
from holdfast.export.prepare import device_of, evaluating
from holdfast.export.seq2seq.recipe import ROWS, CacheEntry, Recipe
from holdfast.export.signature import Axis, Input, Signature, tokens

SOURCE = "source"
LOG_PROBS = "log_probs"
_NEXT = "next_"
_ROWS_MAX = 1024
_EXAMPLE = (3, 7)
_STEPS_RUN = 3


@dataclass(frozen=True)
class SequenceGraphs:
    """What `sequence_graphs` made: export both graphs, and write the recipe beside them."""

    start: Graph
    step: Graph
    recipe: Recipe

    @property
    def graphs(self) -> tuple[Graph, Graph]:
        """In the order in which they run."""
        return self.start, self.step


def sequence_graphs(
    module: nn.Module,
    *,
    name: str,
    source_size: int,
    source_max: int,
    marks: Marks,
    pad: int,
    lengths: LengthRule,
    rows_max: int = _ROWS_MAX,
    axes: Mapping[str, tuple[int, int]] | None = None,
) -> SequenceGraphs:
    """The start and step graphs of a module that keeps to `StepModule`, with or without a cache.

    name: the graphs are called `<name>-start` and `<name>-step`. source_size: ids of the source go
    from 0 to source_size - 1, padded on the right with `pad`. source_max: most tokens of a source.
    rows_max: most rows, hypotheses of a beam counted one by one. axes: smallest and largest size of
    axes of the cache that neither count rows or source tokens nor grow with each step.

    Runs the module on a few random sources to see what its cache is. Raises ConfigError if that
    does not keep to what the module says of its axes.
    """
    steps = cast(StepModule, module)
    with evaluating(module), torch.no_grad():
        seen = _observe(steps, device_of(module), source_size, pad)
    ranges = {
        ROWS: Axis(ROWS, 1, rows_max),
        SOURCE: Axis(SOURCE, 1, source_max),
        **{
            axis: Axis(axis, first, first + lengths.longest - 1)
            for axis, first in seen.growing.items()
        },
        **{axis: Axis(axis, *sizes) for axis, sizes in (axes or {}).items()},
    }
    made = seen.made_by_start
    source_input = tokens("source", (ranges[ROWS], ranges[SOURCE]), source_size, pad=pad)
    first = Signature((source_input,), made)
    changed = tuple(_NEXT + entry.name for entry in seen.entries if entry.changes)
    fed = Input("tokens", (ranges[ROWS],), "int64", 0, seen.vocabulary - 1)
    inputs = tuple(_input(entry, ranges, seen.vocabulary) for entry in seen.entries)
    second = Signature((fed, *inputs), (LOG_PROBS, *changed))
    draw = _DrawCaches(steps, seen, source_size, pad)
    start = Graph(f"{name}-start", StartGraph(module, made), first)
    step = Graph(f"{name}-step", StepGraph(module), second, draw)
    recipe = Recipe(
        start.name, step.name, first, seen.entries, marks, pad, lengths, seen.vocabulary
    )
    return SequenceGraphs(start, step, recipe)


class StartGraph(nn.Module):
    """A step module's `start` as a forward: source ids in, the cache that is not empty out."""

    def __init__(self, module: nn.Module, made: Sequence[str]) -> None:
        super().__init__()
        self.module = module
        self._made = tuple(made)

    def forward(self, source: Tensor) -> tuple[Tensor, ...]:
        """Source ids [rows, source]."""
        cache = cast(StepModule, self.module).start(source)
        return tuple(cache[name] for name in self._made)


class StepGraph(nn.Module):
    """A step module's `step` as a forward: tokens and cache in, log-probabilities, changes out."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, tokens: Tensor, *cache: Tensor) -> tuple[Tensor, ...]:
        """Tokens [rows]; the cache in the order of `cache_axes`."""
        steps = cast(StepModule, self.module)
        given = dict(zip(steps.cache_axes, cache, strict=True))
        log_probs, following = steps.step(tokens, dict(given))
        changed = (following[name] for name in given if following[name] is not given[name])
        return (log_probs.float(), *changed)


@dataclass(frozen=True)
class _Seen:
    """What running a module showed. growing: first sizes of the axes that grow with each step."""

    entries: tuple[CacheEntry, ...]
    growing: Mapping[str, int]
    vocabulary: int

    @property
    def made_by_start(self) -> tuple[str, ...]:
        return tuple(entry.name for entry in self.entries if entry.made_by == "start")


def _observe(steps: StepModule, device: torch.device, source_size: int, pad: int) -> _Seen:
    generator = torch.Generator().manual_seed(0)
    source = random_source(_EXAMPLE, source_size, pad, generator).to(device)
    before = steps.start(source)
    _check_names(steps.cache_axes, before)
    fed = torch.zeros(len(source), dtype=torch.int64, device=device)
    log_probs, after = steps.step(fed, dict(before))
    growing: dict[str, int] = {}
    entries = []
    for name, axes in steps.cache_axes.items():
        shape: list[int | str] = []
        for axis, size, size_after in zip(axes, before[name].shape, after[name].shape, strict=True):
            if axis is None and size != size_after:
                raise ConfigError(
                    f"An axis of the cached tensor {name} grew from {size} to {size_after}, but "
                    "cache_axes says that it does not vary",
                    fix="give the axis a name in cache_axes",
                )
            if axis is not None and size != size_after:
                growing[axis] = size
            shape.append(size if axis is None else axis)
        entries.append(
            CacheEntry(
                name,
                str(before[name].dtype).removeprefix("torch."),
                tuple(shape),
                "start" if before[name].numel() else "runner",
                after[name] is not before[name],
            )
        )
    return _Seen(tuple(entries), growing, log_probs.shape[1])


def _check_names(axes: Mapping[str, Axes], cache: TensorCache) -> None:
    if list(cache) != list(axes) and set(cache) != set(axes):
        raise ConfigError(
            f"The module's start() makes {sorted(cache)}, its cache_axes name {sorted(axes)}",
            fix="name every cached tensor in cache_axes",
        )
    for name, tensor in cache.items():
        if len(axes[name]) != tensor.dim() or axes[name].count(ROWS) != 1:
            raise ConfigError(
                f"The cached tensor {name} has {tensor.dim()} axes, cache_axes says {axes[name]}",
                fix=f"name each of its axes or say None, and exactly one of them {ROWS!r}",
            )


def _input(entry: CacheEntry, ranges: Mapping[str, Axis], vocabulary: int) -> Input:
    missing = [axis for axis in entry.shape if isinstance(axis, str) and axis not in ranges]
    if missing:
        raise ConfigError(
            f"Nothing says which sizes the axis {missing[0]} of the cached tensor {entry.name} has",
            fix=f'pass axes={{"{missing[0]}": (smallest, largest)}}',
        )
    axes = tuple(ranges[axis] if isinstance(axis, str) else axis for axis in entry.shape)
    if entry.dtype.startswith("int"):
        return Input(entry.name, axes, entry.dtype, 0, vocabulary - 1)
    return Input(entry.name, axes, entry.dtype)


class _DrawCaches:
    """Inputs of the step graph: caches as the module makes them, brought to the sizes asked for."""

    def __init__(self, steps: StepModule, seen: _Seen, source_size: int, pad: int) -> None:
        self._steps, self._seen = steps, seen
        self._source_size, self._pad = source_size, pad

    def __call__(self, sizes: Mapping[str, int], generator: torch.Generator) -> Sequence[Tensor]:
        seen = self._seen
        rows = sizes[ROWS]
        shape = (rows, sizes.get(SOURCE, _EXAMPLE[1]))
        device = device_of(cast(nn.Module, self._steps))
        source = random_source(shape, self._source_size, self._pad, generator).to(device)
        cache = self._steps.start(source)
        wanted = {axis: sizes[axis] - first for axis, first in seen.growing.items()}
        for _ in range(min(_STEPS_RUN, max(wanted.values(), default=0))):
            fed = torch.randint(0, seen.vocabulary, (rows,), generator=generator).to(device)
            _, cache = self._steps.step(fed, cache)
        fed = torch.randint(0, seen.vocabulary, (rows,), generator=generator)
        resized = [_resize(cache[e.name], e, sizes, seen.growing, generator) for e in seen.entries]
        return [fed, *(tensor.cpu() for tensor in resized)]


def _resize(
    tensor: Tensor,
    entry: CacheEntry,
    sizes: Mapping[str, int],
    growing: Mapping[str, int],
    generator: torch.Generator,
) -> Tensor:
    """The tensor with its growing axes as long as wanted, of places drawn from those it has."""
    for index, axis in enumerate(entry.shape):
        if isinstance(axis, str) and axis in growing and tensor.shape[index] != sizes[axis]:
            places = torch.randint(0, tensor.shape[index], (sizes[axis],), generator=generator)
            tensor = tensor.index_select(index, places.to(tensor.device))
    return tensor


def random_source(
    shape: tuple[int, int], size: int, pad: int, generator: torch.Generator
) -> Tensor:
    """Source ids [rows, source]; all rows but the first end in padding, some of them."""
    ids = torch.randint(0, size, shape, generator=generator)
    ids[ids == pad] = (pad + 1) % size
    kept = torch.randint(1, shape[1] + 1, (shape[0],), generator=generator)
    kept[0] = shape[1]
    return ids.masked_fill(torch.arange(shape[1]) >= kept[:, None], pad)
