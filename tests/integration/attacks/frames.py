"""Ethernet frames made and taken apart by hand: ARP (RFC 826), IPv4 (RFC 791), UDP, TCP (RFC 9293), ICMP (RFC 792).

An attacker here has no address of its own that the kernel would know: what it sends and how it answers is all its own.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

BROADCAST = b"\xff" * 6
NOBODY = bytes(6)
ARP, IPV4 = 0x0806, 0x0800
ICMP, TCP, UDP = 1, 6, 17
REQUEST, REPLY = 1, 2
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16


def octets(mac: str) -> bytes:
    """The six bytes of "52:54:00:…"."""
    return bytes.fromhex(mac.replace(":", ""))


def packed(address: str) -> bytes:
    """The four bytes of a dotted address."""
    return socket.inet_aton(address)


def dotted(address: bytes) -> str:
    """Four bytes as a dotted address."""
    return socket.inet_ntoa(address)


def ethernet(destination: bytes, source: bytes, kind: int, payload: bytes) -> bytes:
    """A frame, filled up to 60 bytes."""
    return (destination + source + struct.pack("!H", kind) + payload).ljust(60, b"\0")


def arp(operation: int, sender: tuple[bytes, str], target: tuple[bytes, str]) -> bytes:
    """The payload of an ARP packet; each side is (MAC, address)."""
    head = struct.pack("!HHBBH", 1, IPV4, 6, 4, operation)
    return head + sender[0] + packed(sender[1]) + target[0] + packed(target[1])


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ipv4(source: str, destination: str, protocol: int, payload: bytes) -> bytes:
    """An IPv4 packet that is not to be fragmented."""
    ends = packed(source) + packed(destination)
    head = struct.pack("!BBHHHBB", 0x45, 0, 20 + len(payload), 0, 0x4000, 64, protocol)
    return head + struct.pack("!H", checksum(head + b"\0\0" + ends)) + ends + payload


def udp(source: tuple[str, int], destination: tuple[str, int], payload: bytes) -> bytes:
    """An IPv4 packet with a datagram (without a checksum, as RFC 768 allows)."""
    head = struct.pack("!HHHH", source[1], destination[1], 8 + len(payload), 0)
    return ipv4(source[0], destination[0], UDP, head + payload)


def tcp(
    source: tuple[str, int],
    destination: tuple[str, int],
    flags: int,
    numbers: tuple[int, int],
    payload: bytes = b"",
) -> bytes:
    """An IPv4 packet with a TCP segment; `numbers` are sequence and acknowledgment."""
    sequence, acknowledged = (number & 0xFFFFFFFF for number in numbers)
    head = struct.pack("!HHIIBBH", source[1], destination[1], sequence, acknowledged, 5 << 4, flags, 0xFFFF)
    pseudo = packed(source[0]) + packed(destination[0]) + struct.pack("!BBH", 0, TCP, 20 + len(payload))
    total = checksum(pseudo + head + b"\0\0\0\0" + payload)
    return ipv4(source[0], destination[0], TCP, head + struct.pack("!HH", total, 0) + payload)


def unreachable(source: str, destination: str, quoted: bytes) -> bytes:
    """An IPv4 packet with ICMP "port unreachable" about the packet that it quotes."""
    body = struct.pack("!BBHI", 3, 3, 0, 0) + quoted[:28]
    body = body[:2] + struct.pack("!H", checksum(body)) + body[4:]
    return ipv4(source, destination, ICMP, body)


@dataclass(frozen=True)
class Packet:
    """A frame taken apart. Of ARP `source` and `destination` are the protocol addresses and `flags` the operation."""

    hardware: bytes
    kind: int
    source: str = ""
    destination: str = ""
    protocol: int = 0
    ports: tuple[int, int] = (0, 0)
    numbers: tuple[int, int] = (0, 0)
    flags: int = 0
    payload: bytes = b""


def parse(frame: bytes) -> Packet | None:
    """The frame as a packet; None for what is neither ARP nor IPv4 with UDP or TCP."""
    if len(frame) < 42:
        return None
    hardware, (kind,) = frame[6:12], struct.unpack_from("!H", frame, 12)
    if kind == ARP:
        (operation,) = struct.unpack_from("!H", frame, 20)
        source, destination = dotted(frame[28:32]), dotted(frame[38:42])
        return Packet(hardware, kind, source, destination, flags=operation)
    if kind != IPV4:
        return None
    total, protocol, start = *struct.unpack_from("!H5xB", frame, 16), 14 + (frame[14] & 15) * 4
    body = frame[start : 14 + total] if total else frame[start:]
    ends = dotted(frame[26:30]), dotted(frame[30:34])
    if protocol == UDP and len(body) >= 8:
        ports = struct.unpack_from("!HH", body)
        return Packet(hardware, kind, *ends, protocol, (ports[0], ports[1]), payload=body[8:])
    if protocol == TCP and len(body) >= 20:
        sport, dport, sequence, acknowledged, offset, flags = struct.unpack_from("!HHIIBB", body)
        numbers, payload = (sequence, acknowledged), body[(offset >> 4) * 4 :]
        return Packet(hardware, kind, *ends, protocol, (sport, dport), numbers, flags, payload)
    return None
