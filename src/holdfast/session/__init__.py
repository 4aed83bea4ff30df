"""A training session captured and restored: the live objects as one."""

from holdfast.session.capture import capture_session
from holdfast.session.load import load_into, open_source
from holdfast.session.model_config import json_config, plain_config
from holdfast.session.objects import LiveObjects
from holdfast.session.report import Loaded, ResumeReport
from holdfast.session.resume import resume_newest, resume_training
from holdfast.session.together import Together
from holdfast.session.wanted import Only, Wanted, device_of

__all__ = [
    "LiveObjects",
    "Loaded",
    "Only",
    "ResumeReport",
    "Together",
    "Wanted",
    "capture_session",
    "device_of",
    "json_config",
    "load_into",
    "open_source",
    "plain_config",
    "resume_newest",
    "resume_training",
]
