"""A small real training session: what the attacks are aimed at, and how to tell that it changed."""

from __future__ import annotations

import random
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from holdfast import CheckpointConfig, CheckpointManager

torch.set_num_threads(1)

OLDER, NEWER = "checkpoint_epoch0001_step00000001", "checkpoint_epoch0002_step00000002"


class Net(nn.Module):
    """An embedding tied to the output, and a norm with integer and floating buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.norm = nn.BatchNorm1d(4)
        self.out = nn.Linear(4, 7, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits [batch, 7] of tokens [batch]."""
        result: Tensor = self.out(self.norm(self.embed(tokens)))
        return result


class Counter:
    """A registered object with a tensor and a number."""

    def __init__(self) -> None:
        self.seen = torch.zeros(3, dtype=torch.int64)
        self.total = 0

    def state_dict(self) -> dict[str, Any]:
        """The state."""
        return {"seen": self.seen, "total": self.total}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the state back, if it is one."""
        if type(state["total"]) is not int or state["seen"].shape != (3,):
            raise ValueError("not a counter's state")
        self.seen, self.total = state["seen"], state["total"]


@dataclass
class Session:
    """Live objects and the manager over them."""

    model: Net
    optimizer: torch.optim.AdamW
    scheduler: torch.optim.lr_scheduler.MultiStepLR
    counter: Counter
    manager: CheckpointManager

    def step(self) -> None:
        """One training step."""
        loss = self.model(torch.randint(0, 7, (5,))).logsumexp(1).sum()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        self.counter.total += 1
        self.counter.seen += self.counter.total

    def fingerprint(self) -> dict[str, str]:
        """A digest of every part that a load may change, by component."""
        return {
            "model": _digest(self.model.state_dict()),
            "optimizer": _digest(self.optimizer.state_dict()),
            "scheduler": _digest(self.scheduler.state_dict()),
            "counter": _digest(self.counter.state_dict()),
            "rng": _digest(
                [
                    repr(random.getstate()[1]),
                    random.getstate()[2],
                    np.random.get_state(legacy=False),
                    torch.get_rng_state(),
                ]
            ),
        }


def session(run: Path, seed: int) -> Session:
    """A session that has made one step of its own, its random streams seeded."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5, 5])
    config = CheckpointConfig(
        str(run), save_total_limit=None, progress=False, provenance=False, track={"bleu": "max"}
    )
    counter = Counter()
    manager = CheckpointManager(config, model, optimizer, scheduler)
    manager.register("counter", counter)
    made = Session(model, optimizer, scheduler, counter, manager)
    made.step()
    return made


def extra_state() -> dict[str, Any]:
    """Extra state with tensors of its own and values of many tags."""
    return {
        "mask": torch.arange(6.0).view(2, 3),
        "wide": torch.zeros(2, 3, 2, 2).contiguous(memory_format=torch.channels_last),
        "wave": torch.ones(2, dtype=torch.complex128),
        "array": np.arange(5, dtype="<i4"),
        "large": np.arange(3000.0),
        "order": OrderedDict([(3, "c"), (1, ("a", 2.5))]),
        "recent": deque([1, 2], maxlen=4),
        "names": {"x", "y"},
        "size": torch.Size([2, 3]),
        "huge": 1 << 70,
        "nothing": float("nan"),
    }


def save_run(run: Path) -> dict[str, dict[str, str]]:
    """Two checkpoints of a run; the fingerprint of the session at each, by folder name."""
    made = session(run, 1)
    found = {}
    for epoch, name in enumerate((OLDER, NEWER), start=1):
        metrics = {"val_loss": 3.0 - epoch, "bleu": float(epoch)}
        path = made.manager.save(epoch, epoch, metrics, {"width": 4}, extra_state())
        assert path == run / name
        found[name] = made.fingerprint()
        made.step()
    return found


def _digest(value: object) -> str:
    hasher = blake2b(digest_size=12)
    _feed(hasher.update, value)
    return hasher.hexdigest()


def _feed(update: Any, value: object) -> None:
    if isinstance(value, Tensor):
        update(f"{value.dtype}{tuple(value.shape)}".encode())
        update(value.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    elif isinstance(value, np.ndarray):
        update(f"{value.dtype}{value.shape}".encode() + value.tobytes())
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _feed(update, key)
            _feed(update, item)
    elif isinstance(value, (list, tuple)):
        update(f"[{len(value)}".encode())
        for item in value:
            _feed(update, item)
    else:
        # Decimal text of long integers is refused by Python itself.
        update((hex(value) if isinstance(value, int) else repr(value)).encode())
