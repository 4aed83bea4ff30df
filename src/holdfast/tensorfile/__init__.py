"""Tensors as safetensors files: layout, byte views, notes and strict header reading. No places.

Names are resolved when first used: reading a header and proving a file's bytes need no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdfast.tensorfile.blocks import byte_chunks, byte_view, is_zero_copy
    from holdfast.tensorfile.dtypes import StoredAs, dtype_name, torch_dtype
    from holdfast.tensorfile.header import header_length, parse_header
    from holdfast.tensorfile.layout import FilePlan, file_order, plan_file
    from holdfast.tensorfile.notes import allocate, describe
    from holdfast.tensorfile.spec import ITEM_BYTES, TensorSpec

_HOMES = {
    "ITEM_BYTES": "spec",
    "FilePlan": "layout",
    "StoredAs": "dtypes",
    "TensorSpec": "spec",
    "allocate": "notes",
    "byte_chunks": "blocks",
    "byte_view": "blocks",
    "describe": "notes",
    "dtype_name": "dtypes",
    "file_order": "layout",
    "header_length": "header",
    "is_zero_copy": "blocks",
    "parse_header": "header",
    "plan_file": "layout",
    "torch_dtype": "dtypes",
}

__all__ = [
    "ITEM_BYTES",
    "FilePlan",
    "StoredAs",
    "TensorSpec",
    "allocate",
    "byte_chunks",
    "byte_view",
    "describe",
    "dtype_name",
    "file_order",
    "header_length",
    "is_zero_copy",
    "parse_header",
    "plan_file",
    "torch_dtype",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
