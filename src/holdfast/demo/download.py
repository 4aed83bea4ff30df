"""Fetching a file once into the user's cache."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import IO, Any, cast
from urllib.request import urlopen

from holdfast.errors import ConfigError

BYTES_MAX = 2 << 30
_BLOCK_BYTES = 1 << 20
_TIMEOUT_SECONDS = 60


def user_cache() -> Path:
    """The folder for files that can be fetched again: the platform's cache folder."""
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "holdfast"


def fetch(url: str, path: Path) -> Path:
    """Return `path`, downloading `url` to it first if it does not exist.

    The file appears whole or not at all. Raises ConfigError if the download fails, ends early or
    is over 2 GiB.
    """
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    print(f"Downloading {url}", flush=True)
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(handle, "wb") as file, urlopen(url, timeout=_TIMEOUT_SECONDS) as response:
            _copy(response, file)
        os.replace(part, path)
    except (OSError, ValueError) as error:
        Path(part).unlink(missing_ok=True)
        raise ConfigError(
            f"The download failed: {error}",
            where=url,
            fix="check the network, or leave --data out: the embedded corpus needs none",
        ) from error
    return path


def _copy(response: Any, file: IO[bytes]) -> None:
    announced = response.headers.get("Content-Length")
    received = 0
    while block := cast(bytes, response.read(_BLOCK_BYTES)):
        received += len(block)
        if received > BYTES_MAX:
            raise ValueError(f"more than {BYTES_MAX} bytes came")
        file.write(block)
    if announced is not None and received != int(announced):
        raise ValueError(f"{received} of {announced} bytes came")
