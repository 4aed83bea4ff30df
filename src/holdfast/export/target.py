"""A model with everything a release of it is made from."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from torch import nn

from holdfast.errors import ConfigError
from holdfast.export.graph import Check, Graph, Runner
from holdfast.export.signature import Signature
from holdfast.jsontext import Json

Measure: TypeAlias = Callable[[Mapping[str, Mapping[str, Runner]]], Mapping[str, Json]]
"""Runners by graph for "eager" and for each format to a table for the card: "columns" and "rows"
(lists of text or numbers), "notes" (lines)."""


@dataclass(frozen=True)
class Exportable:
    """What `--model module:function` returns, and what `release` takes.

    model: the module whose state dict the weights are. graphs: what is exported: often the model
    itself, or parts and views of it that share its parameters. checks: comparisons beyond single
    calls, run for every format. measure: times the artifacts that passed. files: further files of
    the release by name (vocabularies, a runner's settings): a path, or the content.
    """

    model: nn.Module
    graphs: tuple[Graph, ...]
    checks: tuple[Check, ...] = ()
    measure: Measure | None = None
    files: Mapping[str, str | os.PathLike[str] | bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [graph.name for graph in self.graphs]
        if not names or len(set(names)) != len(names):
            raise ConfigError("An export has at least one graph, and no two of one name")


def exportable(model: nn.Module, signature: Signature, **more: object) -> Exportable:
    """A model that is one graph, named "model"; `more` as in `Exportable`."""
    return Exportable(model, (Graph("model", model, signature),), **more)  # type: ignore[arg-type]


@dataclass(frozen=True)
class About:
    """What people are told of a release, and no tool could know.

    metrics: how it was evaluated, each a dict with "name" and "value", and where known "low",
    "high", "level", "set" and "signature". limits: what it is not made for. licence: an SPDX
    expression. description: what it is and how it was trained, in a few sentences.
    """

    name: str = "model"
    description: str = ""
    licence: str | None = None
    metrics: Sequence[Mapping[str, Json]] = ()
    limits: Sequence[str] = ()
