"""A small model saved over and over, as folders of ours and as original files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from holdfast import CheckpointConfig, CheckpointManager
from holdfast.values import CheckpointInfo


class Tied(nn.Module):
    """Tied weights, normalisation with its counter, an index table, a mask and a channels-last
    convolution: one of each kind of tensor."""

    positions: Tensor
    mask: Tensor

    def __init__(self, width: int = 8, vocabulary: int = 11) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.norm = nn.BatchNorm1d(width)
        self.inner = nn.Linear(width, width)
        self.conv = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.output = nn.Linear(width, vocabulary, bias=False)
        self.output.weight = self.embedding.weight
        self.register_buffer("positions", torch.arange(5))
        self.register_buffer("mask", torch.tensor([True, False, True]))

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens [n] -> logits [n, vocabulary]."""
        hidden: Tensor = self.inner(self.norm(self.embedding(tokens)))
        logits: Tensor = self.output(hidden)
        return logits


def nudge(model: nn.Module, seed: int) -> None:
    """Move every floating value a little; counters count."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in {id(t): t for t in model.state_dict().values()}.values():
            if tensor.is_floating_point():
                noise = torch.randn(tensor.shape, generator=generator) * 0.05
                tensor.add_(noise.to(tensor.dtype))
            elif tensor.dim() == 0:
                tensor.add_(1)


def save_run(
    folder: Path,
    model: nn.Module,
    count: int = 4,
    *,
    metrics: Sequence[Mapping[str, float]] | None = None,
    config: object = None,
    objects: Mapping[str, Any] | None = None,
    first_seed: int = 0,
) -> list[Path]:
    """Save `count` checkpoints of the model, moved a little before each."""
    manager = CheckpointManager(
        CheckpointConfig(str(folder), save_total_limit=None, progress=False, provenance=False),
        model,
        torch.optim.SGD(model.parameters(), lr=0.1),
    )
    for name, value in (objects or {}).items():
        manager.register(name, value)
    paths = []
    for index in range(count):
        nudge(model, first_seed + index)
        found = {"val_loss": 1.0 / (index + 1)} if metrics is None else metrics[index]
        path = manager.save(index, 10 * index, found, model_config=config)
        assert path is not None
        paths.append(path)
    return paths


def states(paths: Sequence[Path]) -> list[dict[str, Tensor]]:
    """The models in the checkpoints, read by stock safetensors."""
    from safetensors.torch import load_file

    return [load_file(path / "model.safetensors") for path in paths]


def damage(path: Path, file: str = "model.safetensors") -> None:
    """Flip a bit near the end of a file; of a model, in one of its weights."""
    target = path / file
    data = bytearray(target.read_bytes())
    data[-100] ^= 1
    target.write_bytes(data)


class Words:
    """A vocabulary as training scripts have it."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = list(words)

    def state_dict(self) -> dict[str, Any]:
        """Its words."""
        return {"words": self.words}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over words."""
        self.words = list(state["words"])


def info(step: int, *, branch: int = 0, **metrics: float) -> CheckpointInfo:
    """A checkpoint as rankings see it."""
    return CheckpointInfo(
        id=f"{branch}-{step}",
        name=f"step{step}" if not branch else f"step{step}-{branch}",
        epoch=0,
        global_step=step,
        branch=branch,
        sequence=step,
        time=0.0,
        bytes=0,
        metrics=metrics,
    )
