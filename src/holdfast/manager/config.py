"""What a user decides once per run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast, get_args

from holdfast.engine.background import WhenBusy
from holdfast.errors import ConfigError
from holdfast.policy import Metric, Mode

_METRIC_NAME = re.compile(r"[^\s/\\\x00-\x1f][^/\\\x00-\x1f]{0,99}")


@dataclass
class CheckpointConfig:
    """Options of a `CheckpointManager`; the first seven are those of the original class.

    checkpoint_dir: the run folder. save_total_limit: how many recent checkpoints rotation leaves;
    the best of each tracked metric, the newest and the one resumed from always stay; None keeps
    all.
    save_best_only: save only when `metric_name` improves. metric_name, metric_mode: the metric that
    decides "best" and its direction, "min" or "max". save_optimizer: also save optimizer,
    scheduler and scaler. save_rng_state: also save every random state.
    save_on_exception: when an exception leaves `with manager:`, save the state as it is, marked so.
    on_save_error: "raise", or "warn": a save that fails is warned of and counted, training goes on.
    save_retries: how often a save is repeated as a whole after an input/output error that can pass.
    on_disk_full: "fail", "prune" (give up by retention what this save would make superfluous, then
    try once more) or "wait" (look again for up to `disk_full_wait_seconds`).
    track: further metrics with a best of their own, name -> "min" or "max".
    progress: show progress of saves and loads that take over a second, on a terminal.
    provenance: record host, command line and git state in the manifest.
    async_save: `save` copies the state and returns; a thread of its own writes and commits it.
    async_overlap: parameters and optimizer state may still be copied while the next forward and
    backward run; the optimizer's step waits for them. max_pending: how many saves may be under way,
    each with a copy of the state in memory. when_busy: if that many are, "wait" for one, "skip" the
    new save, or "drop" the oldest that was not begun. close_timeout_seconds: how long `close` waits
    for what is under way. link_unchanged: tensor files equal to those of an earlier checkpoint are
    hard-linked and not written again. split_frozen_bytes: frozen parameters of a module that have
    at least so many bytes, and a quarter of all, get a file of their own, so that it can be linked;
    the module is then stored as transformers shards models, with an index. None for never.
    many_ranks: where torch.distributed is in use, all its ranks save and load one checkpoint
    together, and all must make the same calls; False for a manager of one rank's own.
    rank_timeout_seconds: how long one rank may be behind the others before a save or load fails.

    Raises ConfigError for values that cannot work.
    """

    checkpoint_dir: str = "checkpoints"
    save_total_limit: int | None = 5
    save_best_only: bool = False
    metric_name: str = "val_loss"
    metric_mode: str = "min"
    save_optimizer: bool = True
    save_rng_state: bool = True
    track: Mapping[str, str] = field(default_factory=dict)
    progress: bool = True
    provenance: bool = True
    save_on_exception: bool = False
    on_save_error: str = "raise"
    save_retries: int = 3
    on_disk_full: str = "fail"
    disk_full_wait_seconds: float = 600.0
    async_save: bool = False
    async_overlap: bool = True
    max_pending: int = 1
    when_busy: WhenBusy = "wait"
    close_timeout_seconds: float = 3600.0
    link_unchanged: bool = True
    split_frozen_bytes: int | None = 64 << 20
    many_ranks: bool = True
    rank_timeout_seconds: float = 600.0

    def __post_init__(self) -> None:
        limit = self.save_total_limit
        if limit is not None and (type(limit) is not int or limit < 1):
            raise ConfigError(
                f"save_total_limit is {limit!r}; it must be at least 1",
                fix="use None to keep every checkpoint",
            )
        self._check_faults()
        self._check_background()
        for name, mode in self.directions.items():
            if mode not in ("min", "max"):
                raise ConfigError(
                    f"The direction of the metric {name!r} is {mode!r}",
                    fix='use "min" if lower is better, "max" if higher is better',
                )
            if _METRIC_NAME.fullmatch(name) is None:
                raise ConfigError(
                    f"{name!r} cannot be the name of a tracked metric",
                    fix="use up to 100 characters without slashes or control characters",
                )

    def _check_background(self) -> None:
        if type(self.max_pending) is not int or self.max_pending < 1:
            raise ConfigError(
                f"max_pending is {self.max_pending!r}", fix="use a whole number of at least 1"
            )
        if self.when_busy not in get_args(WhenBusy):
            raise ConfigError(
                f"when_busy is {self.when_busy!r}", fix='use "wait", "skip" or "drop"'
            )
        if self.when_busy == "drop" and self.max_pending < 2:
            raise ConfigError(
                'when_busy is "drop" with room for one pending save, which is always begun',
                fix="set max_pending to 2: one being written and one that can be dropped",
            )
        for option in ("close_timeout_seconds", "rank_timeout_seconds"):
            if not getattr(self, option) > 0:
                raise ConfigError(
                    f"{option} is {getattr(self, option)!r}", fix="use a number of seconds"
                )

    def _check_faults(self) -> None:
        for option, choices in (
            ("on_save_error", ("raise", "warn")),
            ("on_disk_full", ("fail", "prune", "wait")),
        ):
            if getattr(self, option) not in choices:
                listed = " or ".join(f'"{choice}"' for choice in choices)
                raise ConfigError(f"{option} is {getattr(self, option)!r}", fix=f"use {listed}")
        if type(self.save_retries) is not int or self.save_retries < 0:
            raise ConfigError(
                f"save_retries is {self.save_retries!r}", fix="use a whole number, 0 for none"
            )
        if not self.disk_full_wait_seconds >= 0:
            raise ConfigError(
                f"disk_full_wait_seconds is {self.disk_full_wait_seconds!r}",
                fix="use a number of seconds",
            )

    @property
    def tracked(self) -> tuple[Metric, ...]:
        """Every tracked metric, the deciding one first."""
        return tuple(Metric(name, cast(Mode, mode)) for name, mode in self.directions.items())

    @property
    def directions(self) -> dict[str, str]:
        """Direction by name of every tracked metric, the deciding one first."""
        return {self.metric_name: self.metric_mode} | {
            name: mode for name, mode in self.track.items() if name != self.metric_name
        }

    def tracked_metric(self, name: str) -> Metric:
        """The tracked metric of this name. Raises ConfigError if it is not tracked."""
        for metric in self.tracked:
            if metric.name == name:
                return metric
        raise ConfigError(
            f"The metric {name!r} is not tracked (tracked: {', '.join(self.directions)})",
            fix=f"add it to the configuration: track={{{name!r}: 'max'}} or 'min'",
        )
