"""Which interfaces the rest of the world is reached by: default routes, whole or in pieces, in any routing table."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from pyroute2.netlink import rtnl

from provision.net import netlink

Prefix = IPv4Network | IPv6Network

WIDE = 1 / 16
"""The share of the public addresses from which on an interface's routes are a default route, in however many pieces.

It is far above what a site routes to a LAN (fourteen of IPv4's /8), and far below a half, a quarter or an eighth.
"""

_LONGEST = {4: 24, 6: 48}
"""Longer prefixes are not counted: a million of them would be needed."""
_RTN_UNICAST = 1
_RTPROT_RA = 9
_RTM_F_CLONED = 0x200


def _span(prefix: Prefix) -> tuple[int, int]:
    first = int(prefix.network_address)
    return first, first + prefix.num_addresses


# IPv4: all but 0/8, 10/8, 127/8 and what begins at 224 (multicast, reserved). IPv6: global unicast (RFC 4291).
_PUBLIC = {
    4: tuple((a << 24, b << 24) for a, b in ((1, 10), (11, 127), (128, 224))),
    6: (_span(IPv6Network("2000::/3")),),
}


@dataclass(frozen=True)
class Route:
    """A unicast route to `prefix` by the interface with index `oif`; 0 when the message does not name one."""

    prefix: Prefix
    oif: int


def parse(message: Any) -> Iterator[Route]:
    """The routes in one message of the kernel; several for a route with several next hops."""
    if not _counts(message) or message["flags"] & _RTM_F_CLONED:
        return
    nothing = "0.0.0.0" if message["family"] == socket.AF_INET else "::"
    prefix = ip_network(f"{message.get_attr('RTA_DST') or nothing}/{message['dst_len']}")
    several = message.get_attr("RTA_MULTIPATH") or ()
    for oif in [message.get_attr("RTA_OIF"), *(hop["oif"] for hop in several)]:
        if oif:
            yield Route(prefix, int(oif))
    if not several and not message.get_attr("RTA_OIF"):
        yield Route(prefix, 0)  # by a next-hop object, and net.ipv4.nexthop_compat_mode is 0


def look(indices: Iterable[int]) -> Mapping[int, tuple[Prefix, ...]]:
    """The prefixes that are routed by each of these interfaces, in all tables (also those of VRFs and rules).

    A route of which the kernel does not say by which interface it goes counts for every one of them.
    """
    found: dict[int, list[Prefix]] = {index: [] for index in indices}
    for family in (socket.AF_INET, socket.AF_INET6):
        for message in netlink.dump(rtnl.RTM_GETROUTE, family):
            for route in parse(message):
                for index in [route.oif] if route.oif else list(found):
                    found.setdefault(index, []).append(route.prefix)
    return {index: tuple(prefixes) for index, prefixes in found.items()}


def matters(message: Any) -> bool:
    """Whether a notification of a route can change which one is a default route: all but those to single hosts and
    small networks."""
    return _counts(message) and bool(message["dst_len"] <= _LONGEST[_version(message["family"])])


def _counts(message: Any) -> bool:
    """Routes that lead somewhere, and that somebody has set. One that a router advertised (RFC 4861) says nothing: any
    machine on the LAN could have every network there cut off by it. See `sysctls.advise`."""
    return bool(message["type"] == _RTN_UNICAST and message["proto"] != _RTPROT_RA)


def is_default(prefixes: Iterable[Prefix]) -> bool:
    """Whether these prefixes together reach a `WIDE` share of the public addresses of IPv4 or IPv6. Pure."""
    listed = [one for one in prefixes if one.prefixlen <= _LONGEST[one.version]]
    return any(_share([one for one in listed if one.version == version], version) >= WIDE for version in (4, 6))


def _share(prefixes: Iterable[Prefix], version: int) -> float:
    public = _PUBLIC[version]
    covered = 0
    for first, end in _merged(prefixes):
        covered += sum(max(0, min(end, limit) - max(first, start)) for start, limit in public)
    return covered / sum(limit - start for start, limit in public)


def _merged(prefixes: Iterable[Prefix]) -> Iterator[tuple[int, int]]:
    """The same addresses as sorted spans that do not overlap."""
    current: tuple[int, int] | None = None
    for first, end in sorted(map(_span, prefixes)):
        if current is not None and first <= current[1]:
            current = current[0], max(current[1], end)
        else:
            if current is not None:
                yield current
            current = first, end
    if current is not None:
        yield current


def _version(family: int) -> int:
    return 4 if family == socket.AF_INET else 6
