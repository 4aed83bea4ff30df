"""What every format has in common: an artifact on disk, and what comes back from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from torch import Tensor

from holdfast.export.graph import Runner
from holdfast.export.prepare import Prepared
from holdfast.jsontext import Json


@dataclass(frozen=True, slots=True)
class Artifact:
    """A graph in one format, in a folder. files: names, all needed together, the main one first.

    legacy: why this format is one to leave, None if it is not. facts: of the format, for the card.
    converted: digest of each tensor by the format's own name as it left the converter, for formats
    that fold, fuse or rename the model's; empty where the model's own names and bytes are kept.
    """

    graph: str
    format: str
    files: tuple[str, ...]
    legacy: str | None = None
    facts: Mapping[str, Json] = field(default_factory=dict)
    converted: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Reloaded:
    """An artifact read back from disk.

    run: calls it. weights: the tensors found in it, by the names it gives them; empty if it does
    not say. problems: what its graph shows that must not be (dropout that is still active).
    """

    run: Runner
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    problems: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class FormatOptions:
    """Choices that some formats have.

    opset: of ONNX, None for the exporter's own. external_data: ONNX weights in a file of their
    own; None means only where one file would pass the 2 GB that its encoding can hold. card: put
    into the artifact where it has a place for it.
    """

    opset: int | None = None
    external_data: bool | None = None
    card: bytes = b"{}"


class Format(Protocol):
    """A way to write a graph so that it runs without its Python code.

    suffix: of the graph's name in the names of its files.
    """

    name: str
    suffix: str
    legacy: str | None

    def write(
        self, prepared: Prepared, folder: Path, stem: str, options: FormatOptions
    ) -> Artifact:
        """Write the files of one graph into the folder. Raises ExportError with the reason."""
        ...

    def reload(self, folder: Path, artifact: Artifact) -> Reloaded:
        """Read the files back, as whoever deploys them will. Raises ExportError if they are not
        whole."""
        ...
