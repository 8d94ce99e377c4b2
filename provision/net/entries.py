"""Permanent neighbour entries of our own (RTM_NEWNEIGH, rtnetlink(7)): made, and turned back into ordinary ones.

They carry a protocol number of ours, by which what a killed process left behind is found again. Written without
pyroute2, which is larger than all of the process that needs this.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from provision.net import attributes

OURS = 80
"""The protocol number (NDA_PROTOCOL) of our entries; iproute2's rt_protos has no name for it."""

_NEWNEIGH, _GETNEIGH, _ERROR, _DONE = 28, 30, 2, 3
_REQUEST, _ACK, _REPLACE, _CREATE, _DUMP = 0x1, 0x4, 0x100, 0x400, 0x300
_STALE, _PERMANENT = 0x04, 0x80
_DST, _LLADDR, _PROTOCOL = 1, 2, 12
_HEADER, _BODY = struct.Struct("=IHHII"), struct.Struct("=BxxxiHBB")


@dataclass(frozen=True, order=True)
class Entry:
    """A neighbour: interface index, IPv4 address (4 bytes), MAC (6 bytes)."""

    ifindex: int
    address: bytes
    mac: bytes


class Entries:
    """The kernel's table, by a socket of its own. To write needs CAP_NET_ADMIN, when it is written."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.settimeout(5.0)

    def pin(self, entry: Entry) -> None:
        """From now on packets for the address go to that MAC, whatever ARP says. Raises OSError."""
        self._set(entry, _PERMANENT, _CREATE | _REPLACE)

    def release(self, entry: Entry) -> None:
        """Make it an ordinary entry again, which has to be confirmed; one that is gone is nothing to do."""
        with contextlib.suppress(OSError):
            self._set(entry, _STALE, _REPLACE)

    def sweep(self) -> None:
        """Release whatever a process before us left. Raises OSError."""
        for entry in list(self._ours()):
            self.release(entry)

    def _set(self, entry: Entry, state: int, flags: int) -> None:
        body = _BODY.pack(socket.AF_INET, entry.ifindex, state, 0, 0)
        named = ((_DST, entry.address), (_LLADDR, entry.mac), (_PROTOCOL, bytes([OURS])))
        body += b"".join(attributes.pack(kind, value) for kind, value in named)
        self._send(_NEWNEIGH, _REQUEST | _ACK | flags, body)
        for kind, data in self._messages():
            if kind == _ERROR:
                (code,) = struct.unpack_from("=i", data)
                if code:
                    raise OSError(-code, os.strerror(-code))
                return

    def _ours(self) -> Iterator[Entry]:
        self._send(_GETNEIGH, _REQUEST | _DUMP, _BODY.pack(socket.AF_INET, 0, 0, 0, 0))
        for kind, data in self._messages():
            if kind in (_DONE, _ERROR):
                return
            _family, ifindex, state, _flags, _type = _BODY.unpack_from(data)
            found = dict(attributes.unpack(data[_BODY.size :]))
            if state & _PERMANENT and found.get(_PROTOCOL) == bytes([OURS]) and {_DST, _LLADDR} <= found.keys():
                yield Entry(ifindex, found[_DST], found[_LLADDR])

    def _send(self, kind: int, flags: int, body: bytes) -> None:
        self._socket.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, 1, 0) + body)

    def _messages(self) -> Iterator[tuple[int, bytes]]:
        """Types and bodies of what the kernel answers, without end: the caller knows the last one."""
        while True:
            data, sender = self._socket.recvfrom(1 << 16)
            while sender[0] == 0 and len(data) >= _HEADER.size:
                length, kind, _flags, _sequence, _port = _HEADER.unpack_from(data)
                yield kind, data[_HEADER.size : length]
                data = data[(length + 3) & ~3 :]
