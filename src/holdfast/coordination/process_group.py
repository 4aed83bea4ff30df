"""The ranks of `torch.distributed`, found and connected."""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
from typing import Any

from holdfast.coordination.protocol import Coordination
from holdfast.coordination.star import connect, listen

_TEXT_BYTES = 1024
_known: list[tuple[object, Coordination]] = []


def process_group_size() -> int:
    """Ranks of the default process group; 1 where there is none. torch is not imported for it."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return 1
    return int(distributed.get_world_size())


def join_process_group(timeout_seconds: float) -> Coordination:
    """Connect all ranks of the default process group; every rank must call it.

    Once per process group: later calls return the same connection. A gloo group is made to agree
    on where to meet and taken down again, so that it works beside any backend. Raises ConfigError
    or RankFailedError if a rank cannot be reached.
    """
    import torch.distributed as dist

    world: object = dist.group.WORLD
    for group, coordination in _known:
        if group is world:
            return coordination
    meeting: Any = dist.new_group(backend="gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    names = _shared(meeting, size, socket.gethostname())
    one_host = len(set(names)) == 1
    listener, place = None, ""
    if rank == 0:
        token = secrets.token_hex(16)
        listener = listen("127.0.0.1" if one_host else "", token)
        place = json.dumps([_hosts(one_host), listener.port, token])
    hosts, port, token = json.loads(_shared(meeting, size, place)[0])
    found: Coordination
    if listener is not None:
        found = listener.accept(size, timeout_seconds)
    else:
        found = connect(hosts, port, token, rank, size, timeout_seconds)
    dist.destroy_process_group(meeting)
    _known[:] = [(world, found)]
    return found


def _hosts(one_host: bool) -> list[str]:
    """Names by which others may reach this host, the likeliest first."""
    if one_host:
        return ["127.0.0.1"]
    given = [os.environ.get("HOLDFAST_RANK0_ADDR"), os.environ.get("MASTER_ADDR")]
    named = [socket.gethostname(), socket.getfqdn()]
    return list(dict.fromkeys(name for name in [*given, *named] if name))


def _shared(group: Any, size: int, text: str) -> list[str]:
    """A short text from each rank."""
    import torch
    import torch.distributed as dist

    data = text.encode()[: _TEXT_BYTES - 1]
    mine = torch.zeros(_TEXT_BYTES, dtype=torch.uint8)
    mine[: len(data)] = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else 0
    everyone = [torch.zeros_like(mine) for _ in range(size)]
    dist.all_gather(everyone, mine, group=group)
    return [bytes(one.tolist()).rstrip(b"\0").decode() for one in everyone]
