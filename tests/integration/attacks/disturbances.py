"""Attacks on a transfer that the real host has begun: foreign acknowledgments, resets, and a host that goes away."""

from __future__ import annotations

import contextlib
import random
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from provision.lab.lans import inside
from tests.integration.attacks import frames
from tests.integration.attacks.clients import OPTIONS, SEED
from tests.integration.attacks.intruder import Kind, Seen
from tests.integration.attacks.race_site import ADDRESS, FIRST_PORT, LAST_PORT, RaceSite
from tests.integration.attacks.races import Outcome, judged
from tests.integration.attacks.site import MGMT, rrq
from tests.integration.attacks.victim import Booted, Victim, Way

_CLIENT = 2070  # firmware's first port is known to everybody
_SILENT = Seen(b"", "", 0.0)

_ON_ITS_WAY = 0.15
"""Seconds in which what was sent before a link went down may still come, with TCP's probe for a lost tail: the switch
floods it, and no server can help that. TCP sends again after 0.2 s, and then twice as long each time."""

_AGAIN_SECONDS = 2.5
"""A connection lives on for two seconds, while its machine is asked whether it is still there."""


@dataclass(frozen=True)
class Disturbance:
    """One attack with one way of the host; `kind` is the attacker's ARP beside it. With `alone` nothing that the host
    itself has done may be charged."""

    attack: str
    way: Way
    kind: Kind
    act: Callable[[RaceSite, Disturbance], Booted | None]
    alone: bool = False

    @property
    def variant(self) -> str:
        return f"{self.way}, {self.kind}"

    @property
    def group(self) -> str:
        return f"{self.attack}, {self.way}"

    def run(self, site: RaceSite) -> Outcome:
        site.prepare(on=True)

        def attacked() -> tuple[Seen, Booted | None]:
            return _SILENT, self.act(site, self)

        return judged(site, self, attacked, alone=self.alone)


@contextlib.contextmanager
def reading(victim: Victim, way: Way, acknowledged: int) -> Iterator[socket.socket]:
    """A TFTP transfer of the seed that the host has begun by itself, so many blocks of it acknowledged, and the next
    one received: what is on its way when a link goes down is flooded by the switch, and no server can help that."""
    options = OPTIONS if way is Way.TFTP_OPTIONS else ()
    with inside(victim.namespace):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        sock.bind((victim.address, _CLIENT))
        sock.settimeout(2)
        sock.sendto(rrq(SEED, *options), (MGMT, 69))
        with contextlib.suppress(TimeoutError):
            while acknowledged:
                data, peer = sock.recvfrom(2048)
                kind, number = struct.unpack_from("!HH", data)
                done = number if kind == 3 else 0
                if done > acknowledged:
                    break
                sock.sendto(struct.pack("!HH", 4, done), peer)
        yield sock


def spray(site: RaceSite, kind: Kind, packets: Callable[[], list[bytes]], seconds: float) -> None:
    """Send packets to the server again and again, forge ARP, and answer what the server asks by ARP."""
    end = time.monotonic() + seconds
    while (now := time.monotonic()) < end:
        site.intruder.forge(site.target, kind)
        site.intruder.send(site.target, packets())
        for packet in site.intruder.packets(min(end, now + 0.05)):
            site.intruder.answer(site.target, kind, packet)


def to_every_port(payload: bytes) -> list[bytes]:
    """A datagram as the host's client to every port that a transfer may have."""
    return [frames.udp((ADDRESS, _CLIENT), (MGMT, port), payload) for port in range(FIRST_PORT, LAST_PORT + 1)]


def _blind(blocks: range) -> Callable[[], list[bytes]]:
    numbers = iter(list(blocks) * 100)
    return lambda: to_every_port(struct.pack("!HH", 4, next(numbers)))


def foreign_acknowledgments(site: RaceSite, how: Disturbance) -> Booted | None:
    """The host has asked and stalls; the attacker acknowledges for it, on all ports."""
    with reading(site.victim, how.way, 0):
        spray(site, how.kind, _blind(range(16)), 0.9)
    return None


def gone_in_the_middle(site: RaceSite, how: Disturbance) -> Booted | None:
    """The host goes off within its transfer; the attacker takes its address and acknowledges on all ports."""
    with reading(site.victim, how.way, 2):
        site.victim.switch(False)
        spray(site, how.kind, _blind(range(1, 16)), 2.2)
    return None


