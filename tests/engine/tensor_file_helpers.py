"""Tensor files written by stock safetensors, described as a checkpoint would describe them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor

from holdfast.digest import PREFIX, combine, raw_digest
from holdfast.engine.state_file import TensorFileEntry
from holdfast.engine.tensor_file import TensorFile, open_tensor_file
from holdfast.jsontext import Json
from holdfast.manifest import FileRecord
from holdfast.storage.opened import LocalOpened
from holdfast.tensorfile import header_length, parse_header

FILE = "model.safetensors"


class Committed(NamedTuple):
    """A tensor file as it was committed."""

    path: Path
    entry: TensorFileEntry
    record: FileRecord

    def open(self) -> TensorFile:
        """Open it as it is now."""
        return open_tensor_file(
            LocalOpened(self.path.parent), self.path.name, self.entry, self.record
        )


def sample_tensors() -> dict[str, Tensor]:
    """Small and large, empty and 0-d tensors of several dtypes; about 3 MB."""
    generator = torch.Generator().manual_seed(7)
    tensors: dict[str, Tensor] = {
        f"layers.{index}.weight": torch.randn(3, index % 5 + 1, generator=generator)
        for index in range(200)
    }
    tensors["embedding"] = torch.randn(700, 500, generator=generator)
    tensors["half"] = torch.randn(300, 1001, generator=generator).to(torch.bfloat16)
    tensors["step"] = torch.tensor(41)
    tensors["empty"] = torch.empty(0, 7)
    tensors["mask"] = torch.rand(33, generator=generator) > 0.5
    tensors["image"] = torch.randn(4, 3, 90, 110, generator=generator)
    return tensors


def commit(
    folder: Path,
    tensors: Mapping[str, Tensor],
    *,
    file: str = FILE,
    notes: Mapping[str, Mapping[str, Json]] | None = None,
) -> Committed:
    """Write `tensors` and take their digests."""
    path = folder / file
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return describe_file(path, notes=notes)


def describe_file(
    path: Path, *, notes: Mapping[str, Mapping[str, Json]] | None = None
) -> Committed:
    """Take the digests of a sound file as a commit would."""
    data = path.read_bytes()
    start = header_length(data, len(data), where=path.name)
    specs, _ = parse_header(data[:start], len(data), where=path.name)
    header = raw_digest(data[:start])
    digests = {
        name: raw_digest(data[start + spec.begin : start + spec.end])
        for name, spec in specs.items()
    }
    entry = TensorFileEntry(
        PREFIX + header.hex(), {name: raw.hex() for name, raw in digests.items()}, notes or {}
    )
    record = FileRecord(len(data), combine([header, *digests.values()]), len(specs))
    return Committed(path, entry, record)


def same_bits(left: Tensor, right: Tensor) -> bool:
    """Whether dtype, shape and every bit agree."""
    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    flat = [t.detach().contiguous().reshape(-1).view(torch.uint8) for t in (left, right)]
    return torch.equal(flat[0], flat[1])
