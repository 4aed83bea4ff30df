"""Sharded checkpoints written by ranks that are threads of this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from rank_threads import make_ranks, on_all
from torch import nn

from holdfast.coordination import Coordination
from holdfast.engine.rank_part import Agreed, Part, part_of
from holdfast.engine.rank_save import save_with_ranks
from holdfast.engine.save import SaveReceipt, SaveRequest
from holdfast.session import LiveObjects, capture_session
from holdfast.storage import LocalRun
from holdfast.values import SaveReason

ID = "ab" * 16


def session(seed: int = 0) -> LiveObjects:
    """A model with all that is special: a large weight, ties, buffers, complex values, no rows."""
    torch.manual_seed(seed)
    model = nn.Module()
    model.wide = nn.Linear(700, 600)
    model.norm = nn.BatchNorm1d(600)
    model.head = nn.Linear(600, 3)
    model.tied = nn.Linear(600, 3)
    model.tied.weight = model.head.weight
    model.register_buffer("waves", torch.randn(5, dtype=torch.complex128))
    model.register_buffer("nothing", torch.zeros(0, 4))
    model.register_buffer("count", torch.tensor(7))
    optimizer = torch.optim.AdamW([*model.head.parameters(), model.wide.weight])
    loss = model.head(model.wide(torch.randn(2, 700))).sum()
    loss.backward()
    optimizer.step()
    return LiveObjects(model, optimizer)


def save_sharded(
    folder: Path,
    size: int,
    objects: LiveObjects,
    *,
    alter: Callable[[Coordination, Part], Part] | None = None,
) -> list[SaveReceipt | Exception]:
    """Save as `size` ranks, with random states kept per rank; what came of it on each."""
    ranks = make_ranks(size)

    def save(rank: Coordination) -> SaveReceipt:
        own = frozenset({"rng"})
        components = capture_session(objects, {"epoch": 1, "global_step": 2})
        part = part_of(components, rank.rank, rank.size, own)
        part = alter(rank, part) if alter else part
        operation = rank.begin("save", timeout_seconds=20)
        agreed = Agreed(operation, rank.rank, rank.size, own, part, 20)
        request = SaveRequest(
            epoch=1,
            global_step=2,
            branch=0,
            sequence=0,
            time=1.8e9,
            reason=SaveReason("manual", "a test"),
            components=part.components,
            metrics={},
            directions={},
            id=ID,
            ranks=agreed,
        )
        return save_with_ranks(LocalRun(folder), request)

    try:
        return on_all(ranks, save)
    finally:
        for rank in ranks:
            rank.close()
