"""Setting damaged checkpoints aside: renamed with the reason beside the bytes, never deleted.

Only proven damage counts. A disk that cannot be read just now, a format from the future and a
folder that is not ours are none of it.
"""

from __future__ import annotations

import contextlib
import errno

from holdfast.engine.checkpoint_files import open_files
from holdfast.engine.events import note_set_aside
from holdfast.errors import (
    CheckpointNotFoundError,
    DamagedError,
    FormatError,
    LoadError,
    NewerFormatError,
    SaveError,
)
from holdfast.manifest import (
    MANIFEST_FILE,
    QUARANTINE_FILE,
    STATE_FILE,
    iso_time,
    quarantine_name,
)
from holdfast.storage.protocol import NameTakenError, RunStorage

_ABSENT = frozenset({errno.ENOENT, errno.ELOOP, errno.ENOTDIR})
_NAMESAKES_MAX = 1000


def failed_to_read(error: BaseException) -> bool:
    """Whether the disk or network is to blame and the bytes may be sound.

    A file that is not there is damage: whatever reads a committed checkpoint has its folder open.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and not isinstance(cause, CheckpointNotFoundError):
            return cause.errno not in _ABSENT
        cause = cause.__cause__
    return False


def confirm_damage(run: RunStorage, name: str) -> list[str]:
    """Read everything once more and list the damage; empty if there is none that is certain.

    What was damaged at the first reading and is sound at the second was never damaged on disk.
    """
    try:
        with run.open(name) as opened:
            if not {MANIFEST_FILE, STATE_FILE} & set(opened.files()):
                return []
        with open_files(run, name) as files:
            return files.damage()
    except (CheckpointNotFoundError, NewerFormatError):
        return []
    except (DamagedError, FormatError) as error:
        return [] if failed_to_read(error) else [f"{MANIFEST_FILE}: {error.what}"]
    except LoadError:
        return []


def set_aside(run: RunStorage, name: str, damage: list[str], *, now: float) -> str:
    """Rename a damaged checkpoint; return its new name. Raises SaveError, LockedError never.

    The reason is written into it first, as far as the disk allows: the rename is what matters.
    """
    text = "\n".join([f"Set aside by holdfast at {iso_time(now)} because it is damaged:", *damage])
    with contextlib.suppress(SaveError):
        run.replace_bytes(name, QUARANTINE_FILE, f"{text}\n".encode())
    for attempt in range(1, _NAMESAKES_MAX):
        try:
            new_name = quarantine_name(name, attempt)
            run.rename(name, new_name)
        except NameTakenError:
            continue
        note_set_aside(run, name, new_name, damage, now=now)
        return new_name
    raise NameTakenError(f"Too many checkpoints named {quarantine_name(name)}", where=run.place)