def gone_after_asking(site: RaceSite, how: Disturbance) -> Booted | None:
    """The host goes off within its answer, of which it may have read some: what is sent again goes to nobody else."""
    path = "/http-boot/boot.iso" if how.way is Way.HTTP_BOOT else f"/{SEED}"
    with inside(site.victim.namespace):
        sock = socket.socket()
    with sock:
        # A small buffer keeps bytes at the server, or on their way.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, random.choice((2048, 4096, 65536)))
        sock.settimeout(2)
        sock.connect((MGMT, 80))
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {MGMT}\r\n\r\n".encode())
        time.sleep(random.choice((0.0, 0.002, 0.005, 0.01, 0.02)))
        with contextlib.suppress(TimeoutError):
            left = random.choice((0, 0, 500, 3000, 6000))
            while left > 0 and (data := sock.recv(512)):
                left -= len(data)
        site.victim.switch(False)
        spray(site, how.kind, list, _ON_ITS_WAY)
        site.ports.forget()
        spray(site, how.kind, list, _AGAIN_SECONDS)
    return None


def _beside(site: RaceSite, how: Disturbance, packets: Callable[[], list[bytes]]) -> Booted | None:
    """The host boots, and the attacker sprays; what the host has in the end, None when it has nothing."""
    ended: list[Booted] = []

    def boot() -> None:
        name = f"pxelinux.cfg/01-{site.victim.mac.replace(':', '-')}"
        if not how.way.is_tftp:
            ended.append(site.victim.boot(how.way))
            return
        options = OPTIONS if how.way is Way.TFTP_OPTIONS else ()
        config = site.victim.tftp(name, port=_CLIENT)
        found = re.search(r"boot/seed/[0-9a-f]{64}/seed\.cpio", config.text)
        answer = site.victim.tftp(found[0] if found else SEED, *options, port=_CLIENT)
        ended.append(Booted(answer.body if answer.status == 200 else b""))

    thread = threading.Thread(target=boot)
    thread.start()
    while thread.is_alive():
        spray(site, how.kind, packets, 0.05)
    thread.join()
    return next((booted for booted in ended if booted.key), None)


def foreign_errors(site: RaceSite, how: Disturbance) -> Booted | None:
    """ERROR packets as the host, and "port unreachable" about the server's packets to it, on all ports."""
    quoted = [frames.udp((MGMT, port), (ADDRESS, _CLIENT), b"\0\3\0\1") for port in range(FIRST_PORT, LAST_PORT + 1)]
    packets = [frames.unreachable(ADDRESS, MGMT, packet) for packet in quoted]
    packets += to_every_port(struct.pack("!HH", 5, 0) + b"stop\0")
    return _beside(site, how, lambda: random.sample(packets, 256))


def foreign_resets(site: RaceSite, how: Disturbance) -> Booted | None:
    """TCP resets, and SYNs on the ports that Linux gives, with guessed numbers."""

    def packets() -> list[bytes]:
        ends = [((ADDRESS, random.randrange(32768, 61000)), (MGMT, 80)) for _ in range(128)]
        numbers = [(random.getrandbits(32), random.getrandbits(32)) for _ in ends]
        flags = [random.choice((frames.RST, frames.RST | frames.ACK, frames.SYN)) for _ in ends]
        return [frames.tcp(*end, flag, number) for end, flag, number in zip(ends, flags, numbers, strict=True)]

    return _beside(site, how, packets)


def disturbances() -> Iterator[Disturbance]:
    """Every variant, those of one attack together."""
    for way in (Way.TFTP_OPTIONS, Way.TFTP_PLAIN):
        for kind in (Kind.NONE, Kind.OWN, Kind.NAMED):
            yield Disturbance("foreign acknowledgments", way, kind, foreign_acknowledgments, alone=True)
            yield Disturbance("host goes off in its transfer", way, kind, gone_in_the_middle)
        yield Disturbance("foreign errors and ICMP", way, Kind.NONE, foreign_errors)
    for way in (Way.HTTP, Way.HTTP_BOOT):
        for kind in (Kind.NONE, Kind.OWN, Kind.NAMED):
            yield Disturbance("host goes off after asking", way, kind, gone_after_asking)
        yield Disturbance("foreign resets", way, Kind.NONE, foreign_resets)
