"""What weighs how much in an average of weights over time: schedules, profiles, plans. No torch.

A `Schedule` says how much of an average a step keeps. `combine_profiles` says which combination of
stored power-function averages comes nearest to one of another width, and `plan_snapshots` how many
of them that takes.
"""

from holdfast.decay.clock import Clock, Unit
from holdfast.decay.combine import Combination, combine_profiles
from holdfast.decay.planner import SnapshotPlan, plan_snapshots, snapshot_errors
from holdfast.decay.power import Profile, gamma_of_sigma, sigma_of_gamma
from holdfast.decay.records import read_schedule, schedule_record
from holdfast.decay.schedules import ConstantDecay, HalfLife, PowerFunction, Schedule, SegmentMean
from holdfast.decay.warmup import CountRatio, InverseGamma, Warmup

__all__ = [
    "Clock",
    "Combination",
    "ConstantDecay",
    "CountRatio",
    "HalfLife",
    "InverseGamma",
    "PowerFunction",
    "Profile",
    "Schedule",
    "SegmentMean",
    "SnapshotPlan",
    "Unit",
    "Warmup",
    "combine_profiles",
    "gamma_of_sigma",
    "plan_snapshots",
    "read_schedule",
    "schedule_record",
    "sigma_of_gamma",
    "snapshot_errors",
]
