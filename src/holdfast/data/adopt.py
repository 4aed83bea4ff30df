"""Making a DataLoader that somebody built resumable."""

from __future__ import annotations

from typing import Any

from torch.utils.data import DataLoader, RandomSampler, SequentialSampler

from holdfast.data.loader import ResumableLoader
from holdfast.errors import ConfigError


def resumable(loader: DataLoader[Any], *, seed: int = 0) -> ResumableLoader:
    """Return a ResumableLoader that does what `loader` does, in an order that can be continued.

    A shuffling loader stays shuffling, in the order of `seed` instead of the global random
    stream; one with a ResumableSampler or a sampler with `set_epoch` keeps it. `loader` itself is
    left alone and not used.

    Raises ConfigError if its dataset, sampler or options cannot be continued mid-epoch.
    """
    if not getattr(loader, "in_order", True):
        raise ConfigError(
            "A loader with in_order=False hands out batches in the order of their making",
            fix="leave in_order out: an order that depends on timing cannot be continued",
        )
    given: dict[str, Any] = {
        "multiprocessing_context": loader.multiprocessing_context,
        "num_workers": loader.num_workers,
        "persistent_workers": loader.persistent_workers,
        "pin_memory": loader.pin_memory,
        "prefetch_factor": loader.prefetch_factor,
        "timeout": loader.timeout,
        "worker_init_fn": loader.worker_init_fn,
    }
    batches = loader.batch_sampler
    if loader.batch_size is None and batches is not None:
        order: dict[str, Any] = {"batch_sampler": batches}
    else:
        order = {"batch_size": loader.batch_size, "drop_last": loader.drop_last}
        order |= _order(loader.sampler)
    return ResumableLoader(
        loader.dataset, seed=seed, collate_fn=loader.collate_fn, **order, **given
    )


def _order(sampler: Any) -> dict[str, Any]:
    if type(sampler) is SequentialSampler:
        return {"shuffle": False}
    if type(sampler) is RandomSampler and not sampler.replacement and sampler._num_samples is None:
        return {"shuffle": True}
    return {"sampler": sampler}
