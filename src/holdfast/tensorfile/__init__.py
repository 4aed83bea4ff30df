"""Tensors as safetensors files: layout, byte views, notes and strict header reading. No places."""

from holdfast.tensorfile.blocks import byte_chunks, byte_view, is_zero_copy
from holdfast.tensorfile.dtypes import ITEM_BYTES, StoredAs, dtype_name, torch_dtype
from holdfast.tensorfile.layout import FilePlan, TensorSpec, plan_file
from holdfast.tensorfile.notes import allocate, describe

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
    "is_zero_copy",
    "plan_file",
    "torch_dtype",
]
