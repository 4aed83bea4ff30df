"""Checkpoints into and out of other layouts."""

from holdfast.convert.original import export_original, import_original

__all__ = ["export_original", "import_original"]
