"""What kind of file system a folder is on, as far as Linux tells."""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path

_OCTAL = re.compile(r"\\([0-7]{3})")
_ONE_HOST = frozenset(
    {"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "bcachefs", "tmpfs", "overlay"}
)
_DIRECT_IS_FASTER = frozenset({"ext4", "xfs"})


def filesystem_type(path: Path) -> str | None:
    """The type of the file system holding `path` ("ext4", "nfs4", ...), or None if unknown."""
    try:
        table = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    place = os.path.realpath(path)
    best, found = "", None
    for line in table.splitlines():
        left, _, right = line.partition(" - ")
        mount_point = _OCTAL.sub(lambda match: chr(int(match[1], 8)), left.split(" ")[4])
        inside = place == mount_point or place.startswith(mount_point.rstrip("/") + "/")
        # The last of equal mount points lies on top.
        if inside and len(mount_point) >= len(best):
            best, found = mount_point, right.split(" ", 1)[0]
    return found


def is_one_host(path: Path) -> bool:
    """Whether only this machine can have mounted the file system, so that its locks tell all."""
    return filesystem_type(path) in _ONE_HOST


def prefers_direct_io(path: Path) -> bool:
    """Whether large files are written faster past the page cache here (measured: ext4, xfs)."""
    return hasattr(os, "O_DIRECT") and filesystem_type(path) in _DIRECT_IS_FASTER


@functools.cache
def boot_tag() -> str:
    """Eight hex digits that name this boot of this kernel, the same in all its containers."""
    try:
        identity = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    except OSError:
        identity = f"{os.uname().nodename}"
    return f"{_fnv1a(identity.strip().encode()):016x}"[:8]


def _fnv1a(data: bytes) -> int:
    """64-bit FNV-1a: a name, not a digest of anything stored."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % (1 << 64)
    return value
