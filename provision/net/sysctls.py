"""The kernel's switches that the rules look at, and those that a management network is better off with.

A file that is not there says nothing: the interface has gone, IPv6 is not built in, or the switch is not shown in this
network namespace (net.ipv4.neigh.default in all but the first one). Then nothing is claimed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

_NET = Path("/proc/sys/net")
_FOR_ALL = ("rp_filter", "arp_ignore", "arp_accept")
"""Of these the kernel uses the larger of the interface's value and that of "all"."""

ROOM = 256
"""Neighbours of other networks, and of others' prefixes that pass through, beside those of a management prefix."""


@dataclass(frozen=True)
class Advice:
    """A switch that should be set otherwise; the network is served all the same. `str()` is one line."""

    fact: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.fact}; {self.remedy}"


def _number(path: str) -> int | None:
    try:
        return int((_NET / path).read_text())
    except (OSError, ValueError):
        return None


def forwards(interface: str) -> bool:
    """Whether IPv4 packets that come in by the interface are forwarded."""
    return _number(f"ipv4/conf/{interface}/forwarding") == 1


def forwards6(interface: str) -> bool:
    """Whether IPv6 packets that come in by the interface are forwarded: the switch is "all", or one that forces it."""
    if _number(f"ipv6/conf/{interface}/disable_ipv6") != 0:
        return False
    forced = _number(f"ipv6/conf/{interface}/force_forwarding")
    return _number("ipv6/conf/all/forwarding") == 1 or forced == 1


def read(interface: str) -> Mapping[str, int]:
    """The values in force for an interface; what the kernel does not tell is left out."""
    found = {}
    for key in _FOR_ALL:
        values = [_number(f"ipv4/conf/{name}/{key}") for name in ("all", interface)]
        known = [value for value in values if value is not None]
        if len(known) == 2:
            found[key] = max(known)
    if _number(f"ipv6/conf/{interface}/disable_ipv6") == 0:
        found["accept_ra"] = _number(f"ipv6/conf/{interface}/accept_ra") or 0
    return found


def neighbour_limits() -> tuple[int, int, int] | None:
    """gc_thresh1 to gc_thresh3 of IPv4's neighbour table, which all namespaces share; None where they are not shown."""
    one, two, three = (_number(f"ipv4/neigh/default/gc_thresh{n}") for n in (1, 2, 3))
    return None if one is None or two is None or three is None else (one, two, three)


def advise(
    interface: str, prefix: IPv4Network, values: Mapping[str, int], limits: tuple[int, int, int] | None
) -> Iterator[Advice]:
    """What should be set for a management network of `prefix` on `interface`. Pure."""
    if (filtering := values.get("rp_filter", 1)) != 1:
        yield Advice(
            f"rp_filter of {interface} is {filtering}, so ARP from outside of {prefix} costs neighbour entries",
            f"sysctl net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.{interface}.rp_filter=1",
        )
    if values.get("arp_ignore", 1) == 0:
        yield Advice(
            f"arp_ignore of {interface} is 0, so it answers for the addresses of this server's other networks",
            f"sysctl net.ipv4.conf.{interface}.arp_ignore=1",
        )
    if values.get("arp_accept", 0):
        yield Advice(
            f"arp_accept of {interface} is {values['arp_accept']}, so any machine's ARP makes neighbour entries",
            f"sysctl net.ipv4.conf.all.arp_accept=0 net.ipv4.conf.{interface}.arp_accept=0",
        )
    if values.get("accept_ra", 0):
        yield Advice(
            f"accept_ra of {interface} is {values['accept_ra']}, so any machine there can be its router for IPv6",
            f"sysctl net.ipv6.conf.{interface}.accept_ra=0",
        )
    wanted = prefix.num_addresses + ROOM
    if limits is not None and limits[2] < wanted:
        yield Advice(
            f"the kernel keeps {limits[2]} neighbours (gc_thresh3), and {prefix} alone can have {prefix.num_addresses}",
            f"sysctl net.ipv4.neigh.default.gc_thresh3={2 * wanted} net.ipv4.neigh.default.gc_thresh2={wanted}",
        )
