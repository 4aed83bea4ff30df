"""Names of files and folders. Nothing else in holdfast spells one."""

from __future__ import annotations

import re

MANIFEST_FILE = "manifest.json"
STATE_FILE = "state.json"
CONFIG_FILE = "config.json"
HISTORY_FILE = "history.jsonl"
EVENTS_FILE = "events.jsonl"
OBJECTS_FILE = "state.safetensors"
REQUEST_FILE = "save-now"
QUARANTINE_FILE = "quarantine.txt"

_CHECKPOINT = re.compile(r"checkpoint_[A-Za-z0-9][A-Za-z0-9._-]{0,200}")


def checkpoint_name(epoch: int, global_step: int, attempt: int = 1) -> str:
    """The folder name for people; sorts by epoch and step. `attempt` counts namesakes from 1."""
    name = f"checkpoint_epoch{epoch:04d}_step{global_step:08d}"
    return name if attempt == 1 else f"{name}_{attempt}"


def quarantine_name(name: str, attempt: int = 1) -> str:
    """The name of a damaged checkpoint set aside; no checkpoint is ever found under it."""
    return f"damaged-{name}" if attempt == 1 else f"damaged-{name}_{attempt}"


def is_checkpoint_name(name: str) -> bool:
    """Whether a folder of this name can be a committed checkpoint of ours."""
    return _CHECKPOINT.fullmatch(name) is not None
