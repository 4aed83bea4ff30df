"""Where each tensor's bytes lie in a safetensors file: a pure plan made before any write.

The layout is the safetensors format (https://github.com/huggingface/safetensors, "Format"): an
8-byte little-endian length, a JSON header, then the tensors' bytes without holes. Two choices are
ours and within it: the header is padded with spaces so that the data starts at a multiple of
`DATA_ALIGNMENT`, and tensors lie by descending element size, so that each starts at a multiple of
its own element size.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from holdfast import jsontext
from holdfast.errors import UnsavableError
from holdfast.tensorfile.dtypes import STORED
from holdfast.tensorfile.refusals import refusal
from holdfast.tensorfile.spec import (
    ITEM_BYTES,
    MAX_HEADER_BYTES,
    MAX_NAME_CHARS,
    MAX_TENSORS,
    TensorSpec,
)

DATA_ALIGNMENT = 4096
_LENGTH_BYTES = 8
_SHOWN_PROBLEMS = 20


@dataclass(frozen=True, slots=True)
class FilePlan:
    """A whole tensor file before a byte of it is written.

    header: 8-byte little-endian length prefix, JSON and space padding; a multiple of 4096 bytes.
    specs: by name, in offset order, covering the data section without holes.
    data_bytes, total_bytes: length of the data section and of the file.
    """

    header: bytes
    specs: dict[str, TensorSpec]
    data_bytes: int
    total_bytes: int


def plan_file(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> FilePlan:
    """Lay out `tensors` as one safetensors file; reads no element and writes nothing.

    metadata: the header's `__metadata__`, text to text; "format": "pt" is added unless given, so
    that stock safetensors and transformers take the file for a PyTorch one.
    Raises UnsavableError naming every tensor the format cannot hold, each with the reason.
    """
    _refuse_unsavable(tensors)
    specs: dict[str, TensorSpec] = {}
    begin = 0
    for name, dtype, shape, nbytes in _in_file_order(tensors):
        specs[name] = TensorSpec(dtype, shape, begin, begin + nbytes)
        begin += nbytes
    header = _encode_header(specs, {"format": "pt", **metadata})
    return FilePlan(header, specs, data_bytes=begin, total_bytes=len(header) + begin)


def file_order(tensors: Mapping[str, Tensor]) -> list[str]:
    """The names in the order in which `plan_file` lays their bytes, one after the other.

    Tensors that no file can hold come last.
    """
    known = {name: tensor for name, tensor in tensors.items() if tensor.dtype in STORED}
    ordered = [name for name, *_ in _in_file_order(known)]
    return ordered + [name for name in tensors if name not in known]


def _in_file_order(
    tensors: Mapping[str, Tensor],
) -> list[tuple[str, str, tuple[int, ...], int]]:
    """Name, stored dtype, stored shape and bytes of each tensor, by descending element size."""
    rows = []
    for name, tensor in tensors.items():
        stored, shape = STORED[tensor.dtype], tuple(tensor.shape)
        if stored.trailing:
            shape += stored.trailing
        rows.append((name, stored.name, shape, tensor.nbytes))
    rows.sort(key=lambda row: -ITEM_BYTES[row[1]])
    return rows


def _encode_header(specs: Mapping[str, TensorSpec], metadata: Mapping[str, str]) -> bytes:
    # As jsontext.dump would, entry by entry: no tree of small objects is built for it.
    parts = [b'{"__metadata__":', jsontext.dump(dict(metadata))]
    for name, (dtype, shape, begin, end) in specs.items():
        sizes = ",".join(map(str, shape))
        entry = f'{{"dtype":"{dtype}","shape":[{sizes}],"data_offsets":[{begin},{end}]}}'
        parts.append(f",{json.dumps(name)}:{entry}".encode("ascii"))
    text = b"".join([*parts, b"}"])
    if sum(map(text.count, (b",", b":", b"[", b"{"))) >= jsontext.MAX_VALUES:
        jsontext.require_readable(text)
    padded_bytes = -(-(_LENGTH_BYTES + len(text)) // DATA_ALIGNMENT) * DATA_ALIGNMENT
    text_bytes = padded_bytes - _LENGTH_BYTES
    if text_bytes > MAX_HEADER_BYTES:
        raise UnsavableError(
            f"The header of {len(specs)} tensors would take {text_bytes} bytes, "
            f"the format's limit is {MAX_HEADER_BYTES}",
            fix="use shorter names, or divide the tensors over several components",
        )
    return text_bytes.to_bytes(_LENGTH_BYTES, "little") + text.ljust(text_bytes)


def _refuse_unsavable(tensors: Mapping[str, Tensor]) -> None:
    problems = []
    if len(tensors) > MAX_TENSORS:
        problems.append(f"{len(tensors)} tensors in one file, the limit is {MAX_TENSORS}")
    for name, tensor in tensors.items():
        reason = _name_refusal(name) or refusal(tensor)
        if reason:
            problems.append(f"{name!a}: {reason}")
    if problems:
        listing = "".join(f"\n  - {problem}" for problem in problems[:_SHOWN_PROBLEMS])
        more = len(problems) - _SHOWN_PROBLEMS
        rest = f"\n  - and {more} more" if more > 0 else ""
        raise UnsavableError(
            f"Nothing was written: {len(problems)} of {len(tensors)} tensors cannot be saved"
            f"{listing}{rest}",
            fix="convert each as said above, or leave it out of the state dict",
        )


def _name_refusal(name: str) -> str | None:
    if name == "__metadata__":
        return "the name is reserved by the safetensors format"
    if len(name) > MAX_NAME_CHARS:
        return f"the name has {len(name)} characters, the limit is {MAX_NAME_CHARS}"
    if name.isascii():
        return None
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return "the name holds a lone surrogate, which is no Unicode text"
    return None
