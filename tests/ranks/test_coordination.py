"""Rounds: all ranks get one answer, or all one failure."""

from __future__ import annotations

import socket
import threading
import time

import pytest
from rank_threads import make_ranks, on_all

from holdfast.coordination import Alone, Coordination, connect, listen
from holdfast.errors import ConfigError, RankFailedError


def one_round(rank: Coordination, seconds: float = 20.0) -> bytes:
    """Every rank's number, as rank 0 puts them together."""
    with rank.begin("test", timeout_seconds=seconds) as operation:
        return operation.round("one", str(rank.rank).encode(), b"".join)


def test_one_process_answers_itself() -> None:
    """Alone, a round is what `decide` makes of one part."""
    assert one_round(Alone()) == b"0"


def test_operations_of_several_threads_do_not_meet() -> None:
    """Two kinds at a time, in opposite order on the two ranks."""
    ranks = make_ranks(2)

    def both(rank: Coordination) -> list[bytes]:
        found: dict[str, bytes] = {}

        def do(kind: str) -> None:
            with rank.begin(kind, timeout_seconds=20) as operation:
                found[kind] = operation.round("one", kind.encode(), b"".join)

        kinds = ["a", "b"] if rank.rank else ["b", "a"]
        threads = [threading.Thread(target=do, args=(kind,)) for kind in kinds]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [found["a"], found["b"]]

    assert on_all(ranks, both) == [[b"aa", b"bb"]] * 2


def test_a_rank_that_is_late_fails_the_round_and_is_heard_again_in_the_next() -> None:
    """What it said too late is dropped; it learns that it failed, and by whom."""
    ranks = make_ranks(3)
    given_up = threading.Event()

    def late_once(rank: Coordination) -> list[str]:
        said = []
        try:
            if rank.rank == 2:
                with rank.begin("test", timeout_seconds=0.2) as operation:
                    given_up.wait(20)
                    operation.round("one", b"too late", b"".join)
            else:
                one_round(rank, 0.2)
        except RankFailedError as error:
            said.append(f"{error.rank}: {error.reason}")
        finally:
            if rank.rank == 0:
                given_up.set()
        said.append(one_round(rank).decode())
        return said

    expected = ["2: it did not answer within 0.2 seconds", "012"]
    assert on_all(ranks, late_once) == [expected] * 3


def test_a_rank_that_leaves_is_named_at_once() -> None:
    """Nobody waits for the time allowed."""
    ranks = make_ranks(3)

    def leave(rank: Coordination) -> str:
        if rank.rank == 1:
            rank.close()
            return ""
        began = time.monotonic()
        with pytest.raises(RankFailedError, match="Rank 1 failed: it ended"):
            one_round(rank, 600.0)
        return "quick" if time.monotonic() - began < 60 else "slow"

    assert on_all(ranks, leave) == ["quick", "", "quick"]


def test_what_decide_raises_is_known_to_all() -> None:
    """Rank 0 raises it as it is, the others its text."""
    ranks = make_ranks(2)

    def refuse(parts: object) -> bytes:
        raise ValueError("not like this")

    def ask(rank: Coordination) -> str:
        try:
            with rank.begin("test", timeout_seconds=20) as operation:
                operation.round("one", b"", refuse)
        except (ValueError, RankFailedError) as error:
            return str(error)
        return ""

    first, second = on_all(ranks, ask)
    assert first == "not like this"
    assert "Rank 0 failed: ValueError: not like this" in str(second)


def test_strangers_are_turned_away() -> None:
    """A connection that does not know the token is not a rank, and stops none from joining."""
    listener = listen("127.0.0.1", "secret")
    hub: list[Coordination] = []
    thread = threading.Thread(target=lambda: hub.append(listener.accept(2, 20.0)))
    thread.start()
    with socket.create_connection(("127.0.0.1", listener.port)) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        stranger.shutdown(socket.SHUT_WR)
        spoke = connect(["127.0.0.1"], listener.port, "secret", 1, 2, 20.0)
        thread.join()
    assert on_all([hub[0], spoke], one_round) == [b"01", b"01"]
    spoke.close()
    hub[0].close()


def test_an_unreachable_rank_0_says_what_to_set() -> None:
    """The error names every address tried."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ConfigError, match="HOLDFAST_RANK0_ADDR"):
        connect(["127.0.0.1"], port, "secret", 1, 2, 1.0)


def test_a_rank_that_never_comes_is_named() -> None:
    """Rank 0 does not wait for ever."""
    with pytest.raises(RankFailedError, match="Rank 1 did not connect"):
        listen("127.0.0.1", "secret").accept(2, 0.1)
