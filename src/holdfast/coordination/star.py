"""Ranks connected to rank 0 by one socket each.

Collectives of a process group cannot be used for this: one that times out leaves the group in no
usable state, one that is called by a background thread gets in the way of training's, and neither
says which rank was to blame. Here a rank that is killed is known the moment the kernel closes its
socket, a message that comes too late is dropped, and the next operation starts afresh.
"""

from __future__ import annotations

import hmac
import os
import selectors
import socket
import struct
import threading
import time as clock
import weakref
from collections.abc import Sequence
from types import TracebackType

from typing_extensions import Self

from holdfast.coordination.mailbox import Failure, Mailbox
from holdfast.coordination.messages import Message, Stream
from holdfast.coordination.protocol import Decide
from holdfast.errors import ConfigError, HoldfastError, RankFailedError

_SEND_SECONDS = 60
_PATIENCE = 2.0
_VERDICT_SECONDS = 5.0
_ENDED = "it ended (its connection was closed)"


class _Node:
    """What hub and spokes have in common: streams by rank, and a thread that reads them."""

    def __init__(self, rank: int, size: int, streams: dict[int, Stream]) -> None:
        self.rank, self.size = rank, size
        self.mailbox = Mailbox()
        self._streams = streams
        self._turns = {peer: threading.Lock() for peer in streams}
        self._closing = False
        for stream in streams.values():
            _prepare(stream.connection)
        threading.Thread(target=self._read, name="holdfast-ranks", daemon=True).start()
        _nodes.add(self)

    def begin(self, kind: str, *, timeout_seconds: float) -> StarOperation:
        """Begin the next operation of its kind."""
        return StarOperation(self, self.mailbox.begin(kind), timeout_seconds)

    def send(self, peer: int, message: Message) -> None:
        """Send, or note that the peer is gone."""
        try:
            with self._turns[peer]:
                self._streams[peer].send(message)
        except OSError as error:
            self.mailbox.lose(peer, f"nothing can be sent to it: {error}")

    @property
    def peers(self) -> Sequence[int]:
        """Ranks this one is connected to."""
        return tuple(self._streams)

    def close(self) -> None:
        """Leave."""
        self._closing = True
        for stream in self._streams.values():
            try:
                stream.connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def drop_sockets(self) -> None:
        """Close them. A forked child does: its copies would outlive a parent that is killed."""
        for stream in self._streams.values():
            stream.close()

    def _read(self) -> None:
        with selectors.DefaultSelector() as selector:
            for peer, stream in self._streams.items():
                selector.register(stream.connection, selectors.EVENT_READ, peer)
            while selector.get_map():
                for key, _ in selector.select():
                    if not self._take(key.data):
                        selector.unregister(key.fileobj)
        self.drop_sockets()

    def _take(self, peer: int) -> bool:
        """Read from one peer; whether more may come."""
        try:
            messages = self._streams[peer].receive()
        except OSError as error:
            self.mailbox.lose(peer, f"its connection broke: {error}")
            return False
        if messages is None:
            self.mailbox.lose(peer, "this process left" if self._closing else _ENDED)
            return False
        for message in messages:
            self.mailbox.put(message)
            if self.rank == 0 and message.kind == "fail":
                self._relay(message.operation)
        return True

    def _relay(self, operation: str) -> None:
        """Rank 0: let all know of the first failure, its own rank too, so that all say the same."""
        failure = self.mailbox.failure(operation)
        if failure is not None:
            self.tell(operation, failure)

    def tell(self, operation: str, failure: Failure) -> None:
        """Send word of a failure to every peer."""
        reason = failure.reason.encode()
        message = Message("fail", operation, "", failure.rank, reason)
        for peer in self.peers:
            self.send(peer, message)


class Hub(_Node):
    """Rank 0."""


class Spoke(_Node):
    """Any other rank."""


