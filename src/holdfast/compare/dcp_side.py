"""A stock distributed checkpoint as one side of a comparison; its index is never unpickled."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from holdfast.compare.held import held_reader
from holdfast.compare.stored import Part, Side, Stored
from holdfast.engine.dcp_folder import DcpFolder
from holdfast.tensorfile import dtype_name


def open_dcp(path: Path) -> Side:
    """Open the folder: the model, and what else it holds as "others". Raises LoadError."""
    folder = DcpFolder(path)
    model = folder.model()
    others = {name: name for name in folder.tensors if name not in set(model.values())}
    parts = {"model": _part(folder, "model", "module", model)}
    if others:
        parts["others"] = _part(folder, "others", "object", others)
    return Side(str(path), "distributed", parts, {})


def _part(folder: DcpFolder, name: str, kind: str, names: Mapping[str, str]) -> Part:
    return Part(name, kind, {shown: _stored(folder, stored) for shown, stored in names.items()})


def _stored(folder: DcpFolder, name: str) -> Stored:
    facts = folder.tensors[name]
    return Stored(
        str(facts.dtype).removeprefix("torch."),
        dtype_name(facts.dtype).name,
        facts.shape,
        math.prod(facts.shape) * facts.dtype.itemsize,
        held_reader(lambda: folder.read(name)),
        f"{folder.place}: {name[:200]}",
    )
