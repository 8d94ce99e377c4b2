"""The server's interfaces as the kernel sees them, and the address by which a network is served on one of them."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

from pyroute2.netlink import rtnl

from provision.boot import Role
from provision.errors import Unavailable
from provision.net import fdb, netlink, routes, sysctls

_IFF_UP, _IFF_LOOPBACK = 0x1, 0x8
SHARING = ("macvlan", "macvtap", "ipvlan", "ipvtap")
"""These put further stations on the wire of the interface below them."""
# These stand on another interface of the same machine; a veth's link is its peer, which is none of them.
_STACKED = ("vlan", *SHARING)


@dataclass(frozen=True)
class Interface:
    """One interface: kernel index, `kind` ("bridge", "vlan", … or "" for a NIC), and how it hangs together with others.

    `bridge` is its master, whatever kind that has (bridge, bond, VRF); `lower` is the interface that a VLAN or macvlan
    stands on, and `elsewhere` says that this one is in another network namespace. `ports` are the interfaces that have
    this one as their master, sorted. `stations` are MACs that this NIC takes frames for besides its own, in macvlans
    that may be in other namespaces. `forwarding` is IPv4's switch, `forwarding6` whether IPv6 is forwarded from here.
    `vlan` is a VLAN's number, or the one that a bridge which filters by VLAN gives to frames without a tag; else 0.
    `sysctl` has those values of net.ipv4.conf that `sysctls` looks at, as they are in force.
    """

    name: str
    index: int
    up: bool
    kind: str = ""
    addresses: tuple[IPv4Interface, ...] = ()
    bridge: str | None = None
    lower: str | None = None
    ports: tuple[str, ...] = ()
    forwarding: bool = False
    forwarding6: bool = False
    loopback: bool = False
    elsewhere: bool = False
    stations: tuple[str, ...] = ()
    mac: str = ""
    vlan: int = 0
    sysctl: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Machine:
    """What `look` saw: interfaces by name, the names of those that a default route leaves by (whole or in pieces), the
    IPv4 prefixes that are routed by each, how many neighbours the kernel keeps (gc_thresh1 to 3; None: it does not
    say), and when the look began (time.monotonic)."""

    interfaces: Mapping[str, Interface]
    default_routes: frozenset[str] = frozenset()
    routes: Mapping[str, tuple[IPv4Network, ...]] = field(default_factory=dict)
    neighbours: tuple[int, int, int] | None = None
    taken: float = 0.0


@dataclass(frozen=True)
class Link:
    """One link as a message of the kernel has it; `master` and `lower` are interface indices, 0 for none."""

    name: str
    index: int
    kind: str = ""
    master: int = 0
    lower: int = 0


@dataclass(frozen=True)
class Binding:
    """A network's place on this server, from the settings. `address` None means the interface's only one."""

    network: str
    role: Role
    interface: str
    address: IPv4Address | None = None
    bridge_ports: tuple[str, ...] = field(default=())


def look() -> Machine:
    """Ask the kernel for links, IPv4 addresses and routes (3 to 10 ms); raises Unavailable."""
    taken = time.monotonic()
    links = [(m, link) for m in netlink.dump(rtnl.RTM_GETLINK, socket.AF_UNSPEC) if (link := link_of(m)) is not None]
    names = {link.index: link.name for _, link in links}
    addresses: dict[int, list[IPv4Interface]] = {}
    for message in netlink.dump(rtnl.RTM_GETADDR):
        local = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
        if message["family"] == socket.AF_INET and local is not None:
            addresses.setdefault(message["index"], []).append(IPv4Interface(f"{local}/{message['prefixlen']}"))
    found = [_interface(m, link, names, tuple(addresses.get(link.index, ()))) for m, link in links]
    ports: dict[str, list[str]] = {}
    for one in found:
        if one.bridge is not None:
            ports.setdefault(one.bridge, []).append(one.name)
    routed = {names[i]: prefixes for i, prefixes in routes.look(names).items() if i in names}
    return Machine(
        {one.name: replace(one, ports=tuple(sorted(ports.get(one.name, ())))) for one in found},
        frozenset(name for name, prefixes in routed.items() if routes.is_default(prefixes)),
        {name: tuple(p for p in prefixes if p.version == 4) for name, prefixes in routed.items()},
        sysctls.neighbour_limits(),
        taken,
    )


def link_of(message: Any) -> Link | None:
    """What RTM_NEWLINK says of one link; None when it has no name (such messages are about parts of a link only)."""
    name, info = message.get_attr("IFLA_IFNAME"), message.get_attr("IFLA_LINKINFO")
    if name is None:
        return None
    kind = str((info.get_attr("IFLA_INFO_KIND") if info is not None else None) or "")
    # The lower interface of another namespace has a number of that namespace.
    lower = message.get_attr("IFLA_LINK") if kind in _STACKED and not _elsewhere(message) else None
    return Link(str(name), int(message["index"]), kind, message.get_attr("IFLA_MASTER") or 0, lower or 0)


def _elsewhere(message: Any) -> bool:
    return message.get_attr("IFLA_LINK_NETNSID") is not None


def _interface(message: Any, link: Link, names: Mapping[int, str], own: tuple[IPv4Interface, ...]) -> Interface:
    loopback = bool(message["flags"] & _IFF_LOOPBACK)
    return Interface(
        link.name,
        link.index,
        bool(message["flags"] & _IFF_UP),
        link.kind,
        own,
        names.get(link.master),
        names.get(link.lower),
        forwarding=sysctls.forwards(link.name),
        forwarding6=sysctls.forwards6(link.name),
        loopback=loopback,
        elsewhere=link.kind in _STACKED and _elsewhere(message),
        # A port of a bridge cannot carry a macvlan, and what is not asked need not be answered for each guest's tap.
        stations=() if loopback or link.master else fdb.stations(link.index),
        mac=str(message.get_attr("IFLA_ADDRESS") or "").lower(),
        vlan=_vlan(message, link.kind),
        sysctl=sysctls.read(link.name) if own else {},
    )


def _vlan(message: Any, kind: str) -> int:
    info = message.get_attr("IFLA_LINKINFO")
    data = info.get_attr("IFLA_INFO_DATA") if info is not None and kind in ("vlan", "bridge") else None
    if data is None or (kind == "bridge" and not data.get_attr("IFLA_BR_VLAN_FILTERING")):
        return 0
    return int(data.get_attr("IFLA_VLAN_ID" if kind == "vlan" else "IFLA_BR_VLAN_DEFAULT_PVID") or 0)


def address_of(machine: Machine, binding: Binding) -> IPv4Address:
    """The server's address on a network's interface; raises Unavailable when there is none, or a choice."""
    found = machine.interfaces.get(binding.interface)
    subject = f"network '{binding.network}'"
    if found is None:
        raise Unavailable(
            subject, f"there is no interface {binding.interface}", "see 'ip link', or correct the setting"
        )
    if not found.up:
        raise Unavailable(subject, f"{found.name} is down", f"ip link set {found.name} up")
    own = [a.ip for a in found.addresses]
    if binding.address is not None:
        if binding.address not in own and not binding.address.is_unspecified:
            raise Unavailable(
                subject, f"{found.name} does not have {binding.address}", f"see 'ip addr show {found.name}'"
            )
        return binding.address
    if len(own) != 1:
        fact = f"{found.name} has {len(own) or 'no'} IPv4 addresses"
        raise Unavailable(subject, fact, "set the network's 'address' to the one to use" if own else "give it one")
    return own[0]
