"""An attacker on the management LAN with a MAC of its own, who speaks from another host's address by raw frames.

It hears whatever its port is given, also what the switch floods, and answers it: a small stack for UDP and TCP in user
space, beside which it forges ARP. One thread, one loop, every step bounded in time.
"""

from __future__ import annotations

import random
import select
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from provision.lab.lans import inside
from tests.integration.attacks import frames
from tests.integration.attacks.clients import Client
from tests.integration.attacks.frames import BROADCAST, NOBODY, REPLY, REQUEST, Packet, octets

_ALL = 0x0003
_FLOOD_SECONDS = 0.001
_AGAIN_SECONDS = 0.25
_AFTER_SECONDS = 0.1
# How long the server is left to see the host's MAC before it is asked, and then until it sees the attacker's.
_NOTICED_SECONDS, _SWITCH_SECONDS = 0.003, {"before": 0.0005, "between": 0.004, "after": 0.02, "flood": 0.0}


class Kind(StrEnum):
    """What a forged ARP packet says, and how."""

    OWN = "replies with its own MAC"
    NAMED = "replies that name the host's MAC"
    GRATUITOUS = "gratuitous ARP"
    ASKING = "requests"
    SWITCHING = "the host's MAC while the server decides, then its own"
    NONE = "no ARP at all"


class When(StrEnum):
    """When it is sent, unasked. Whatever the server asks is answered at all times."""

    BEFORE = "before"
    BETWEEN = "between"
    AFTER = "after"
    FLOOD = "flood"


@dataclass(frozen=True)
class Target:
    """Whom it plays, and to whom: MAC and address of the host and of the server."""

    mac: str
    address: str
    server_mac: str
    server: str


@dataclass(frozen=True)
class Seen:
    """What the attacker got: payload bytes, and the refusal in words when there was one; how long it took, seconds."""

    data: bytes
    refusal: str
    seconds: float


class Nic(Protocol):
    """What frames go through, one at a time; neither call waits."""

    def fileno(self) -> int:
        """The descriptor to wait on."""

    def send(self, frame: bytes, /) -> int:
        """Send one frame; raises OSError when it cannot."""

    def recv(self, size: int, /) -> bytes:
        """One frame; raises BlockingIOError when there is none."""

    def close(self) -> None:
        """Give it back."""


def nic_of(namespace: str) -> Nic:
    """The NIC `eth0` of a namespace, raw."""
    with inside(namespace):
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    raw.setsockopt(socket.SOL_SOCKET, 33, 32 << 20)  # SO_RCVBUFFORCE
    raw.bind(("eth0", _ALL))
    raw.setblocking(False)
    return raw


