"""A tiny Transformer trained on random tokens, replicated or sharded, the same way every time."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from holdfast.digest import digest_bytes
from holdfast.tensorfile import byte_view

WORDS, WIDTH = 50, 16


class Tiny(nn.Module):
    """Tied embeddings, dropout (so that random states matter), a buffer, an odd number of rows."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS + 1, WIDTH)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(WIDTH, 2, 33, 0.1, batch_first=True) for _ in range(2)
        )
        self.head = nn.Linear(WIDTH, WORDS + 1, bias=False)
        self.head.weight = self.words.weight
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, tokens: Tensor) -> Tensor:
        """Scores per token and word."""
        hidden = self.words(tokens)
        for layer in self.layers:
            hidden = layer(hidden)
        scores: Tensor = self.head(hidden)
        return scores


def seed(rank: int) -> None:
    """Other random streams on every rank."""
    torch.manual_seed(100 + rank)
    random.seed(rank)
    np.random.seed(rank)


def build(kind: str) -> tuple[nn.Module, torch.optim.Optimizer, Any]:
    """Model, optimizer and schedule: "ddp", "fsdp" (FSDP2), "tp", "hsdp" or "plain"."""
    torch.manual_seed(0)
    model: nn.Module = Tiny()
    if kind == "ddp":
        model = DistributedDataParallel(model)
    elif kind in ("fsdp", "hsdp", "fsdp+tp"):
        shard(model, kind)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 4], 0.5)
    return model, optimizer, schedule


def shard(model: Any, kind: str) -> None:
    """Apply FSDP2, on a flat mesh, with replicas, or inside tensor parallel."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        RowwiseParallel,
        parallelize_module,
    )

    size = dist.get_world_size()
    if kind == "fsdp":
        mesh = init_device_mesh("cpu", (size,))
    elif kind == "hsdp":
        mesh = init_device_mesh("cpu", (2, size // 2), mesh_dim_names=("copy", "shard"))
    else:
        both = init_device_mesh("cpu", (size // 2, 2), mesh_dim_names=("shard", "tp"))
        mesh = both["shard"]
        for layer in model.layers:
            plan = {"linear1": ColwiseParallel(), "linear2": RowwiseParallel()}
            parallelize_module(layer, both["tp"], plan)
    for layer in model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)


def train(model: nn.Module, optimizer: Any, schedule: Any, steps: int) -> None:
    """Steps on tokens drawn from this rank's own stream."""
    model.train()
    for _ in range(steps):
        tokens = torch.randint(0, WORDS, (4, 6))
        scores = model(tokens)
        loss = F.cross_entropy(scores.flatten(0, 1), tokens.roll(1, 1).flatten())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()


def full(value: Any) -> Any:
    """DTensors gathered, for comparing."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def fingerprints(model: nn.Module, optimizer: Any) -> dict[str, str]:
    """Digests of every weight and every optimizer state by FQN, gathered."""
    found: dict[str, str] = {}
    names = {p: n.removeprefix("module.") for n, p in model.named_parameters()}
    for name, value in model.state_dict().items():
        found[name.removeprefix("module.")] = _digest(value)
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            found[f"state.{names[parameter]}.{key}"] = _digest(value)
    return found


def _digest(value: Any) -> str:
    tensor = full(value).detach().contiguous()
    return f"{tensor.dtype} {list(tensor.shape)} {digest_bytes(byte_view(tensor))}"
