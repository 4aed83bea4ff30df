"""Whether the trees of a checkpoint can be read back, found out without the objects they are of.

Their bytes are proven by digests; what that leaves open is whether this holdfast knows every tag in
them, and whether every tensor they refer to is stored. Without torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache

from holdfast.codec import Codec, Tag
from holdfast.engine.state_file import ComponentEntry, TensorFileEntry
from holdfast.errors import FormatError
from holdfast.jsontext import Json

# The tags of holdfast.state.torch_codec, which cannot be asked without torch.
TORCH_TAGS = ("torch.dtype", "torch.layout", "torch.memory_format", "torch.device", "torch.Size")


def unreadable_trees(
    components: Iterable[ComponentEntry], files: Mapping[str, TensorFileEntry]
) -> list[str]:
    """One sentence for each component whose tree cannot be read back.

    files: every tensor file of the checkpoint.
    """
    found: list[str] = []
    for entry in components:
        stored = {name for file in entry.files if file in files for name in files[file].tensors}

        def resolve(name: str, path: str, stored: set[str] = stored) -> object:
            if name not in stored:
                raise FormatError(f"It refers to a tensor {name[:200]!r} not stored", where=path)
            return None

        try:
            _codec().decode(entry.tree, where=entry.name, resolve=resolve)
        except FormatError as error:
            place = f" at {error.where}" if error.where else ""
            found.append(f"the tree of {entry.name} cannot be read{place}: {error.what}")
    return found


@cache
def _codec() -> Codec:
    """The standard codec, taking torch's values for what they are written as."""
    return Codec.standard().extended(*map(_stand_in, TORCH_TAGS))


def _stand_in(name: str) -> Tag:
    kind = type(name.replace(".", "_"), (), {})

    def encode(value: object, _: object) -> Json:
        raise TypeError("it stands for a value of torch that is only read")

    return Tag(name, kind, encode, _name_or_sizes)


def _name_or_sizes(payload: Json, _: object) -> object:
    sizes = isinstance(payload, list) and all(type(size) is int for size in payload)
    if not sizes and not isinstance(payload, str):
        raise ValueError("expected a name or a list of sizes")
    return None
