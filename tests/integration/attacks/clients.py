"""Clients of the boot protocols for a stack in user space: TFTP (RFC 1350, 2347) and HTTP over TCP (RFC 9293).

They make packets and take packets; who sends them, from where and by which frames, is another matter.
"""

from __future__ import annotations

import random
import re
import struct
from typing import Protocol

from tests.integration.attacks import frames
from tests.integration.attacks.frames import ACK, FIN, PSH, RST, SYN, Packet
from tests.integration.attacks.site import rrq

SEED = "boot/seed/current/seed.cpio"
OPTIONS = ("blksize", "1400", "tsize", "0")


class Client(Protocol):
    """One request and its answer; all packets are IPv4."""

    data: bytes
    refusal: str
    done: bool
    answered: bool

    def start(self) -> list[bytes]:
        """The first packets; asked for again while there is no answer."""

    def take(self, packet: Packet) -> list[bytes] | None:
        """What to send now that this came; None when it is not for this client."""


class Tftp:
    """Reads a file as `source` (address, port) from `server`."""

    def __init__(self, source: tuple[str, int], server: str, *options: str, name: str = SEED) -> None:
        self.source, self.server, self.request = source, server, rrq(name, *options)
        self.data, self.refusal, self.done, self.answered = b"", "", False, False
        self._expected, self._block = 1, int(options[1]) if options else 512

    def start(self) -> list[bytes]:
        return [frames.udp(self.source, (self.server, 69), self.request)]

    def take(self, packet: Packet) -> list[bytes] | None:
        ours = (packet.source, packet.destination, packet.ports[1]) == (self.server, *self.source)
        if packet.protocol != frames.UDP or not ours or len(packet.payload) < 4:
            return None
        self.answered = True
        kind, number = struct.unpack_from("!HH", packet.payload)
        if kind == 5:
            self.refusal, self.done = packet.payload[4:-1].decode("latin-1"), True
            return []
        if kind == 3 and number == self._expected & 0xFFFF:
            self.data += packet.payload[4:]
            self._expected += 1
            self.done = len(packet.payload) < self._block + 4
        elif kind != 6:
            return []
        return [frames.udp(self.source, (self.server, packet.ports[0]), struct.pack("!HH", 4, self._expected - 1))]


class Http:
    """GETs a path as `source` (address, port) from `server`; `data` is the whole answer."""

    def __init__(self, source: tuple[str, int], server: str, path: str) -> None:
        self.source, self.server, self._to = source, server, (server, 80)
        self.request = f"GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n".encode()
        self.data, self.refusal, self.done, self.answered = b"", "", False, False
        self._first = random.getrandbits(32)
        self._next = 0
        self._parts: list[bytes] = []

    def start(self) -> list[bytes]:
        return [frames.tcp(self.source, self._to, SYN, (self._first, 0))]

    def take(self, packet: Packet) -> list[bytes] | None:
        ours = (packet.source, packet.destination, packet.ports) == (self.server, self.source[0], (80, self.source[1]))
        if packet.protocol != frames.TCP or not ours:
            return None
        self.answered = True
        if packet.flags & RST:
            self._end("connection reset")
            return []
        if packet.flags & SYN:
            self._next = packet.numbers[0] + 1
            return [self._segment(ACK | PSH, self._first + 1, self.request)]
        if packet.numbers[0] == self._next & 0xFFFFFFFF:
            self._parts.append(packet.payload)
            self._next += len(packet.payload)
            if packet.flags & FIN:
                self._next += 1
                self._end("")
        if not packet.payload and not packet.flags & FIN:
            return []
        return [self._segment(ACK, self._first + 1 + len(self.request))]

    def _segment(self, flags: int, sequence: int, payload: bytes = b"") -> bytes:
        return frames.tcp(self.source, self._to, flags, (sequence, self._next), payload)

    def _end(self, why: str) -> None:
        self.data, self.done = b"".join(self._parts), True
        rule = re.search(rb'"rule": ?"([a-z-]+)"|\(rule: ([a-z-]+)\)', self.data)
        status = re.match(rb"HTTP/1.1 (\d+)", self.data)
        if rule is not None:
            self.refusal = (rule[1] or rule[2]).decode()
        elif status is None or status[1] != b"200":
            self.refusal = why or f"status {status[1].decode() if status else 'none'}"
