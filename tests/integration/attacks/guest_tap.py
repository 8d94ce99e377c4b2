"""A guest whose tap joins a bridge of the server: raw frames from the first moment on, with any MAC and address.

A virtual machine would take seconds from its start to its first frame. What a rule has to be faster than is a guest
that is running already, and whose port is moved to another bridge.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct

from provision.lab.lans import inside, ip
from tests.integration.attacks.clients import Client
from tests.integration.attacks.intruder import Intruder, Kind, Seen, Target, When

# linux/if_tun.h
_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
# linux/sockios.h
_GET_INDEX, _BRIDGE_ADD, _BRIDGE_REMOVE = 0x8933, 0x89A2, 0x89A3


class Tap:
    """The guest's side of a tap called `name`, made in the server's namespace and up, on no bridge yet."""

    def __init__(self, namespace: str, name: str) -> None:
        self.namespace, self.name = namespace, name
        with inside(namespace):
            self._descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
            request = struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI)
            fcntl.ioctl(self._descriptor, _TUNSETIFF, request)
        ip(namespace, "link", "set", name, "up")

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._descriptor

    def send(self, frame: bytes) -> int:
        """One frame from the guest."""
        return os.write(self._descriptor, frame)

    def recv(self, size: int) -> bytes:
        """One frame to the guest; raises BlockingIOError when there is none."""
        return os.read(self._descriptor, size)

    def close(self) -> None:
        """The guest ends, and its tap with it."""
        os.close(self._descriptor)

    def join(self, bridge: str, *, leave: bool = False) -> None:
        """Move the tap to a bridge of the server (or off it), by one ioctl: a program would give the rule a start."""
        with inside(self.namespace), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            index = fcntl.ioctl(control, _GET_INDEX, struct.pack("16si20x", self.name.encode(), 0))
            request = struct.pack("16s4s20x", bridge.encode(), index[16:20])
            fcntl.ioctl(control, _BRIDGE_REMOVE if leave else _BRIDGE_ADD, request)


def join_and_ask(tap: Tap, bridge: str, target: Target, client: Client, *, seconds: float = 1.2) -> Seen:
    """Join, and at once ask for what a host may have, with that host's own MAC and address; what the guest got."""
    guest = Intruder("", target.mac, tap)
    tap.join(bridge)
    return guest.attack(target, client, Kind.OWN, When.BEFORE, seconds=seconds)
