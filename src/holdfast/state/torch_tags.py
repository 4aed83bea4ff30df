"""How torch's small value types cross the codec. Tensors do not: they go by reference."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from holdfast.codec import Codec, Tag
from holdfast.errors import FormatError


@cache
def torch_codec() -> Codec:
    """Return the standard codec with torch's dtype, device, Size, layout and memory format."""
    return Codec.standard().extended(
        _named("torch.dtype", torch.dtype),
        _named("torch.layout", torch.layout),
        _named("torch.memory_format", torch.memory_format),
        Tag("torch.device", torch.device, lambda device, _: str(device), _decode_device),
        Tag("torch.Size", torch.Size, lambda size, _: list(size), _decode_size),
    )


def _named(tag: str, kind: type) -> Tag:
    """A tag for a type whose instances are constants of the torch module, written by name."""
    constants = {str(value): value for value in vars(torch).values() if type(value) is kind}

    def decode(tree: Any, _: Any) -> Any:
        try:
            return constants[tree]
        except (KeyError, TypeError):
            raise FormatError(
                f"{tree!r} is no {tag} of torch {torch.__version__}",
                fix="read it with the torch version that wrote it",
            ) from None

    return Tag(tag, kind, lambda value, _: str(value), decode)


def _decode_device(tree: Any, _: Any) -> torch.device:
    try:
        return torch.device(tree)
    except (RuntimeError, TypeError) as error:
        raise FormatError(f"{tree!r} is no torch device: {error}") from None


def _decode_size(tree: Any, _: Any) -> torch.Size:
    if not isinstance(tree, list) or not all(type(size) is int and size >= 0 for size in tree):
        raise FormatError(f"{tree!r} is no torch.Size: a list of sizes was expected")
    return torch.Size(tree)
