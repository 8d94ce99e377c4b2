"""ARP over Ethernet (RFC 826): unicast polls of a recorded MAC (RFC 1122 section 2.3.2.1), and who really answered.

The kernel believes the addresses *inside* an ARP packet. A switch goes by the ones on the frame, so a machine that
answers in another's name keeps its own there, and is seen.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from provision.net.filters import MOST, Instruction, jump, load_byte_pair, ret, take_from

ETHERTYPE = 0x0806
REQUEST, REPLY = 1, 2

_FRAME = struct.Struct("!6s6sHHHBBH6s4s6s4s")
_ETHERNET, _IPV4 = 1, 0x0800
_MINIMUM = 60  # bytes of the shortest Ethernet frame, without its check sequence


def mac_bytes(mac: str) -> bytes:
    """The six bytes of "52:54:00:…"."""
    return bytes.fromhex(mac.replace(":", ""))


@dataclass(frozen=True)
class Reply:
    """An ARP reply: who sent the frame, and whose binding it tells to whom. MACs and addresses are bytes."""

    source: bytes
    destination: bytes
    sender_mac: bytes
    sender: bytes
    target: bytes


def request(own_mac: bytes, own: bytes, mac: bytes, address: bytes) -> bytes:
    """The frame that asks `mac` alone whether it has `address`; `own` is what the answer is to go to."""
    frame = _FRAME.pack(mac, own_mac, ETHERTYPE, _ETHERNET, _IPV4, 6, 4, REQUEST, own_mac, own, b"\0" * 6, address)
    return frame.ljust(_MINIMUM, b"\0")


def parse(frame: bytes) -> Reply | None:
    """The reply that a frame is, or None for anything else."""
    if len(frame) < _FRAME.size:
        return None
    to, source, ether, hardware, protocol, maclen, addrlen, op, mac, sender, _, target = _FRAME.unpack_from(frame)
    if (ether, hardware, protocol, maclen, addrlen, op) != (ETHERTYPE, _ETHERNET, _IPV4, 6, 4, REPLY):
        return None
    return Reply(source, to, mac, sender, target)


def replies_of(macs: Iterable[bytes]) -> list[Instruction]:
    """A filter for a packet socket that takes ARP replies in frames from these MACs only, so that nobody else can
    wake what waits for one. Too many for a filter must not make it miss one: then it takes every reply."""
    wanted = sorted(set(macs))
    if not wanted:
        return [ret(False)]
    program = [load_byte_pair(20), jump(REPLY, yes=1, no=0), ret(False)]
    each = [step for mac in wanted for step in take_from(mac)]
    if len(program) + len(each) >= MOST:
        return [*program, ret(True)]
    return [*program, *each, ret(False)]
