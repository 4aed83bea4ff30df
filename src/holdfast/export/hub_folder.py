"""Weights as a folder that Hugging Face tools load: config.json, safetensors in shards, a card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from holdfast import jsontext
from holdfast.export.checkpoint_file import write_safetensors, write_tensors
from holdfast.export.publishing import published
from holdfast.export.source import Weights
from holdfast.jsontext import Json
from holdfast.manifest import CONFIG_FILE

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
CARD_FILE = "README.md"
SHARD_BYTES = 5_000_000_000


def write_hub_folder(
    weights: Weights,
    target: Path,
    *,
    include_config: bool = True,
    shard_bytes: int = SHARD_BYTES,
    card: str = "",
) -> None:
    """Write the folder; it appears whole under its name, or not at all.

    shard_bytes: most bytes of tensors in a file; a larger tensor has one for itself. Raises
    NameTakenError if anything has the name, ExportError, SaveError.
    """
    with published(target) as folder:
        write_weights(weights, folder, shard_bytes=shard_bytes)
        if include_config and weights.config is not None:
            (folder / CONFIG_FILE).write_bytes(jsontext.dump(weights.config, indent=2) + b"\n")
        if card:
            (folder / CARD_FILE).write_text(card, encoding="utf-8")


def write_weights(
    weights: Weights, folder: Path, *, shard_bytes: int = SHARD_BYTES
) -> tuple[str, ...]:
    """Write one file, or shards and their index, into a folder; returns the names."""
    shards = divide(weights.unique(), shard_bytes)
    if len(shards) == 1:
        write_safetensors(weights, folder / WEIGHTS_FILE, include_config=False)
        return (WEIGHTS_FILE,)
    where: dict[str, Json] = {}
    names = [
        f"model-{index:05d}-of-{len(shards):05d}.safetensors" for index in range(1, len(shards) + 1)
    ]
    for file, shard in zip(names, shards, strict=True):
        write_tensors(shard, folder / file, {})
        where |= dict.fromkeys(shard, file)
    index: dict[str, Json] = {"metadata": {"total_size": weights.bytes}, "weight_map": where}
    (folder / INDEX_FILE).write_bytes(jsontext.dump(index, indent=2) + b"\n")
    return (*names, INDEX_FILE)


def divide(tensors: Mapping[str, Tensor], shard_bytes: int) -> list[dict[str, Tensor]]:
    """Consecutive tensors together while they fit; at least one shard."""
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > shard_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    return shards
