"""Policies: which checkpoint is better, when to save, what to keep, when to stop.

All of it is pure: records and a given time in, a decision with its reason out. Nothing here knows
a tensor, a clock or a folder.
"""

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
