"""Averages of a model's weights while it trains: every decay, never lost, never mixed up.

`EMAModel` keeps one or several averages, each by a schedule of `holdfast.decay`, swaps them in for
evaluation, and is saved and resumed bit for bit when registered with a `CheckpointManager`.
"""

from holdfast.ema.model import EMAModel
from holdfast.ema.stored import read_record

__all__ = ["EMAModel", "read_record"]
