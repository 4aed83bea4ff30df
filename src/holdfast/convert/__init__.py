"""Checkpoints into and out of other layouts."""

from holdfast.convert.consolidate import consolidate
from holdfast.convert.original import export_original, import_original
from holdfast.convert.weights_file import Consolidated

__all__ = ["Consolidated", "consolidate", "export_original", "import_original"]
