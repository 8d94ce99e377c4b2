"""A neighbour that asks who has an address, in raw frames: ARP (RFC 826) and neighbour solicitation (RFC 4861).

Frames may carry an 802.1Q tag, which the machine that runs the tests need not know how to make an interface of.
"""

from __future__ import annotations

import struct
import time
from ipaddress import IPv4Address, IPv6Address, ip_address

from provision.lab.lans import Lan

_MAC = bytes.fromhex("020000770002")
_ARP, _IPV6, _TAG = b"\x08\x06", b"\x86\xdd", b"\x81\x00"
_ICMPV6, _SOLICIT, _ADVERTISE = 58, 135, 136


def who_has(lan: Lan, address: str, asker: str, tag: int | None = None, timeout: float = 10.0) -> str:
    """The MAC that answers for `address` on the LAN, or on the VLAN `tag` of it; `asker` is an address beside it.

    Raises AssertionError when nobody answers within `timeout` seconds.
    """
    question = _frame(address, asker, tag)
    end = time.monotonic() + timeout
    with lan.capture() as capture:
        while time.monotonic() < end:
            lan.send(question)
            time.sleep(0.3)
            for frame in capture.frames():
                if _answers(frame, address, tag):
                    return frame[6:12].hex(":")
    raise AssertionError(f"nobody has {address} on {lan.name}, VLAN {tag}")


def _frame(address: str, asker: str, tag: int | None) -> bytes:
    target, own = ip_address(address), ip_address(asker)
    if isinstance(target, IPv4Address):
        body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + _MAC + own.packed + bytes(6) + target.packed
        return _ethernet(b"\xff" * 6, tag, _ARP) + body
    assert isinstance(own, IPv6Address)
    group = IPv6Address("ff02::1:ff00:0").packed[:13] + target.packed[13:]
    message = struct.pack("!BBHI", _SOLICIT, 0, 0, 0) + target.packed + b"\x01\x01" + _MAC
    pseudo = own.packed + group + struct.pack("!II", len(message), _ICMPV6)
    message = message[:2] + struct.pack("!H", _checksum(pseudo + message)) + message[4:]
    header = struct.pack("!IHBB", 6 << 28, len(message), _ICMPV6, 255) + own.packed + group
    return _ethernet(b"\x33\x33" + group[12:], tag, _IPV6) + header + message


def _ethernet(destination: bytes, tag: int | None, kind: bytes) -> bytes:
    return destination + _MAC + (_TAG + struct.pack("!H", tag) if tag else b"") + kind


def _answers(frame: bytes, address: str, tag: int | None) -> bool:
    packed, position = ip_address(address).packed, 12
    if tag:
        if frame[12:14] != _TAG or struct.unpack_from("!H", frame, 14)[0] & 0xFFF != tag:
            return False
        position = 16
    kind, body = frame[position : position + 2], frame[position + 2 :]
    if len(packed) == 4:
        return kind == _ARP and body[6:8] == b"\0\2" and body[14:18] == packed
    return kind == _IPV6 and body[6] == _ICMPV6 and body[40] == _ADVERTISE and body[48:64] == packed


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF
