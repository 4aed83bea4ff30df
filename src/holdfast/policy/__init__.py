"""Policies: which checkpoint is better, when to save, what to keep, when to stop.

All of it is pure: records and a given time in, a decision with its reason out. Nothing here knows
a tensor, a clock or a folder.
"""

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

__all__ = [
    "KeepAll",
    "KeepAnyOf",
    "KeepAtMostBytes",
    "KeepBest",
    "KeepEverySeconds",
    "KeepEverySteps",
    "KeepLast",
    "KeepPinned",
    "KeepUnscored",
    "KeepWithin",
    "Metric",
    "Mode",
    "PrunePlan",
    "Retention",
    "best",
    "default_retention",
    "plan_prune",
    "rank",
    "top_k",
]
