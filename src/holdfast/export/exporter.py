"""`ModelExporter`: the original name, and the way from it to everything else."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from holdfast.export.casting import CastEffect, cast_weights
from holdfast.export.checkpoint_file import write_weights_file
from holdfast.export.graph import Graph
from holdfast.export.hub_card import hub_card
from holdfast.export.hub_folder import SHARD_BYTES, write_hub_folder
from holdfast.export.output_effect import output_effect
from holdfast.export.prepare import prepared
from holdfast.export.source import Weights, WeightsLike, open_weights
from holdfast.export.unused import Unused


@dataclass(frozen=True)
class InferenceCheckpoint:
    """A written inference checkpoint; usable wherever a path is.

    bytes: of the file or folder. weights_bytes: of the tensors in it. source_bytes: of what it was
    made from, None if that means nothing. held: what else the source held. cast: what rounding
    did, None without. unused: what the graph given never uses, None without one.
    """

    path: Path
    bytes: int
    weights_bytes: int
    source_bytes: int | None
    held: tuple[str, ...]
    cast: CastEffect | None
    unused: Unused | None
    notes: tuple[str, ...]

    @property
    def reduction(self) -> float | None:
        """How many times smaller than its source it is."""
        return None if self.source_bytes is None else self.source_bytes / self.bytes

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        lines = [f"{self.path}: {self.bytes / 1e6:.2f} MB"]
        if self.reduction is not None and self.source_bytes is not None:
            # Rounded down: 2.96 times smaller is not 3.0 times smaller.
            times = int(self.reduction * 10) / 10
            beside = f" with {', '.join(self.held)}" if self.held else ""
            what = "full Adam checkpoint" if "optimizer" in self.held else "source"
            lines[0] += (
                f", {times:.1f}x smaller than the {what} ({self.source_bytes / 1e6:.2f} MB{beside})"
            )
        lines += [str(self.cast)] if self.cast is not None else []
        lines += [str(self.unused)] if self.unused is not None and self.unused.names else []
        return "\n".join([*lines, *self.notes])


class ModelExporter:
    """Exports of trained models; every method works on the class and on an instance.

    `holdfast.export` has the rest: graphs in several formats, the gate, releases.
    """

    @staticmethod
    def export_inference_checkpoint(
        checkpoint_path: WeightsLike,
        output_path: str | os.PathLike[str],
        include_config: bool = True,
        *,
        component: str = "model",
        dtype: str | torch.dtype | None = None,
        keep: Sequence[str] = (),
        graph: Graph | None = None,
        remove_unused: bool = False,
        shard_bytes: int = SHARD_BYTES,
        licence: str | None = None,
    ) -> InferenceCheckpoint:
        """Write a model's weights without anything that only training needs.

        checkpoint_path: a checkpoint folder, an original `.pt` file, an average, a reconstructed
        EMA or a sweep's best. output_path: `.pt` (loads with `weights_only=True`), `.safetensors`,
        or no suffix for a folder that Hugging Face tools load, in shards of `shard_bytes`.
        component: "model" or an EMA's name. dtype: "bf16" or "fp16" to cast, except what matches
        the patterns `keep`. graph: lets the cast's effect on outputs be measured and unused
        tensors be found; remove_unused leaves those out. Nothing has the name before it was read
        back and found equal. Raises LoadError for a source that cannot be trusted, ExportError,
        SaveError.
        """
        weights = open_weights(checkpoint_path, component=component)
        unused = _find_unused(graph, weights)
        if remove_unused and unused is not None:
            weights = weights.without(unused.names)
        effect = None
        original = weights
        if dtype is not None:
            weights, effect = cast_weights(weights, dtype, keep=keep)
            if graph is not None:
                said = output_effect(graph, original, weights)
                effect = replace(effect, outputs=said)
        target = Path(output_path)
        if target.suffix:
            write_weights_file(weights, target, include_config=include_config)
        else:
            write_hub_folder(
                weights,
                target,
                include_config=include_config,
                shard_bytes=shard_bytes,
                card=hub_card(weights, effect, licence, name=target.name),
            )
        return InferenceCheckpoint(
            path=target,
            bytes=_size(target),
            weights_bytes=weights.bytes,
            source_bytes=weights.source_bytes,
            held=weights.holds,
            cast=effect,
            unused=unused,
            notes=weights.notes,
        )


def _find_unused(graph: Graph | None, weights: Weights) -> Unused | None:
    if graph is None:
        return None
    with prepared(graph) as ready:
        known = ready.unused.names & weights.tensors.keys()
        return replace(
            ready.unused,
            parameters=tuple(name for name in ready.unused.parameters if name in known),
            buffers=tuple(name for name in ready.unused.buffers if name in known),
        )


def _size(path: Path) -> int:
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)
