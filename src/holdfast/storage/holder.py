"""Who holds a lock: enough to tell people, and to tell whether it is gone."""

from __future__ import annotations

import functools
import os
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from holdfast.errors import FormatError
from holdfast.jsontext import Json, dump, parse_object
from holdfast.storage.filesystems import boot_tag

_MAX_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Holder:
    """A process: host name, boot, process id with its namespace, and when it started.

    started: clock ticks after boot at which the process began; ids are used again, this pair is
    not. since: UTC time of taking the lock, for people.
    """

    host: str
    boot: str
    pid: int
    pid_namespace: str
    started: int
    since: str

    def __str__(self) -> str:
        if not self.host:
            return "an unknown process"
        return f"process {self.pid} on {self.host} (since {self.since})"

    def to_bytes(self) -> bytes:
        """One line of JSON."""
        fields: dict[str, Json] = asdict(self)
        return dump(fields) + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> Holder:
        """What `to_bytes` wrote; torn or foreign text names nobody we could judge."""
        try:
            fields = parse_object(data, where="lock", max_bytes=_MAX_BYTES)
            texts = [fields[key] for key in ("host", "boot", "pid_namespace", "since")]
            numbers = [fields[key] for key in ("pid", "started")]
        except (FormatError, KeyError):
            return UNKNOWN
        host, boot, namespace, since = (text if isinstance(text, str) else "" for text in texts)
        pid, started = (number if type(number) is int else 0 for number in numbers)
        return cls(host, boot, pid, namespace, started, since)

    def state(self) -> Literal["alive", "ended", "unknown"]:
        """Whether the process lives, as far as that can be told from here."""
        here = current_holder()
        if self.is_gone():
            return "ended"
        same = (self.host, self.boot, self.pid_namespace)
        return "alive" if same == (here.host, here.boot, here.pid_namespace) else "unknown"

    def is_gone(self) -> bool:
        """Whether the process provably ended; False if that cannot be told from here."""
        here = current_holder()
        if self.host != here.host or not self.host:
            return False
        if self.boot != here.boot:
            return True
        if self.pid_namespace != here.pid_namespace or not here.pid_namespace:
            return False
        return _started(self.pid) != self.started


UNKNOWN = Holder("", "", 0, "", 0, "")


def current_holder() -> Holder:
    """This process, now."""
    pid = os.getpid()
    now = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    return Holder(os.uname().nodename, boot_tag(), pid, _namespace(), _own_start(pid), now)


@functools.cache
def _own_start(pid: int) -> int:
    """When this process started; asked once per process."""
    return _started(pid) or 0


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _started(pid: int) -> int | None:
    """When the process started, in ticks after boot; None if there is none or it has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name in brackets may itself hold brackets and spaces.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else int(fields[19])