class StarOperation:
    """See `Operation`."""

    def __init__(self, node: _Node, name: str, timeout_seconds: float) -> None:
        self._node, self._name, self._timeout = node, name, timeout_seconds
        self._over = False

    def round(self, name: str, part: bytes, decide: Decide | None = None) -> bytes:
        """Give this rank's part and return rank 0's answer."""
        if self._node.rank == 0:
            return self._decide(name, part, decide)
        self._node.send(0, Message("part", self._name, name, self._node.rank, part))
        # Rank 0 waits for the slowest, and then has work of its own to do.
        found = self._node.mailbox.collect(self._name, name, range(1), self._timeout * _PATIENCE)
        if isinstance(found, Failure):
            if found.rank == 0:
                self.fail(f"rank {self._node.rank} gave up on rank 0: {found.reason}")
            raise self._error(found)
        return found[0]

    def fail(self, reason: str) -> None:
        """Make it fail on all other ranks."""
        self._node.tell(self._name, Failure(self._node.rank, reason))

    def check(self) -> None:
        """Raise RankFailedError if another rank is known to have failed or given up by now."""
        found = self._node.mailbox.failure(self._name)
        if found is not None:
            self._node.tell(self._name, found)
            raise self._error(found)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        node = self._node
        try:
            if error is None or isinstance(error, RankFailedError):
                return
            mine = Failure(node.rank, _reason(error))
            if node.rank:
                node.tell(self._name, mine)
            first = node.mailbox.blame(self._name, mine, _VERDICT_SECONDS if node.rank else 0.0)
            if not node.rank:
                node.tell(self._name, first)
            if first.rank != node.rank:
                # What went wrong here came of what had gone wrong there.
                raise self._error(first) from error
        finally:
            node.mailbox.end(self._name)

    def _decide(self, name: str, part: bytes, decide: Decide | None) -> bytes:
        node = self._node
        found = node.mailbox.collect(self._name, name, range(1, node.size), self._timeout)
        if isinstance(found, Failure):
            node.tell(self._name, found)
            raise self._error(found)
        answer = (
            part if decide is None else decide([part, *(found[r] for r in range(1, node.size))])
        )
        for peer in node.peers:
            node.send(peer, Message("answer", self._name, name, 0, answer))
        return answer

    def _error(self, failure: Failure) -> RankFailedError:
        return RankFailedError(
            f"Rank {failure.rank} failed: {failure.reason}",
            rank=failure.rank,
            reason=failure.reason,
            where=f"rank {self._node.rank}",
        )


class Listener:
    """Where rank 0 waits for the others. token: what they must know."""

    def __init__(self, host: str, token: str) -> None:
        self._token = token
        self._socket = socket.create_server((host, 0), backlog=1024)

    @property
    def port(self) -> int:
        """The port it listens on."""
        port: int = self._socket.getsockname()[1]
        return port

    def accept(self, size: int, timeout_seconds: float) -> Hub:
        """Wait for all other ranks. Raises RankFailedError if one does not come."""
        streams: dict[int, Stream] = {}
        end = clock.monotonic() + timeout_seconds
        try:
            while len(streams) < size - 1:
                self._socket.settimeout(max(0.01, end - clock.monotonic()))
                connection, _ = self._socket.accept()
                found = _greeted(connection, self._token, size)
                if found is not None:
                    streams[found[0]] = found[1]
        except TimeoutError as error:
            lacking = [rank for rank in range(1, size) if rank not in streams]
            raise RankFailedError(
                f"Rank {lacking[0]} did not connect within {timeout_seconds:g} seconds",
                rank=lacking[0],
                reason="it did not connect",
                where="rank 0",
                fix="make every rank build its manager; see docs/how-to/many-ranks.md",
            ) from error
        finally:
            self._socket.close()
        return Hub(0, size, dict(sorted(streams.items())))


def listen(host: str, token: str) -> Listener:
    """Rank 0: open a port for the others. host: empty for every interface."""
    return Listener(host, token)


def connect(
    hosts: Sequence[str], port: int, token: str, rank: int, size: int, timeout_seconds: float
) -> Spoke:
    """Any other rank: connect to rank 0 by the first of `hosts` that answers.

    Raises ConfigError if none does.
    """
    problems = []
    for host in hosts:
        try:
            connection = socket.create_connection((host, port), timeout_seconds)
        except OSError as error:
            problems.append(f"{host}: {error}")
            continue
        stream = Stream(connection)
        stream.send(Message("hello", "", "", rank, token.encode()))
        return Spoke(rank, size, {0: stream})
    raise ConfigError(
        f"Rank {rank} cannot reach rank 0 on port {port} ({'; '.join(problems)})",
        fix="set HOLDFAST_RANK0_ADDR to an address of rank 0's host that the others can reach",
    )


def _greeted(connection: socket.socket, token: str, size: int) -> tuple[int, Stream] | None:
    """Rank and stream of one that knows the token; others are turned away."""
    connection.settimeout(10.0)
    stream = Stream(connection)
    try:
        messages: list[Message] | None = []
        while messages == []:
            messages = stream.receive()
    except OSError:
        messages = None
    hello = messages[0] if messages and messages[0].kind == "hello" else None
    known = hello is not None and hmac.compare_digest(hello.payload, token.encode())
    if hello is not None and known and 0 < hello.rank < size:
        return hello.rank, stream
    stream.close()
    return None


def _prepare(connection: socket.socket) -> None:
    connection.settimeout(None)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    limit = struct.pack("ll", _SEND_SECONDS, 0)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)


def _reason(error: BaseException) -> str:
    if isinstance(error, HoldfastError):
        place = f" [{error.where}]" if error.where else ""
        return f"{type(error).__name__}: {error.what}{place}"
    return f"{type(error).__name__}: {error}"


_nodes: weakref.WeakSet[_Node] = weakref.WeakSet()


def _in_child() -> None:
    for node in list(_nodes):
        node.drop_sockets()


os.register_at_fork(after_in_child=_in_child)
