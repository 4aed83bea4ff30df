"""Arithmetic on weights: exact means of tensors, rules by kind, normalisation statistics.

Tensors in, tensors out: nothing here knows of files or places.
"""

from holdfast.weights.batchnorm import batchnorm_names, recalibrate_batchnorm
from holdfast.weights.decode import real_dtype
from holdfast.weights.mean import NotFiniteIn, mean_bytes, mean_of
from holdfast.weights.proportions import proportions
from holdfast.weights.rules import Rule, check_rules, chosen_rule, rule_for
from holdfast.weights.running import RunningMean

__all__ = [
    "NotFiniteIn",
    "Rule",
    "RunningMean",
    "batchnorm_names",
    "check_rules",
    "chosen_rule",
    "mean_bytes",
    "mean_of",
    "proportions",
    "real_dtype",
    "recalibrate_batchnorm",
    "rule_for",
]
