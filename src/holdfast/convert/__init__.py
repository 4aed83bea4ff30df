"""Checkpoints into and out of other layouts."""

from holdfast.convert.consolidate import Consolidated, consolidate
from holdfast.convert.original import export_original, import_original

__all__ = ["Consolidated", "consolidate", "export_original", "import_original"]
