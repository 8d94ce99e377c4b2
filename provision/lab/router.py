"""Answers IPv6 router solicitations (RFC 4861, sections 4.1 and 4.2) with "no router, no prefix, no DHCPv6 here".

iPXE asks for a router before it loads anything and waits 16 seconds for an answer, which most sites' switches give.
"""

from __future__ import annotations

import socket
import struct
import threading

_ETH_P_IPV6 = 0x86DD
_ICMPV6 = 58
_SOLICITATION, _ADVERTISEMENT = 133, 134
_MAC = bytes.fromhex("02000000a1fe")
_ADDRESS = socket.inet_pton(socket.AF_INET6, "fe80::a1fe")
_ALL_NODES = socket.inet_pton(socket.AF_INET6, "ff02::1")
_ALL_NODES_MAC = bytes.fromhex("333300000001")


class Router:
    """Answers on an interface of the network namespace in which it is made, until `close()`."""

    def __init__(self, interface: str) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_IPV6))
        self._socket.bind((interface, _ETH_P_IPV6))
        self._socket.settimeout(0.2)
        self._open = True
        self._thread = threading.Thread(target=self._answer, name="router", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        self._open = False
        self._thread.join()
        self._socket.close()

    def _answer(self) -> None:
        while self._open:
            try:
                frame = self._socket.recv(2048)
                if is_solicitation(frame):
                    self._socket.send(advertisement())
            except TimeoutError:
                continue
            except OSError:
                # The LAN is being taken down.
                return


def is_solicitation(frame: bytes) -> bool:
    """Whether an Ethernet frame is a router solicitation without IPv6 extension headers."""
    return len(frame) >= 62 and frame[12:14] == b"\x86\xdd" and frame[20] == _ICMPV6 and frame[54] == _SOLICITATION


def advertisement() -> bytes:
    """The Ethernet frame of an advertisement to all nodes: router lifetime 0, no flags, no options."""
    body = struct.pack("!BBHBBHII", _ADVERTISEMENT, 0, 0, 64, 0, 0, 0, 0)
    body = body[:2] + struct.pack("!H", checksum(_ADDRESS, _ALL_NODES, body)) + body[4:]
    header = struct.pack("!IHBB", 6 << 28, len(body), _ICMPV6, 255) + _ADDRESS + _ALL_NODES
    return _ALL_NODES_MAC + _MAC + struct.pack("!H", _ETH_P_IPV6) + header + body


def checksum(source: bytes, destination: bytes, body: bytes) -> int:
    """The ICMPv6 checksum (RFC 4443 section 2.3) of a body of even length whose own checksum field is zero."""
    data = source + destination + struct.pack("!II", len(body), _ICMPV6) + body
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
