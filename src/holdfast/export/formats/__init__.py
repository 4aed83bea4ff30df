"""The formats a graph can be written in, by name."""

from __future__ import annotations

from holdfast.errors import ConfigError
from holdfast.export.formats.aoti import CompiledFormat
from holdfast.export.formats.artifact import Artifact, Format, FormatOptions, Reloaded
from holdfast.export.formats.onnx import OnnxFormat
from holdfast.export.formats.program import ProgramFormat
from holdfast.export.formats.torchscript import TorchScriptFormat

FORMATS: dict[str, Format] = {
    "program": ProgramFormat(),
    "onnx": OnnxFormat(),
    "aoti": CompiledFormat(),
    "torchscript-trace": TorchScriptFormat("trace"),
    "torchscript-script": TorchScriptFormat("script"),
}

_ALSO = {"pt2": "program", "torchscript": "torchscript-trace", "script": "torchscript-script"}

__all__ = ["FORMATS", "Artifact", "Format", "FormatOptions", "Reloaded", "find_format"]


def find_format(name: str) -> Format:
    """The format of this name. Raises ConfigError listing those there are."""
    found = FORMATS.get(_ALSO.get(name, name))
    if found is None:
        raise ConfigError(f"There is no format {name!r}", fix=f"use one of {', '.join(FORMATS)}")
    return found
