"""Reading checkpoints in the original `.pt` layout, with restricted unpickling only.

torch's `weights_only` unpickler is the one that reads; a few harmless NumPy constructors are
allowed beside its own, since random states and metrics hold NumPy values. It is treated as one
wall of two: before it, the archive must be a plain zip of stored members with sound checksums
(no bombs, no damage: torch itself checks neither); after it, every tensor must be dense and
inside its storage. There is no fall-back to ordinary unpickling.
"""

from __future__ import annotations

import collections
import pickletools
import re
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from holdfast.errors import CheckpointNotFoundError, DamagedError, FormatError

_MEMBERS_MAX = 200_000
_PICKLE_BYTES_MAX = 256 << 20
_DEPTH_MAX = 64
_VALUES_MAX = 5_000_000


def read_original(path: Path, *, numpy_values: bool = True, mapped: bool = False) -> dict[str, Any]:
    """Read a `.pt` file whose top level is a dict, on the CPU.

    numpy_values: also allow NumPy scalars and arrays; without, what passes here passes
    `torch.load(weights_only=True)` anywhere. mapped: leave the tensors' data in the file until it
    is looked at; the file must then not be cut short while they are in use.
    Raises CheckpointNotFoundError, DamagedError for a damaged archive and FormatError for anything
    that plain data and dense tensors do not need.
    """
    where = str(path)
    if not path.is_file():
        raise CheckpointNotFoundError("There is no such file", where=where)
    content = read_archive(path, where, numpy_values=numpy_values, mapped=mapped)
    if not isinstance(content, dict):
        raise FormatError(
            f"Its top level is a {type(content).__name__}, not a dict of components", where=where
        )
    return content


def read_archive(
    source: Path | BinaryIO, where: str, *, numpy_values: bool = True, mapped: bool = False
) -> object:
    """Read what `torch.save` wrote to a file, or to a stream from its beginning.

    As `read_original`, whatever the top level is.
    """
    _check_archive(source, where)
    if not isinstance(source, Path):
        source.seek(0)
    try:
        with torch.serialization.safe_globals(_harmless() if numpy_values else []):
            content = torch.load(source, map_location="cpu", weights_only=True, mmap=mapped)
    except (RuntimeError, ValueError, TypeError, KeyError, IndexError, EOFError, OSError) as error:
        raise FormatError(f"torch refuses to read it: {error}", where=where) from error
    except Exception as error:
        # The class of an unpickling error lives in a module that is never imported here.
        if type(error).__name__ != "UnpicklingError":
            raise
        raise FormatError(
            f"It holds more than tensors and plain values{_forbidden_name(str(error))}",
            where=where,
            fix="save plain state dicts only, in a process that trusts the file, and import that",
        ) from error
    _check_content(content, where)
    return content


def _forbidden_name(message: str) -> str:
    """The name torch refused; the rest of its message recommends what we never do."""
    found = re.search(r"Unsupported (?:global|class|operand)[^:]*: (?:GLOBAL )?(\S+)", message)
    return "" if found is None else f": it asks for {found.group(1)[:200]}"


def _harmless() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """Constructors of NumPy values and a counter; each builds data and calls nothing else."""
    core = np.core if not hasattr(np, "_core") else np._core
    multiarray = core.multiarray
    names = ("numpy.core.multiarray", "numpy._core.multiarray")
    allowed: list[Any] = [np.ndarray, np.dtype, collections.Counter]
    allowed += [
        (getattr(multiarray, function), f"{module}.{function}")
        for module in names
        for function in ("_reconstruct", "scalar")
    ]
    allowed += [
        getattr(np.dtypes, name)
        for name in dir(np.dtypes)
        if name.endswith("DType") and name not in ("ObjectDType", "VoidDType")
    ]
    return allowed


def _check_archive(path: Path | BinaryIO, where: str) -> None:
    """Every member stored, unencrypted, named once, of the claimed size, with a sound checksum."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            names = [member.filename for member in members]
            if len(members) > _MEMBERS_MAX or len(set(names)) != len(names):
                raise FormatError("Its archive lists too many members, or one twice", where=where)
            for member in members:
                _check_member(archive, member, where)
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        if isinstance(error, FormatError):
            raise
        raise DamagedError(
            f"It is not a whole zip archive as torch.save writes it: {error}",
            where=where,
            fix="use another checkpoint; files from before torch 1.6 must be saved again first",
        ) from error


def _check_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, where: str) -> None:
    if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
        raise FormatError(
            f"The member {member.filename[:80]!r} is compressed; torch.save never does that",
            where=where,
        )
    is_pickle = member.filename.endswith("/data.pkl")
    if is_pickle and member.file_size > _PICKLE_BYTES_MAX:
        raise FormatError(f"Its data.pkl has {member.file_size} bytes", where=where)
    with archive.open(member) as stream:
        if is_pickle:
            _check_opcodes(stream.read(), where)
        else:
            while stream.read(1 << 20):
                pass


def _check_opcodes(data: bytes, where: str) -> None:
    """Refuse memo indices and frame sizes that would allocate without data behind them."""
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if "PUT" in opcode.name and isinstance(argument, int) and argument > len(data):
                raise FormatError("Its data.pkl names an absurd memo index", where=where)
    except (ValueError, UnicodeDecodeError, IndexError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"Its data.pkl is not a sound stream: {error}", where=where) from error


def _check_content(content: object, where: str) -> None:
    """Bound depth and size; refuse tensors that are not dense."""
    stack: list[tuple[object, int]] = [(content, 0)]
    seen: set[int] = set()
    count = 0
    while stack:
        value, depth = stack.pop()
        count += 1
        if depth > _DEPTH_MAX or count > _VALUES_MAX:
            raise FormatError("Its content is nested too deep or too large", where=where)
        if isinstance(value, torch.Tensor):
            if value.layout != torch.strided or value.is_quantized:
                raise FormatError(f"It holds a {value.layout} tensor", where=where)
        elif isinstance(value, (dict, list, tuple, set)):
            if id(value) in seen:
                continue
            seen.add(id(value))
            children = [*value.keys(), *value.values()] if isinstance(value, dict) else value
            stack.extend((child, depth + 1) for child in children)
