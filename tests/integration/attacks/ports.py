"""What a switch delivered to each of its ports, recorded port by port: also what it flooded to all of them.

Recorded in this process, because a program for each port and run would cost more than the run. Nothing may be lost:
the kernel's own count of what it dropped says whether the recording proves anything.
"""

from __future__ import annotations

import re
import secrets
import socket
import struct
import time
from collections.abc import Callable, Collection
from pathlib import Path

from provision.errors import Unavailable
from provision.lab.lans import Lan, inside
from provision.net.filters import attach

# linux/if_packet.h, linux/if_ether.h
_SOL_PACKET, _STATISTICS, _OUTGOING, _ALL = 263, 6, 4, 0x0003
_ROOM = 256 << 20
_LARGEST = 1 << 17
# Classic BPF (linux/filter.h): load the packet's type (SKF_AD_OFF + SKF_AD_PKTTYPE), keep what the switch sends out.
_DELIVERED = ((0x20, 0, 0, 0xFFFFF000 + 4), (0x15, 0, 1, _OUTGOING), (0x06, 0, 0, _LARGEST), (0x06, 0, 0, 0))
_MARK = bytes.fromhex("0200000000fd 0200000000fc 88b5")


def ports_of(lan: Lan) -> list[str]:
    """The switch's ports, as they are plugged in now."""
    with inside(lan.namespace):
        text = Path("/proc/thread-self/net/dev").read_text()
    return re.findall(r"^\s*((?:p|tap)\d+):", text, re.MULTILINE)


class Ports:
    """Recordings of all ports of a LAN that exist now, but those of `but`. `take()` gives what came since the last
    time."""

    def __init__(self, lan: Lan, but: Collection[str] = ()) -> None:
        self._send: Callable[[bytes], None] = lan.send
        self._sockets: dict[str, socket.socket] = {}
        with inside(lan.namespace):
            for port in sorted(set(ports_of(lan)) - set(but)):
                sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
                sock.setsockopt(socket.SOL_SOCKET, 33, _ROOM)  # SO_RCVBUFFORCE
                attach(sock, _DELIVERED)
                sock.bind((port, _ALL))
                sock.setblocking(False)
                self._sockets[port] = sock

    def close(self) -> None:
        """End the recordings."""
        for sock in self._sockets.values():
            sock.close()

    def take(self) -> dict[str, list[bytes]]:
        """The frames that were delivered to each port since the last call, in order; raises Unavailable when one was
        lost."""
        taken, lost = self._taken()
        for port, dropped in lost.items():
            if dropped:
                raise Unavailable(port, f"its recording lost {dropped} frames", "run it again")
        return {port: [frame for frame in frames if not frame.startswith(_MARK)] for port, frames in taken.items()}

    def forget(self) -> None:
        """Let go of what came since the last call; of that nothing is to be proved, so frames may have been lost."""
        self._taken()

    def _taken(self) -> tuple[dict[str, list[bytes]], dict[str, int]]:
        """The frames of each port, and how many the kernel has dropped of them."""
        mark = _MARK + secrets.token_bytes(46)
        self._send(mark)
        taken = {port: self._drain(port, sock) for port, sock in self._sockets.items()}
        counts = {
            port: struct.unpack("II", sock.getsockopt(_SOL_PACKET, _STATISTICS, 8))[1]
            for port, sock in self._sockets.items()
        }
        return taken, counts

    def _drain(self, port: str, sock: socket.socket) -> list[bytes]:
        frames: list[bytes] = []
        while True:
            try:
                frames.append(sock.recv(_LARGEST))
            except BlockingIOError:
                return frames
            except OSError as error:
                if error.errno == 100:  # ENETDOWN: told once, when the port goes down
                    continue
                raise


def write_pcap(path: Path, frames: list[bytes]) -> None:
    """Keep frames for a later look, in the classic pcap format."""
    now = int(time.monotonic())
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, _LARGEST, 1))
        for frame in frames:
            file.write(struct.pack("<IIII", now, 0, len(frame), len(frame)) + frame)
