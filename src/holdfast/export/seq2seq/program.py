"""Exported sequence models of `torch.export` archives, run by torch."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from holdfast.export.graph import Runner
from holdfast.export.libraries import INTERNAL_WARNINGS, explaining, quiet
from holdfast.export.seq2seq.model import SequenceModel
from holdfast.export.seq2seq.parity import sequence_model
from holdfast.export.seq2seq.recipe import Recipe


def load_program(folder: str | os.PathLike[str], name: str) -> SequenceModel:
    """The model `name` of a folder of `.pt2` files, as `sequence_graphs` described and exported it.

    Raises FormatError for another kind of recipe and ExportError if an archive cannot be loaded.
    """
    place = Path(folder)
    recipe = Recipe.read(place, name)
    runners = {graph: _runner(place / f"{graph}.pt2") for graph in (recipe.start, recipe.step)}
    return sequence_model(recipe, runners)


def _runner(path: Path) -> Runner:
    with explaining("load the exported program", path.name), quiet(*INTERNAL_WARNINGS):
        module = torch.export.load(path).module()

    def run(*inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs: tuple[torch.Tensor, ...] = module(*inputs)
        return outputs

    return run
