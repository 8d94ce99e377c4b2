"""What a wire carried: a packet capture in the classic pcap format (draft-ietf-opsawg-pcap, microseconds), read back.

A secret may straddle packets, so bytes are searched for in the file itself and in every flow put together again.

Read by hand: dpkt would take apart single packets, which is the smaller part of this, and refuses odd ones that an
attack has sent. It puts neither fragments nor streams together, and a search that leaves a packet out proves nothing.
"""

from __future__ import annotations

import secrets
import struct
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

from provision.errors import Unavailable
from provision.lab.processes import POLL, Process

_MAGIC = 0xA1B2C3D4
_IPV4, _IPV6, _VLAN = b"\x08\x00", b"\x86\xdd", (b"\x81\x00", b"\x88\xa8")
_TCP, _UDP = 6, 17
# To nobody (a locally administered address), from nobody, EtherType "local experimental" (IEEE 802).
_MARK = bytes.fromhex("0200000000ff 0200000000fe 88b5")

Flow = tuple[bytes, bytes, int, int, int]
"""Source and destination address (4 or 16 bytes), IP protocol, source and destination port."""


class Capture:
    """A recording of one LAN, complete once `stop()` has been called or its context has been left.

    `send` puts a frame on that LAN. A last frame that is seen to arrive in the file shows that nothing before it is
    still on the way there.
    """

    def __init__(self, path: Path, process: Process, send: Callable[[bytes], None]) -> None:
        self.path, self._process, self._send = path, process, send

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the recording; raises Unavailable when frames were lost, for then it proves nothing."""
        if not self._process.running:
            return
        last, begin = _MARK + secrets.token_bytes(46), self.path.stat().st_size
        self._send(last)
        end = time.monotonic() + 10
        while last not in self._from(begin):  # other frames may follow it
            if time.monotonic() > end:
                raise Unavailable(self.path.name, "the capture does not see its own last frame", "run it again")
            time.sleep(POLL)
        self._process.stop()
        dropped = [line for line in self._process.text.splitlines() if "dropped by kernel" in line]
        if not dropped or not dropped[-1].startswith("0 "):
            raise Unavailable(self.path.name, f"the capture is incomplete ({dropped or 'no count'})", "run it again")

    def _from(self, position: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(position)
            return file.read()

    def frames(self) -> list[bytes]:
        """Every Ethernet frame, in order."""
        return [frame for frame in frames(self.path.read_bytes()) if not frame.startswith(_MARK)]

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
    for packet in _whole(packets):
        source, destination, protocol, body = _transport(packet)
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


def _whole(packets: Iterator[bytes]) -> Iterator[bytes]:
    """IP packets out of Ethernet frames, IPv4 fragments put together (RFC 791 section 3.2)."""
    parts: dict[bytes, dict[int, bytes]] = defaultdict(dict)
    for frame in packets:
        position = 12
        while frame[position : position + 2] in _VLAN:
            position += 4
        kind, packet = frame[position : position + 2], frame[position + 2 :]
        if kind == _IPV6 and len(packet) >= 40:
            yield packet
        if kind != _IPV4 or len(packet) < 20:
            continue
        total, identification, fragment = struct.unpack_from("!HHH", packet, 2)
        header = (packet[0] & 15) * 4
        packet = packet[: total or None]
        if not fragment & 0x3FFF:
            yield packet
            continue
        # The last one seen counts; a set with holes is never complete, and then only the raw bytes are searched.
        key = packet[9:10] + packet[12:20] + struct.pack("!H", identification)
        known = parts[key]
        known[(fragment & 0x1FFF) * 8] = packet[header:]
        if not fragment & 0x2000:
            known[-1] = packet[:header]
        body = b"".join(data for offset, data in sorted(known.items()) if offset >= 0)
        if -1 in known and 0 in known:
            yield known[-1] + body


def _transport(packet: bytes) -> tuple[bytes, bytes, int, bytes]:
    """Addresses, protocol and transport packet of a whole IP packet."""
    if packet[0] >> 4 == 4:
        return packet[12:16], packet[16:20], packet[9], packet[(packet[0] & 15) * 4 :]
    return packet[8:24], packet[24:40], packet[6], packet[40:]


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
