"""Captures find what a wire carried."""

from __future__ import annotations

import socket
import struct

import pytest

from provision.lab import capture
from provision.lab.lans import Lab, inside

SECRET = b"canary-" + bytes(range(40))


@pytest.mark.integration
def test_a_secret_that_straddles_packets_is_found(lab: Lab) -> None:
    mgmt = lab.lan("mgmt", "10.77.1.0/24")
    near = mgmt.host("near", "10.77.1.9/24")
    with mgmt.capture() as wire, inside(lab.server):
        listener = socket.create_server(("10.77.1.1", 0))
        with inside(near), socket.create_connection(listener.getsockname()) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            server, _ = listener.accept()
            for byte in SECRET:
                server.send(bytes([byte]))
            server.close()
            assert client.makefile("rb").read() == SECRET
        listener.close()
    assert SECRET not in wire.path.read_bytes()
    assert wire.contains(SECRET) and not wire.contains(SECRET + b"!")


def pcap(*frames: bytes) -> bytes:
    records = b"".join(struct.pack("<IIII", 0, 0, len(f), len(f)) + f for f in frames)
    return struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1) + records


def frame(protocol: int, body: bytes, *, vlan: bool = False, fragment: int = 0) -> bytes:
    tag = b"\x81\x00\x00\x07" if vlan else b""
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 7, fragment, 64, protocol, 0)
    return bytes(12) + tag + b"\x08\x00" + header + bytes([10, 0, 0, 1, 10, 0, 0, 2]) + body


def tcp(sequence: int, payload: bytes) -> bytes:
    return struct.pack("!HHIIHHHH", 80, 5000, sequence % 2**32, 0, 5 << 12, 0, 0, 0) + payload


def test_tcp_is_put_in_order_across_repeats_and_the_wrap_of_sequence_numbers() -> None:
    start = 2**32 - 5
    segments = [(0, b"abcde"), (8, b"ijklm"), (0, b"abcde"), (5, b"fgh"), (3, b"defgh")]
    data = pcap(*(frame(6, tcp(start + offset, payload), vlan=offset == 5) for offset, payload in segments))
    assert capture.contains(data, b"abcdefghijklm")
    assert not capture.contains(data, b"abcdeabcde")


def test_tftp_blocks_and_ip_fragments_are_joined() -> None:
    block = [struct.pack("!HHHHHH", 69, 5001, 0, 0, 3, n) + part for n, part in ((1, b"sec"), (2, b"ret"))]
    assert capture.contains(pcap(*(frame(17, b) for b in block)), b"secret")
    whole = struct.pack("!HHHH", 69, 5001, 0, 0) + b"x" * 14 + b"split-here"
    parts = frame(17, whole[:24], fragment=0x2000), frame(17, whole[24:], fragment=3)
    assert capture.contains(pcap(*parts), b"split-here")
    assert capture.contains(pcap(*reversed(parts)), b"split-here")


def test_a_capture_cut_short_is_read_as_far_as_it_goes() -> None:
    assert len(list(capture.frames(pcap(b"a" * 60, b"b" * 60)[:-1]))) == 1
    with pytest.raises(ValueError, match="pcap"):
        list(capture.frames(bytes(40)))
