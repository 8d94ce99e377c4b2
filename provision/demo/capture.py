"""What a wire carried: a packet capture in the classic pcap format (draft-ietf-opsawg-pcap, microseconds), read back.

A secret may straddle packets, so bytes are searched for in the file itself and in every flow put together again.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from provision.demo.processes import Process
from provision.errors import Unavailable

_MAGIC = 0xA1B2C3D4
_IPV4, _IPV6, _VLAN = 0x0800, 0x86DD, (0x8100, 0x88A8)
_TCP, _UDP = 6, 17

Flow = tuple[bytes, bytes, int, int, int]
"""Source and destination address (4 or 16 bytes), IP protocol, source and destination port."""


class Capture:
    """A recording of one LAN, complete once `stop()` has been called or its context has been left."""

    def __init__(self, path: Path, process: Process) -> None:
        self.path, self._process = path, process

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the recording; raises Unavailable when frames were lost, for then it proves nothing."""
        if not self._process.running:
            return
        self._process.stop()
        dropped = [line for line in self._process.text.splitlines() if "dropped by kernel" in line]
        if not dropped or not dropped[-1].startswith("0 "):
            raise Unavailable(self.path.name, f"the capture is incomplete ({dropped or 'no count'})", "run it again")

    def frames(self) -> list[bytes]:
        """Every Ethernet frame, in order."""
        return list(frames(self.path.read_bytes()))

    def contains(self, needle: bytes) -> bool:
        """Whether `needle` crossed this LAN, in one packet or over several of one flow."""
        return contains(self.path.read_bytes(), needle)


def frames(data: bytes) -> Iterator[bytes]:
    """The frames of a pcap file; a last one that is cut short is left out. Raises ValueError for another format."""
    order = "<" if data[:4] == struct.pack("<I", _MAGIC) else ">"
    if struct.unpack_from(f"{order}I", data) != (_MAGIC,):
        raise ValueError("not a classic pcap file with microseconds")
    position = 24
    while position + 16 <= len(data):
        _seconds, _micros, length, _full = struct.unpack_from(f"{order}IIII", data, position)
        frame = data[position + 16 : position + 16 + length]
        if len(frame) == length:
            yield frame
        position += 16 + length


def contains(data: bytes, needle: bytes) -> bool:
    """Whether a pcap file has `needle` in its bytes, or in the payload of one of its flows."""
    if not needle:
        raise ValueError("an empty needle is in every capture")
    return needle in data or any(needle in payload for payload in flows(frames(data)).values())


def flows(packets: Iterator[bytes]) -> dict[Flow, bytes]:
    """The payload of every TCP and UDP flow, one direction each.

    TCP (RFC 9293) is put in the order of its sequence numbers, what was sent again counted once; UDP is put in the
    order of arrival. TFTP's and other headers inside UDP stay, so UDP payloads are joined without their first four
    bytes under a second key, with the protocol number negated.
    """
    streams: dict[Flow, list[tuple[int, bytes]]] = defaultdict(list)
    datagrams: dict[Flow, list[bytes]] = defaultdict(list)
    for packet in packets:
        parsed = _transport(packet)
        if parsed is None:
            continue
        source, destination, protocol, body = parsed
        if protocol == _TCP and len(body) >= 20:
            sport, dport, sequence = struct.unpack_from("!HHI", body)
            payload = body[(body[12] >> 4) * 4 :]
            if payload:
                streams[(source, destination, protocol, sport, dport)].append((sequence, payload))
        elif protocol == _UDP and len(body) >= 8:
            sport, dport = struct.unpack_from("!HH", body)
            datagrams[(source, destination, protocol, sport, dport)].append(body[8:])
    result = {flow: _stream(segments) for flow, segments in streams.items()}
    for (source, destination, protocol, sport, dport), payloads in datagrams.items():
        result[(source, destination, protocol, sport, dport)] = b"".join(payloads)
        result[(source, destination, -protocol, sport, dport)] = b"".join(payload[4:] for payload in payloads)
    return result


def _transport(packet: bytes) -> tuple[bytes, bytes, int, bytes] | None:
    """Addresses, protocol and transport packet of an Ethernet frame; None for anything but unfragmented IP."""
    position = 12
    (kind,) = struct.unpack_from("!H", packet, position)
    while kind in _VLAN:
        position += 4
        (kind,) = struct.unpack_from("!H", packet, position)
    packet = packet[position + 2 :]
    if kind == _IPV4 and len(packet) >= 20:
        total, fragment = struct.unpack_from("!H", packet, 2)[0], struct.unpack_from("!H", packet, 6)[0]
        header = (packet[0] & 15) * 4
        return None if fragment & 0x3FFF else (packet[12:16], packet[16:20], packet[9], packet[header : total or None])
    if kind == _IPV6 and len(packet) >= 40:
        return packet[8:24], packet[24:40], packet[6], packet[40:]
    return None


def _stream(segments: list[tuple[int, bytes]]) -> bytes:
    base = segments[0][0]
    # Sequence numbers wrap at 2**32; the first segment seen need not be the first sent.
    ordered = sorted(((seq - base + 2**31) % 2**32 - 2**31, data) for seq, data in segments)
    result, end = bytearray(), ordered[0][0]
    for offset, data in ordered:
        if offset + len(data) > end:
            result += data[max(0, end - offset) :]
            end = offset + len(data)
    return bytes(result)
