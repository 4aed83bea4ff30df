"""The parts of a manager, put together."""

from __future__ import annotations

from dataclasses import dataclass

from holdfast.clock import Clock, SystemClock
from holdfast.coordination import Coordination
from holdfast.engine.catalog import CatalogReader
from holdfast.errors import ConfigError
from holdfast.manager.background import Callbacks
from holdfast.manager.config import CheckpointConfig
from holdfast.manager.context import Context
from holdfast.manager.decisions import Decisions
from holdfast.manager.history import MetricsHistory
from holdfast.manager.interruptions import Interruptions
from holdfast.manager.ranks import Ranks
from holdfast.manager.restoring import Restoring
from holdfast.manager.rotation import Rotation
from holdfast.manager.saving import Saving
from holdfast.manager.stepping import Stepping
from holdfast.manager.timeline import Timeline
from holdfast.manager.writer import Writer
from holdfast.policy import Retention, Trigger, WhenImproves, default_retention
from holdfast.session import LiveObjects
from holdfast.storage.protocol import RunStorage


@dataclass(frozen=True)
class Parts:
    """Everything a manager delegates to."""

    context: Context
    rotation: Rotation
    saving: Saving
    interruptions: Interruptions
    stepping: Stepping
    restoring: Restoring


def assemble(
    run: RunStorage,
    config: CheckpointConfig,
    objects: LiveObjects,
    triggers: Trigger | None,
    retention: Retention | None,
    clock: Clock | None,
    callbacks: Callbacks = Callbacks(),  # noqa: B008 - immutable
    coordination: Coordination | None = None,
) -> Parts:
    """Build the parts of one manager; nothing is touched yet."""
    deciding = config.tracked[0]
    only_best = WhenImproves(deciding.name, deciding.mode) if config.save_best_only else None
    ranks = Ranks(
        config.checkpoint_dir, config.rank_timeout_seconds, coordination, many=config.many_ranks
    )
    if ranks.many and config.when_busy == "drop":
        raise ConfigError(
            'when_busy is "drop", which ranks cannot agree on once saves are under way',
            fix='use "wait" or "skip"',
        )
    context = Context(
        config=config,
        run=run,
        objects=objects,
        clock=clock or SystemClock(),
        retention=retention or default_retention(config.save_total_limit, config.tracked),
        history=MetricsHistory(run),
        timeline=Timeline(),
        decisions=Decisions(triggers, only_best),
        writer=Writer(run),
        catalog=CatalogReader(run),
        ranks=ranks,
    )
    interruptions = Interruptions(context)
    rotation = Rotation(context)
    saving = Saving(context, rotation, interruptions.seconds_left, callbacks)
    interruptions.attach(saving)
    stepping = Stepping(context, saving, interruptions)
    return Parts(
        context, rotation, saving, interruptions, stepping, Restoring(context, interruptions)
    )
