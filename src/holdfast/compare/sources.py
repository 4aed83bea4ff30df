"""Opening anything that holds tensors by name as one side of a comparison.

Checkpoint folders of ours and safetensors files and folders need no torch. A layout is told by what
is there: a manifest, a `.metadata`, an index, a suffix; a further one is a function here.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

from holdfast.compare.stored import Part, Side, Stored
from holdfast.engine.checkpoint_files import CheckpointFiles, open_files
from holdfast.engine.tensor_file import TensorFile
from holdfast.errors import CheckpointNotFoundError, DamagedError, FormatError
from holdfast.jsontext import Json, parse_object
from holdfast.manifest import MANIFEST_FILE, Manifest
from holdfast.storage import LocalRun
from holdfast.tensorfile import TensorSpec, header_length, parse_header
from holdfast.tensorfile.header import PREFIX_BYTES

_INDEX_FILE = "model.safetensors.index.json"
_INDEX_MAX_BYTES = 256 << 20
_CONFIG_FILE = "config.json"
_CONFIG_MAX_BYTES = 16 << 20
_RUN_KEYS = ("epoch", "global_step")

TORCH_NAMES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
    "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2": "float8_e5m2",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}


def open_side(path: Path) -> Side:
    """Open a checkpoint folder, a `.pt` file, or a safetensors file or folder.

    Raises CheckpointNotFoundError if there is nothing, LoadError if it cannot be trusted or is of
    no layout known here.
    """
    if not path.exists():
        raise CheckpointNotFoundError("There is no such checkpoint", where=str(path))
    if path.is_dir():
        return _open_folder(path)
    if path.suffix == ".safetensors":
        return open_safetensors(path, [path.name], {})
    from holdfast.compare.original_side import open_original

    return open_original(path)


def _open_folder(path: Path) -> Side:
    if (path / MANIFEST_FILE).is_file():
        return open_ours(path)
    if (path / ".metadata").is_file():
        from holdfast.compare.dcp_side import open_dcp

        return open_dcp(path)
    if (path / _INDEX_FILE).is_file():
        return open_safetensors(path, _indexed_files(path / _INDEX_FILE), _config(path))
    files = sorted(entry.name for entry in path.iterdir() if entry.suffix == ".safetensors")
    if not files:
        raise FormatError(
            "The folder holds no checkpoint that could be compared",
            where=str(path),
            fix="name a checkpoint folder, a .pt file, or safetensors",
        )
    return open_safetensors(path, files, _config(path))


def open_ours(path: Path) -> Side:
    """A checkpoint folder of ours; headers are proven, data is as it is read."""
    real = path.resolve()
    files = open_files(LocalRun(real.parent), real.name)
    if files.manifest.world.get("layout") == "sharded":
        from holdfast.compare.sharded_side import open_sharded

        files.close()
        return open_sharded(path, _facts(files.manifest))
    try:
        parts = {
            name: Part(name, entry.kind, _tensors(files, name), entry.aliases, entry.tree)
            for name, entry in files.state.components.items()
        }
    except BaseException:
        files.close()
        raise
    return Side(str(path), "holdfast", parts, _facts(files.manifest), files.close)


def open_safetensors(path: Path, names: list[str], facts: Mapping[str, Json]) -> Side:
    """Safetensors files as one model. path: the file, or the folder that holds all of `names`."""
    folder = path if path.is_dir() else path.parent
    tensors: dict[str, Stored] = {}
    opened: list[_RawFile] = []
    try:
        for name in names:
            file = _RawFile(folder / name)
            opened.append(file)
            for key, spec in file.specs.items():
                if key in tensors:
                    raise FormatError(f"Two files hold the tensor {key[:200]!r}", where=str(folder))
                tensors[key] = file.stored(key, spec)
    except BaseException:
        for file in opened:
            file.close()
        raise

    def close() -> None:
        for file in opened:
            file.close()

    return Side(str(path), "safetensors", {"model": Part("model", "module", tensors)}, facts, close)


def _tensors(files: CheckpointFiles, component: str) -> dict[str, Stored]:
    entry = files.state.components[component]
    prefix = f"{component}/" if entry.kind == "object" else ""
    return {
        name.removeprefix(prefix): _of_ours(file, name, spec)
        for file in map(files.tensor_file, entry.files)
        for name, spec in file.specs.items()
        if name.startswith(prefix)
    }


def _of_ours(file: TensorFile, name: str, spec: TensorSpec) -> Stored:
    note = file.notes.get(name, {}).get("dtype")
    raw_pairs = isinstance(note, str) and note.startswith("complex")

    def read(offset: int, buffer: memoryview) -> None:
        file.opened.read_into(file.file, file.data_start + spec.begin + offset, buffer)

    return Stored(
        dtype=note if isinstance(note, str) else TORCH_NAMES[spec.dtype],
        raw=spec.dtype,
        shape=spec.shape[:-1] if raw_pairs else spec.shape,
        nbytes=spec.nbytes,
        read=read,
        where=f"{file.where}: {name[:200]}",
        digest=file.digests[name],
    )


def _facts(manifest: Manifest) -> dict[str, Json]:
    from holdfast.manifest.fields import metric_out

    facts: dict[str, Json] = {key: getattr(manifest, key) for key in _RUN_KEYS}
    facts["metrics"] = {name: metric_out(value) for name, value in manifest.metrics.items()}
    facts["directions"] = dict(manifest.directions)
    facts["world"] = dict(manifest.world)
    return facts


def _indexed_files(index: Path) -> list[str]:
    """The files that an index names: plain names in its own folder only."""
    data = _small_file(index, _INDEX_MAX_BYTES)
    weights = parse_object(data, where=str(index), max_bytes=_INDEX_MAX_BYTES).get("weight_map")
    if not isinstance(weights, dict) or not weights:
        raise FormatError("The index has no weight_map", where=str(index))
    names: dict[str, None] = {}
    for name in weights.values():
        if not isinstance(name, str) or os.path.basename(name) != name or name.startswith("."):
            raise FormatError(f"The index names the file {str(name)[:200]!r}", where=str(index))
        names[name] = None
    return list(names)


def _config(folder: Path) -> dict[str, Json]:
    path = folder / _CONFIG_FILE
    if not path.is_file():
        return {}
    data = _small_file(path, _CONFIG_MAX_BYTES)
    return {"config": parse_object(data, where=str(path), max_bytes=_CONFIG_MAX_BYTES)}


def _small_file(path: Path, max_bytes: int) -> bytes:
    with path.open("rb") as stream:
        data = stream.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise FormatError(f"The file has over {max_bytes} bytes", where=str(path))
    return data


class _RawFile:
    """A safetensors file of anybody's: its header is proven, its data has no digests.

    Links are followed, since model hubs lay out their caches with them; what they lead to is read
    as tensors only.
    """

    def __init__(self, path: Path) -> None:
        self._where = str(path)
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError as error:
            raise CheckpointNotFoundError(
                f"The file cannot be opened: {error.strerror}", where=self._where
            ) from error
        try:
            status = os.fstat(self._fd)
            if not stat.S_ISREG(status.st_mode):
                raise FormatError("That is no regular file", where=self._where)
            size = status.st_size
            prefix = os.pread(self._fd, PREFIX_BYTES, 0)
            length = header_length(prefix, size, where=self._where)
            self._start = length
            header = os.pread(self._fd, length, 0)
            self.specs, _ = parse_header(header, size, where=self._where)
        except BaseException:
            self.close()
            raise

    def stored(self, name: str, spec: TensorSpec) -> Stored:
        """One tensor of the file."""
        return Stored(
            TORCH_NAMES[spec.dtype],
            spec.dtype,
            spec.shape,
            spec.nbytes,
            self._reader(spec.begin),
            f"{self._where}: {name[:200]}",
        )

    def _reader(self, begin: int) -> Callable[[int, memoryview], None]:
        def read(offset: int, buffer: memoryview) -> None:
            done = 0
            while done < len(buffer):
                at = self._start + begin + offset + done
                count = os.preadv(self._fd, [buffer[done:]], at)
                if count == 0:
                    raise DamagedError("The file ends before its data does", where=self._where)
                done += count

        return read

    def close(self) -> None:
        """Release the file; a second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
