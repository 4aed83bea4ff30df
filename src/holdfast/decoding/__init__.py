"""Sequences decoded one token at a time, whatever computes the next token's probabilities.

A `StepModel` starts from a source and steps; `greedy` and `beam` run it; an `Ensemble` is several
as one. All of these speak numpy and import no torch, so that an exported model is served without
it. `holdfast.decoding.tensors` makes step models of torch modules.
"""

from holdfast.decoding.beam import beam
from holdfast.decoding.ensemble import Combine, Ensemble
from holdfast.decoding.greedy import greedy
from holdfast.decoding.limits import LengthRule
from holdfast.decoding.protocol import Hypothesis, Marks, StepModel

__all__ = [
    "Combine",
    "Ensemble",
    "Hypothesis",
    "LengthRule",
    "Marks",
    "StepModel",
    "beam",
    "greedy",
]
