"""Rehearsing a resume before it is needed.

check_resume("train:build", steps=3) -> Certificate
"""

from holdfast.rehearsal.check import check_resume
from holdfast.rehearsal.launch import RehearsalError
from holdfast.rehearsal.records import Certificate, Finding

__all__ = ["Certificate", "Finding", "RehearsalError", "check_resume"]
