"""A model configuration as users hold it, made into plain values."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any, cast

from holdfast.jsontext import Json


def plain_config(config: object) -> object:
    """A dict for dataclasses, argparse namespaces and objects with `to_dict()`; else as given."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return dataclasses.asdict(config)
    if isinstance(config, argparse.Namespace):
        return vars(config)
    to_dict = getattr(config, "to_dict", None)
    return to_dict() if callable(to_dict) else config


def json_config(config: object) -> Json:
    """What goes to config.json: the configuration if strict JSON can hold it, else None.

    The tools that read config.json expect an object; anything else stays in state.json alone.
    """
    if not isinstance(config, dict):
        return None
    try:
        text = json.dumps(config, allow_nan=False)
    except (TypeError, ValueError):
        return None
    plain: Any = json.loads(text)
    # The tools it is for write numbers as keys of their tables (id2label), and read them back.
    same = plain == config or "transformers_version" in config
    return cast(Json, plain) if same else None
