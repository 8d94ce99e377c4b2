"""Which sources a listening socket hears at all: those that answers can go back to by its own interface.

A socket that is bound to a device answers whatever it hears by that device, and where no route leads there, the kernel
takes the peer for a neighbour and asks for it by ARP. So each forged source would cost an entry in the neighbour table,
which all networks share. A filter on the socket drops such packets before the kernel has answered a SYN; it asks what
rp_filter=1 asks, of this socket only.

It also tells what no address does: whether a packet came from this server itself. By a NAT rule a local process can
have any source address, a host's too; its packets still come from the loopback device, and are heard from the server's
own addresses only. From another NIC no NAT rule leads to a socket that is bound to its device.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, collapse_addresses

from provision.net import filters
from provision.net.filters import Instruction

_SOURCE = 12
"""Where the source address stands in an IPv4 header, in bytes (RFC 791)."""
_LOOPBACK_INDEX = 1
"""In every network namespace."""
_MOST = 900
"""So many prefixes fit into a filter (`filters.MOST`)."""
# linux/tcp.h; the value 2 keeps the packet from its Ethernet header on (since Linux 5.10).
_TCP_SAVE_SYN, _TCP_SAVED_SYN, _FROM_ETHERNET = 27, 28, 2
_LOCAL = IPv4Network("127.0.0.0/8")


@dataclass(frozen=True)
class Sources:
    """What a socket hears: `routed` from its wire, `own` from this server, which is told why it gets nothing."""

    routed: tuple[IPv4Network, ...] = ()
    own: tuple[IPv4Network, ...] = ()


def sources(routed: Iterable[IPv4Network], own: Iterable[IPv4Address]) -> Sources:
    """The sources for prefixes that are routed by an interface, and the server's own addresses. Pure."""
    mine = [_LOCAL, *(IPv4Network(address) for address in own)]
    return Sources(tuple(collapse_addresses(routed)), tuple(collapse_addresses(mine)))


def program(heard: Sources) -> list[Instruction]:
    """The filter that lets IPv4 packets from these sources through.

    An interface with more prefixes than fit is not a management LAN: then the whole wire is heard.
    """
    if len(heard.routed) + len(heard.own) > _MOST:
        heard = Sources((IPv4Network("0.0.0.0/0"),), heard.own[:_MOST])
    own, routed = _only(heard.own), _only(heard.routed)
    steps = [filters.load_word(filters.NETWORK + _SOURCE), filters.keep(), filters.load_word(filters.INTERFACE)]
    return [*steps, filters.jump(_LOOPBACK_INDEX, yes=1, no=0), filters.skip(len(own)), *own, *routed]


def _only(prefixes: Iterable[IPv4Network]) -> list[Instruction]:
    """Take the packet when its source, which was kept, is in one of `prefixes`, else drop it."""
    steps: list[Instruction] = []
    for prefix in prefixes:
        steps += [filters.kept(), filters.mask(int(prefix.netmask))]
        steps += [filters.jump(int(prefix.network_address), yes=0, no=1), filters.ret(True)]
    return [*steps, filters.ret(False)]


def hear_only(sock: socket.socket, heard: Sources) -> None:
    """From now on `sock` (UDP, or listening TCP) hears packets from these sources only. Raises OSError.

    Newer kernels (seen: 6.18) let only CAP_NET_ADMIN put a filter on a TCP socket (`pins.Pins.filter` has it). Without,
    rp_filter=1 has to keep forged sources off, as `sysctls.advise` says, and `by_loopback` tells a connection that
    comes from this server.
    """
    filters.attach(sock, program(heard))


def keep_first_packet(listener: socket.socket) -> None:
    """Let the kernel keep each connection's first packet, from the Ethernet header on. Raises OSError."""
    listener.setsockopt(socket.IPPROTO_TCP, _TCP_SAVE_SYN, _FROM_ETHERNET)


def by_loopback(connection: int) -> bool:
    """Whether an accepted connection (its file descriptor) came in by the loopback device, so from this server itself,
    whatever its address.

    On Ethernet the first packet has a sender's MAC; on the loopback device, zeros. The packet can be asked for once.
    False for a listener that does not keep it.
    """
    try:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, connection)
    except (OSError, ValueError):  # it is closed already
        return False
    try:
        packet = sock.getsockopt(socket.IPPROTO_TCP, _TCP_SAVED_SYN, 256)
    except OSError:
        return False
    finally:
        sock.detach()
    return len(packet) > 14 and packet[:12] == bytes(12)
