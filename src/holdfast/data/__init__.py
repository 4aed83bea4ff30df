"""Batch order that can be stopped anywhere and continued bit for bit."""

from holdfast.data.adopt import resumable
from holdfast.data.fingerprint import OrderFacts, OrderFingerprint, OrderMismatch
from holdfast.data.loader import ResumableLoader
from holdfast.data.sampler import ResumableSampler

__all__ = [
    "OrderFacts",
    "OrderFingerprint",
    "OrderMismatch",
    "ResumableLoader",
    "ResumableSampler",
    "resumable",
]
