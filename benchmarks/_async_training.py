"""The training loops that `async_loop` saves from."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

_WIDTH = 768
_SYNTHETIC_TENSOR_ELEMENTS = 16 << 20


class Net(nn.Module):
    """A decoder-like Transformer."""

    def __init__(self, layers: int, width: int, vocabulary: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        layer = nn.TransformerEncoderLayer(width, 12, 4 * width, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits."""
        logits: Tensor = self.head(self.layers(self.embed(tokens)))
        return logits


class Training:
    """A loop under test: its state, and a step of it.

    guard: what a way of saving wants around the optimizer's step; entering it may wait.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.guard: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext

    def step(self) -> float:
        """One step; returns the seconds that entering the guard took."""
        self.work()
        began = time.perf_counter()
        with self.guard():
            waited = time.perf_counter() - began
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return waited

    def work(self) -> None:
        """Everything before the optimizer's step."""
        raise RuntimeError("a loop says what its work is")

    def state(self) -> dict[str, Any]:
        """What every way saves."""
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def tensors(self) -> list[Tensor]:
        """All tensors of the state."""
        moments = [v for s in self.optimizer.state.values() for v in s.values()]
        return [*(p.detach() for p in self.model.parameters()), *moments]

    @property
    def nbytes(self) -> int:
        """Bytes of tensors in the state."""
        return sum(tensor.nbytes for tensor in self.tensors())


class TransformerTraining(Training):
    """A Transformer and AdamW: the processor is never idle."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(torch.device(options.device))
        torch.manual_seed(0)
        self.model = Net(options.layers, _WIDTH, options.vocabulary).to(self.device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=True)
        shape = (options.batch, 64)
        self._tokens = torch.randint(options.vocabulary, shape, device=self.device)
        self.step()

    def work(self) -> None:
        """Forward and backward."""
        logits = self.model(self._tokens)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), self._tokens.flatten())
        loss.backward()  # type: ignore[no-untyped-call]


class SyntheticTraining(Training):
    """Large tensors whose step takes a given time on some other device; the host only waits.

    Stands for a large model: the optimizer's step still writes every parameter and moment in place.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(torch.device(options.device))
        self._seconds = options.step_seconds
        count = max(1, round(options.synthetic * 1e9 / 12 / _SYNTHETIC_TENSOR_ELEMENTS))
        weights = [torch.ones(_SYNTHETIC_TENSOR_ELEMENTS, device=self.device) for _ in range(count)]
        self.model = nn.Module()
        for number, weight in enumerate(weights):
            self.model.register_parameter(f"layer{number}", nn.Parameter(weight))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=True)
        self.step()

    def work(self) -> None:
        """Nothing the host has to do."""
        time.sleep(self._seconds)
        for parameter in self.model.parameters():
            parameter.grad = parameter.detach()


def new_training(options: argparse.Namespace) -> Training:
    """The loop that the options ask for, warmed up until the optimizer has its state."""
    return SyntheticTraining(options) if options.synthetic else TransformerTraining(options)
