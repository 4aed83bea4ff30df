"""What ranks send each other: small frames over a stream."""

from __future__ import annotations

import json
import socket
import struct
from dataclasses import dataclass

_LENGTHS = struct.Struct("!II")
_HEADER_MAX = 1 << 16
_PAYLOAD_MAX = 1 << 30


@dataclass(frozen=True, slots=True)
class Message:
    """kind: "hello", "part", "answer" or "fail". operation: which one; round: its name.

    rank: whose it is, for failures the rank to blame. payload: bytes, or text of a failure.
    """

    kind: str
    operation: str
    round: str
    rank: int
    payload: bytes

    def encode(self) -> bytes:
        """As bytes of the stream."""
        header = json.dumps([self.kind, self.operation, self.round, self.rank]).encode()
        return _LENGTHS.pack(len(header), len(self.payload)) + header + self.payload


class Stream:
    """One connection: frames in, frames out. Raises OSError when it breaks."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._buffer = bytearray()

    def send(self, message: Message) -> None:
        """Write one frame; callers take turns."""
        self.connection.sendall(message.encode())

    def receive(self) -> list[Message] | None:
        """Read what has come; complete frames, None at the end of the stream. May wait."""
        data = self.connection.recv(1 << 18)
        if not data:
            return None
        self._buffer += data
        messages: list[Message] = []
        while True:
            message = self._next()
            if message is None:
                return messages
            messages.append(message)

    def _next(self) -> Message | None:
        if len(self._buffer) < _LENGTHS.size:
            return None
        header_bytes, payload_bytes = _LENGTHS.unpack_from(self._buffer)
        if header_bytes > _HEADER_MAX or payload_bytes > _PAYLOAD_MAX:
            raise OSError("a frame of absurd length: not one of ours")
        end = _LENGTHS.size + header_bytes + payload_bytes
        if len(self._buffer) < end:
            return None
        header = bytes(self._buffer[_LENGTHS.size : _LENGTHS.size + header_bytes])
        payload = bytes(self._buffer[_LENGTHS.size + header_bytes : end])
        del self._buffer[:end]
        try:
            kind, operation, round_name, rank = json.loads(header)
        except ValueError as error:
            raise OSError("a frame that is not one of ours") from error
        return Message(str(kind), str(operation), str(round_name), int(rank), payload)

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()
