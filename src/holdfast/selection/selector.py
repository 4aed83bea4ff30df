"""`ModelSelector`: the original names, and the way from them to everything else."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from torch import nn

from holdfast.errors import ConfigError
from holdfast.policy import Mode
from holdfast.selection.averaging import average_state
from holdfast.selection.choosing import rank_paths, warn_of_excluded


class ModelSelector:
    """Choosing and averaging checkpoints; every method works on the class and on an instance.

    `holdfast.selection` has the rest: averages written as checkpoints, rankings with constraints,
    soups.
    """

    @staticmethod
    def average_checkpoints(
        checkpoints: Sequence[str | os.PathLike[str]], model: nn.Module | None = None
    ) -> dict[str, Any]:
        """The mean of the checkpoints' weights as a state dict for `model.load_state_dict`.

        checkpoints: folders of ours or original `.pt` files, in any order. model: gives the names
        the state dict must have; it is not changed. Tensors are on the CPU with the dtypes of the
        checkpoints; counters are those of the newest. See `average_state` for more choices and for
        what is raised.
        """
        return average_state(checkpoints, model)

    @staticmethod
    def select_top_k_by_metric(
        checkpoints: Sequence[str | os.PathLike[str]],
        metric_name: str = "val_loss",
        mode: str = "min",
        k: int = 5,
    ) -> list[Path]:
        """The best `k` by a metric, best first; fewer if fewer have a finite value of it.

        checkpoints: as above; of our folders only the manifest is read. Equal values: the later
        checkpoint first. Those without a finite value are left out with a HoldfastWarning.
        Raises PolicyError if none has one or the mode is neither "min" nor "max", ConfigError for
        no checkpoints or k < 1, LoadError for a checkpoint that cannot be trusted.
        """
        if type(k) is not int or k < 1:
            raise ConfigError(f"k is {k!r}; it must be a whole number of at least 1")
        ranked, excluded = rank_paths(checkpoints, metric_name, cast(Mode, mode))
        warn_of_excluded(excluded)
        return ranked[:k]
