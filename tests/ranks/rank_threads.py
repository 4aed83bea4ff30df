"""Ranks as threads of one process, connected as real ranks are: by sockets."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from holdfast.coordination import Coordination, Hub, Spoke, connect, listen

T = TypeVar("T")


def make_ranks(size: int) -> list[Coordination]:
    """The ranks of one job, connected."""
    listener = listen("127.0.0.1", "secret")
    with ThreadPoolExecutor(size) as pool:
        hub: Future[Hub] = pool.submit(listener.accept, size, 30.0)
        spokes: list[Future[Spoke]] = [
            pool.submit(connect, ["127.0.0.1"], listener.port, "secret", rank, size, 30.0)
            for rank in range(1, size)
        ]
        return [hub.result(), *(spoke.result() for spoke in spokes)]


def on_all(ranks: Sequence[Coordination], work: Callable[[Coordination], T]) -> list[T | Exception]:
    """Let every rank do `work` at the same time; what each returned or raised."""
    results: list[T | Exception] = [RuntimeError("did not finish")] * len(ranks)

    def run(coordination: Coordination) -> None:
        try:
            results[coordination.rank] = work(coordination)
        except Exception as error:  # noqa: BLE001 (looked at by the test)
            results[coordination.rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in ranks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results
