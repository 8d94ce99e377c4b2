"""The real host: its kernel answers ARP, it can be switched off, and it boots as firmware does, by plain sockets."""

from __future__ import annotations

import contextlib
import fcntl
import json
import re
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from provision.lab.lans import inside
from tests.integration.attacks.clients import OPTIONS
from tests.integration.attacks.site import MGMT, Answer, http, rrq

_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1


class Way(StrEnum):
    """How a host reads its seed."""

    TFTP_OPTIONS = "TFTP with options"
    TFTP_PLAIN = "TFTP without options"
    HTTP = "HTTP seed"
    HTTP_BOOT = "HTTP Boot ISO"

    @property
    def is_tftp(self) -> bool:
        return self in (Way.TFTP_OPTIONS, Way.TFTP_PLAIN)


@dataclass(frozen=True)
class Booted:
    """How a boot ended: the bytes with the seed, or a refusal in words; neither when nobody answered."""

    data: bytes
    refusal: str = ""

    @property
    def key(self) -> str:
        """The phone-home key in the seed."""
        found = re.search(rb'"key": ?"([0-9a-f]{64})"', self.data)
        return found[1].decode() if found else ""


class Victim:
    """A host's machine: its namespace with the NIC eth0."""

    def __init__(self, name: str, namespace: str, mac: str, address: str) -> None:
        self.name, self.namespace, self.mac, self.address = name, namespace, mac, address

    def switch(self, on: bool) -> None:
        """Bring the NIC's link up or down; going down it forgets its neighbours, as a machine without power does."""
        with inside(self.namespace), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            request = bytearray(struct.pack("16sh14x", b"eth0", 0))
            fcntl.ioctl(sock, _GET_FLAGS, request)
            (flags,) = struct.unpack_from("h", request, 16)
            struct.pack_into("h", request, 16, flags | _UP if on else flags & ~_UP)
            fcntl.ioctl(sock, _SET_FLAGS, request)

    def reset(self) -> None:
        """Off and on again."""
        self.switch(False)
        self.switch(True)

    def boot(self, way: Way, *, between: Callable[[], None] = lambda: None, timeout: float = 2.0) -> Booted:
        """Configuration and seed, or the HTTP Boot medium; `between` is called when the seed is asked for next."""
        if way is Way.HTTP_BOOT:
            between()
            return _judge(http(self.namespace, MGMT, "/http-boot/boot.iso", timeout=timeout))
        name = f"pxelinux.cfg/01-{self.mac.replace(':', '-')}"
        config = self.tftp(name, timeout=timeout) if way.is_tftp else http(self.namespace, MGMT, f"/pxe/{name}")
        found = re.search(r"boot/seed/[0-9a-f]{64}/seed\.cpio", config.text)
        between()
        if found is None:
            return Booted(b"", config.rule)
        if way is Way.HTTP:
            return _judge(http(self.namespace, MGMT, f"/{found[0]}", timeout=timeout))
        options = OPTIONS if way is Way.TFTP_OPTIONS else ()
        return _judge(self.tftp(found[0], *options, timeout=timeout))

    def boot_until_it_works(self, way: Way, tries: int = 5, seconds: float = 30.0) -> tuple[Booted, int]:
        """Boot, reset and boot again as a machine without an answer does; how it ended, and how many tries it took."""
        end = time.monotonic() + seconds
        for number in range(1, tries + 1):
            ended = self.boot(way)
            if ended.data or number == tries or time.monotonic() > end:
                break
            self.reset()
        return ended, number

    def up(self, key: str) -> int:
        """Say that the host is up; the status of the answer."""
        body = json.dumps({"host": self.name, "key": key}).encode()
        headers = {"Content-Type": "application/json"}
        return http(self.namespace, MGMT, "/up", method="POST", headers=headers, body=body).status

    def tftp(self, name: str, *options: str, timeout: float = 2.0, port: int = 0) -> Answer:
        """Read a file, asking again after 0.5 s without an answer; `port` is the client's own."""
        with inside(self.namespace), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(0.5)
            with contextlib.suppress(OSError):
                sock.bind((self.address, port))
                return _read(sock, rrq(name, *options), int(options[1]) if options else 512, timeout)
        return Answer(0, {}, b"", b"")


def _read(sock: socket.socket, request: bytes, block: int, timeout: float) -> Answer:
    received, expected, end = b"", 1, time.monotonic() + timeout
    packet, peer = request, (MGMT, 69)
    sock.sendto(packet, peer)
    while time.monotonic() < end:
        try:
            data, peer = sock.recvfrom(2048)
        except TimeoutError:
            sock.sendto(packet, peer)
            continue
        kind, number = struct.unpack_from("!HH", data)
        if kind == 5:
            return Answer(number, {}, data[4:-1], data)
        if kind == 3 and number == expected & 0xFFFF:
            received, expected = received + data[4:], expected + 1
        packet = struct.pack("!HH", 4, (expected - 1) & 0xFFFF)
        sock.sendto(packet, peer)
        if kind == 3 and len(data) < block + 4:
            return Answer(200, {}, received, received)
    return Answer(0, {}, b"", b"")


def _judge(answer: Answer) -> Booted:
    """A seed, or a medium that has one; the refusing medium is a refusal like any other."""
    if b"provision-seed" in answer.body and _KEY_MARK in answer.body:
        return Booted(answer.body)
    return Booted(b"", answer.rule or (answer.text[:80] if 0 < answer.status < 9 else "") or _status(answer))


def _status(answer: Answer) -> str:
    return f"status {answer.status}" if answer.status else ""


_KEY_MARK = b'"phone_home"'
