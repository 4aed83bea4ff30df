"""What commands print: data on standard output, as text for people or as JSON for programs."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document for programs.")]


def emit(data: Any, text: str, as_json: bool) -> None:
    """Print `data` as one JSON document, or `text`."""
    print(json.dumps(data, indent=2) if as_json else text)