class Intruder:
    """The attacker, with the MAC `mac` behind a NIC: by default eth0 of `namespace`."""

    def __init__(self, namespace: str, mac: str, nic: Nic | None = None) -> None:
        self.mac, self._raw = octets(mac), nic or nic_of(namespace)

    def close(self) -> None:
        """Unplug it."""
        self._raw.close()

    def send(self, target: Target, packets: Iterable[bytes]) -> None:
        """IP packets to the server, in frames of its own MAC."""
        for packet in packets:
            self.put(frames.ethernet(octets(target.server_mac), self.mac, frames.IPV4, packet))

    def put(self, frame: bytes) -> None:
        """One frame; lost when the queue is full, as on a wire."""
        try:
            self._raw.send(frame)
        except (BlockingIOError, OSError):
            select.select([], [self._raw], [], 0.01)

    def forge(self, target: Target, kind: Kind) -> None:
        """One forged ARP packet, unasked."""
        server, mine = octets(target.server_mac), (self.mac, target.address)
        to_server = (server, target.server)
        if kind is Kind.OWN:
            self._arp(server, frames.arp(REPLY, mine, to_server))
        elif kind is Kind.NAMED:
            self._arp(server, frames.arp(REPLY, (octets(target.mac), target.address), to_server))
        elif kind is Kind.SWITCHING:
            self.forge(target, random.choice((Kind.OWN, Kind.NAMED)))
        elif kind is Kind.GRATUITOUS:
            self._arp(BROADCAST, frames.arp(REPLY, mine, (BROADCAST, target.address)))
        elif kind is Kind.ASKING:
            self._arp(BROADCAST, frames.arp(REQUEST, mine, (NOBODY, target.server)))

    def _arp(self, destination: bytes, payload: bytes) -> None:
        self.put(frames.ethernet(destination, self.mac, frames.ARP, payload))

    def drain(self) -> None:
        """Forget what came until now."""
        while self._next() is not None:
            pass

    def _next(self) -> bytes | None:
        try:
            return self._raw.recv(1 << 17)
        except OSError:
            return None

    def packets(self, until: float) -> Iterable[Packet]:
        """What comes until that moment (time.monotonic()) and was not sent by itself."""
        while (left := until - time.monotonic()) > 0:
            if not select.select([self._raw], [], [], left)[0]:
                return
            # A flood has no end of its own.
            while time.monotonic() < until and (frame := self._next()) is not None:
                packet = frames.parse(frame)
                if packet is not None and packet.hardware != self.mac:
                    yield packet

    def answer(self, target: Target, kind: Kind, packet: Packet) -> bool:
        """Answer when the server asks for the host's address; whether it was that."""
        if packet.kind != frames.ARP:
            return False
        if packet.flags == REQUEST and packet.destination == target.address and packet.source == target.server:
            if kind in (Kind.NAMED, Kind.SWITCHING):
                self.forge(target, kind)
            elif kind is not Kind.NONE:
                self.forge(target, Kind.OWN)
        return True

    def ask(self, target: Target, kind: Kind, when: When, packets: list[bytes]) -> None:
        """Send a request about which the server decides, and the ARP that belongs close to it."""
        if kind is Kind.SWITCHING:
            self.forge(target, Kind.NAMED)
            time.sleep(_NOTICED_SECONDS)
        self.send(target, packets)
        if kind is Kind.SWITCHING:
            time.sleep(_SWITCH_SECONDS[when])
            self.forge(target, Kind.OWN)
        elif when is When.BETWEEN:
            self.forge(target, kind)

    def attack(self, target: Target, client: Client, kind: Kind, when: When, *, seconds: float) -> Seen:
        """Ask as `target`, by `client`, and forge ARP; ends with the whole answer, a refusal, or `seconds` after the
        last news, at the latest after five."""
        self.drain()
        begin = last = asked = time.monotonic()
        if kind is Kind.SWITCHING:
            self.forge(target, Kind.OWN)  # so that TCP's handshake comes here
        elif when in (When.BEFORE, When.FLOOD):
            self.forge(target, kind)
        self.ask(target, kind, when, client.start())
        late = begin + _AFTER_SECONDS if when is When.AFTER else None
        while not client.done and (now := time.monotonic()) - last < seconds and now - begin < 5.0:
            for packet in self.packets(now + (_FLOOD_SECONDS if when is When.FLOOD else 0.02)):
                if self._take(target, client, kind, when, packet):
                    last = time.monotonic()
                    late = min(late, last) if late is not None else None
                if client.done or when is When.FLOOD:
                    break
            now = time.monotonic()
            if when is When.FLOOD:
                self.forge(target, kind)
            elif late is not None and now >= late:
                self.forge(target, kind)
                late = None
            if not client.answered and now - asked > _AGAIN_SECONDS:
                asked = now
                self.ask(target, kind, when, client.start())
        return Seen(client.data, client.refusal, time.monotonic() - begin)

    def _take(self, target: Target, client: Client, kind: Kind, when: When, packet: Packet) -> bool:
        """Deal with what came; whether it was news for the client."""
        if self.answer(target, kind, packet):
            return False
        was, answers = client.answered, client.take(packet)
        if answers is None:
            return False
        if was:
            self.send(target, answers)
        else:  # of TCP this is the request
            self.ask(target, kind, when, answers)
        return True
