"""Running a forked child up to its n-th system call and killing it there (Linux)."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass

_TRACEME, _SYSCALL, _SETOPTIONS = 0, 24, 0x4200
_OPTIONS = 0x1 | 0x8 | 0x100000  # TRACESYSGOOD, TRACECLONE, EXITKILL
_SYSCALL_STOP = signal.SIGTRAP | 0x80
_WALL = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


@dataclass(frozen=True, slots=True)
class Stepped:
    """What became of the child. stops: entries into and returns from system calls seen.

    status: its exit status, None if it was killed at the stop asked for.
    """

    stops: int
    status: int | None


def run_to_stop(work: Callable[[], object], stop_at: int | None) -> Stepped:
    """Fork, do `work` in the child, and SIGKILL it, all threads, at its `stop_at`-th stop.

    Each system call of any of its threads has two stops, before and after it is done. None: let it
    end. Raises OSError where the system forbids tracing.
    """
    pid = os.fork()
    if pid == 0:
        _child(work)
    os.waitpid(pid, _WALL)
    _ptrace(_SETOPTIONS, pid, _OPTIONS)
    _ptrace(_SYSCALL, pid, 0)
    stops = 0
    while True:
        thread, status = os.waitpid(-1, _WALL)
        if os.WIFSTOPPED(status):
            number = os.WSTOPSIG(status)
            if number == _SYSCALL_STOP:
                stops += 1
                if stops == stop_at:
                    _kill(pid)
                    return Stepped(stops, None)
            forward = 0 if number in (_SYSCALL_STOP, signal.SIGTRAP, signal.SIGSTOP) else number
            _ptrace(_SYSCALL, thread, forward)
        elif thread == pid:
            return Stepped(stops, os.waitstatus_to_exitcode(status))


def _child(work: Callable[[], object]) -> None:
    code = 1
    try:
        _ptrace(_TRACEME, 0, 0)
        os.kill(os.getpid(), signal.SIGSTOP)
        work()
        code = 0
    finally:
        os._exit(code)


def _kill(pid: int) -> None:
    """Kill the child and wait for all its threads, whose locks are only then released."""
    os.kill(pid, signal.SIGKILL)
    while True:
        try:
            thread, status = os.waitpid(-1, _WALL)
        except ChildProcessError:
            return
        if thread == pid and not os.WIFSTOPPED(status):
            return


def _ptrace(request: int, pid: int, data: int) -> None:
    if _libc.ptrace(request, pid, None, data) < 0:
        code = ctypes.get_errno()
        # A thread may be gone by the time it is told to go on.
        if code != 3:
            raise OSError(code, os.strerror(code))
