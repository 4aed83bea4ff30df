"""Policies: which checkpoint is better, when to save, what to keep, when to stop.

All of it is pure: records and a given time in, a decision with its reason out. Nothing here knows
a tensor, a clock or a folder.

Names are resolved when first used: to rank, the command line needs neither triggers nor stopping.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdfast.policy.early_stopping import (
        EarlyStopper,
        EarlyStopping,
        Plateau,
        Progress,
        StopDecision,
    )
    from holdfast.policy.event_triggers import AtExit, OnRequest
    from holdfast.policy.metric_triggers import WhenAbove, WhenBelow, WhenImproves
    from holdfast.policy.moment import Measurement, Moment, measured
    from holdfast.policy.prune import PrunePlan, default_retention, plan_prune
    from holdfast.policy.ranking import Metric, Mode, best, rank, top_k
    from holdfast.policy.retention import KeepAll, KeepAnyOf, KeepAtMostBytes, Retention
    from holdfast.policy.retention_rules import (
        KeepBest,
        KeepEverySeconds,
        KeepEverySteps,
        KeepLast,
        KeepPinned,
        KeepUnscored,
        KeepWithin,
    )
    from holdfast.policy.retention_text import parse_retention
    from holdfast.policy.schedule_triggers import AtSteps, EveryEpochs, EverySeconds, EverySteps
    from holdfast.policy.snapshot_retention import KeepEMASnapshots
    from holdfast.policy.trigger_state import remember_failure, remember_save
    from holdfast.policy.triggers import AllOf, AnyOf, Decision, Trigger

_HOMES = {
    "AllOf": "triggers",
    "AnyOf": "triggers",
    "AtExit": "event_triggers",
    "AtSteps": "schedule_triggers",
    "Decision": "triggers",
    "EarlyStopper": "early_stopping",
    "EarlyStopping": "early_stopping",
    "EveryEpochs": "schedule_triggers",
    "EverySeconds": "schedule_triggers",
    "EverySteps": "schedule_triggers",
    "KeepAll": "retention",
    "KeepAnyOf": "retention",
    "KeepAtMostBytes": "retention",
    "KeepBest": "retention_rules",
    "KeepEMASnapshots": "snapshot_retention",
    "KeepEverySeconds": "retention_rules",
    "KeepEverySteps": "retention_rules",
    "KeepLast": "retention_rules",
    "KeepPinned": "retention_rules",
    "KeepUnscored": "retention_rules",
    "KeepWithin": "retention_rules",
    "Measurement": "moment",
    "Metric": "ranking",
    "Mode": "ranking",
    "Moment": "moment",
    "OnRequest": "event_triggers",
    "Plateau": "early_stopping",
    "Progress": "early_stopping",
    "PrunePlan": "prune",
    "Retention": "retention",
    "StopDecision": "early_stopping",
    "Trigger": "triggers",
    "WhenAbove": "metric_triggers",
    "WhenBelow": "metric_triggers",
    "WhenImproves": "metric_triggers",
    "best": "ranking",
    "default_retention": "prune",
    "measured": "moment",
    "parse_retention": "retention_text",
    "plan_prune": "prune",
    "rank": "ranking",
    "remember_failure": "trigger_state",
    "remember_save": "trigger_state",
    "top_k": "ranking",
}

__all__ = [
    "AllOf",
    "AnyOf",
    "AtExit",
    "AtSteps",
    "Decision",
    "EarlyStopper",
    "EarlyStopping",
    "EveryEpochs",
    "EverySeconds",
    "EverySteps",
    "KeepAll",
    "KeepAnyOf",
    "KeepAtMostBytes",
    "KeepBest",
    "KeepEMASnapshots",
    "KeepEverySeconds",
    "KeepEverySteps",
    "KeepLast",
    "KeepPinned",
    "KeepUnscored",
    "KeepWithin",
    "Measurement",
    "Metric",
    "Mode",
    "Moment",
    "OnRequest",
    "Plateau",
    "Progress",
    "PrunePlan",
    "Retention",
    "StopDecision",
    "Trigger",
    "WhenAbove",
    "WhenBelow",
    "WhenImproves",
    "best",
    "default_retention",
    "measured",
    "parse_retention",
    "plan_prune",
    "rank",
    "remember_failure",
    "remember_save",
    "top_k",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
