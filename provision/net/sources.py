"""Which sources a listening socket hears at all: those that answers can go back to by its own interface.

A socket that is bound to a device answers whatever it hears by that device, and where no route leads there, the kernel
takes the peer for a neighbour and asks for it by ARP. So each forged source would cost an entry in the neighbour table,
which all networks share. A filter on the socket drops such packets before the kernel has answered a SYN; it asks what
rp_filter=1 asks, of this socket only, and needs no privilege.
"""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, collapse_addresses

_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
# linux/filter.h: load a word of the packet; copy A to X, and back; "and" with, and compare to, a constant; return.
_LD_W_ABS, _TAX, _TXA, _AND, _JEQ, _RET = 0x20, 0x07, 0x87, 0x54, 0x15, 0x06
_SKF_NET_OFF = -0x100000 & 0xFFFFFFFF
_SOURCE = 12
"""Where the source address stands in an IPv4 header, in bytes (RFC 791)."""
_WHOLE = 0xFFFFFFFF
_MOST = 1000
"""So many prefixes fit into a filter (4,096 instructions)."""

LOOPBACK = IPv4Network("127.0.0.0/8")


def hears(routed: Iterable[IPv4Network], own: Iterable[IPv4Address]) -> tuple[IPv4Network, ...]:
    """What a socket has to hear: prefixes that are routed by its interface, and this server itself, which costs no
    neighbour and is told why it gets nothing. Sorted, without overlaps; pure."""
    return tuple(collapse_addresses([*routed, LOOPBACK, *(IPv4Network(address) for address in own)]))


def program(prefixes: Sequence[IPv4Network]) -> bytes:
    """The filter (struct sock_filter) that lets IPv4 packets from these prefixes through."""
    steps = [(_LD_W_ABS, 0, 0, (_SKF_NET_OFF + _SOURCE) & _WHOLE), (_TAX, 0, 0, 0)]
    for prefix in prefixes:
        steps += [(_TXA, 0, 0, 0), (_AND, 0, 0, int(prefix.netmask))]
        steps += [(_JEQ, 0, 1, int(prefix.network_address)), (_RET, 0, 0, _WHOLE)]
    return b"".join(struct.pack("=HBBI", *step) for step in [*steps, (_RET, 0, 0, 0)])


def hear_only(sock: socket.socket, prefixes: Sequence[IPv4Network]) -> None:
    """From now on `sock` (UDP, or listening TCP) hears packets from these prefixes only. Raises OSError.

    An interface with a default route answers everybody by it, and one with more than a thousand prefixes is no
    management LAN: then there is no filter.
    """
    if len(prefixes) > _MOST or any(prefix.prefixlen == 0 for prefix in prefixes):
        with contextlib.suppress(FileNotFoundError):  # there was none
            sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
        return
    code = program(prefixes)
    buffer = ctypes.create_string_buffer(code, len(code))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(code) // 8, ctypes.addressof(buffer)))
