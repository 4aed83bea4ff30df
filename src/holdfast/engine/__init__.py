"""Joins tensors with places: writing, reading, verifying and listing checkpoints."""
