"""Tensors as safetensors files: layout, byte views, notes and strict header reading. No places."""
