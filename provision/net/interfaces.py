"""The server's interfaces as the kernel sees them, and whether a network may be bound to one of them."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Any

from pyroute2.netlink import rtnl

from provision.boot import Role
from provision.errors import Unavailable
from provision.net import netlink
from provision.settings import RULES

_IFF_UP = 1
_CONF = Path("/proc/sys/net/ipv4/conf")
# These stand on another interface of the same machine; a veth's link is its peer, which is none of them.
_STACKED = ("vlan", "macvlan", "macvtap", "ipvlan", "ipvtap")


@dataclass(frozen=True)
class Interface:
    """One interface: kernel index, `kind` ("bridge", "vlan", … or "" for a NIC), bridge it is a port of, and so on.

    `lower` is the interface a VLAN or macvlan stands on; `ports` are the ports of a bridge, sorted.
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


@dataclass(frozen=True)
class Machine:
    """What `look` saw: interfaces by name, and the names of those that a default route leaves by."""

    interfaces: Mapping[str, Interface]
    default_routes: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Binding:
    """A network's place on this server, from the settings. `address` None means the interface's only one."""

    network: str
    role: Role
    interface: str
    address: IPv4Address | None = None
    bridge_ports: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Refusal:
    """A rule that a binding breaks; `str()` is one line. An operator overrides `rule` with a written reason."""

    rule: str
    subject: str
    fact: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.fact}; {self.remedy}"


def look() -> Machine:
    """Ask the kernel for links, IPv4 addresses and default routes (3 to 10 ms); raises Unavailable."""
    links = netlink.dump(rtnl.RTM_GETLINK, socket.AF_UNSPEC)
    names = {int(m["index"]): str(m.get_attr("IFLA_IFNAME")) for m in links}
    addresses: dict[int, list[IPv4Interface]] = {}
    for message in netlink.dump(rtnl.RTM_GETADDR):
        local = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
        if message["family"] == socket.AF_INET and local is not None:
            addresses.setdefault(message["index"], []).append(IPv4Interface(f"{local}/{message['prefixlen']}"))
    found = [_interface(m, names, addresses) for m in links]
    ports: dict[str, list[str]] = {}
    for one in found:
        if one.bridge is not None:
            ports.setdefault(one.bridge, []).append(one.name)
    interfaces = {
        i.name: Interface(
            i.name,
            i.index,
            i.up,
            i.kind,
            i.addresses,
            i.bridge,
            i.lower,
            tuple(sorted(ports.get(i.name, ()))),
            i.forwarding,
        )
        for i in found
    }
    return Machine(interfaces, frozenset(_default_routes(names)))


def _interface(message: Any, names: Mapping[int, str], addresses: Mapping[int, Sequence[IPv4Interface]]) -> Interface:
    name, index = str(message.get_attr("IFLA_IFNAME")), int(message["index"])
    info = message.get_attr("IFLA_LINKINFO")
    kind = str((info.get_attr("IFLA_INFO_KIND") if info is not None else None) or "")
    link, master = message.get_attr("IFLA_LINK"), message.get_attr("IFLA_MASTER")
    return Interface(
        name,
        index,
        bool(message["flags"] & _IFF_UP),
        kind,
        tuple(addresses.get(index, ())),
        names.get(master) if master else None,
        names.get(link) if link and kind in _STACKED else None,
        forwarding=_forwarding(name),
    )


def _forwarding(name: str) -> bool:
    try:
        return (_CONF / name / "forwarding").read_text().strip() == "1"
    except OSError:
        return False  # the interface vanished between two looks


def _default_routes(names: Mapping[int, str]) -> Iterator[str]:
    for message in netlink.dump(rtnl.RTM_GETROUTE):
        if message["dst_len"] != 0 or message["type"] != 1:  # RTN_UNICAST
            continue
        hops = [message.get_attr("RTA_OIF"), *(hop["oif"] for hop in message.get_attr("RTA_MULTIPATH") or ())]
        yield from (names[oif] for oif in hops if oif in names)


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


def check_binding(
    binding: Binding, others: Sequence[Binding], machine: Machine, overrides: Mapping[str, str]
) -> list[Refusal]:
    """Why `binding` may not be served, in the order of `RULES`; empty means it may.

    Pure. `others` are the other networks of this server. `overrides` maps a rule to the operator's written reason;
    a blank reason overrides nothing. A missing interface is no refusal: binding the socket says so.
    """
    found = [*_wildcard(binding), *_forwarding_pairs(binding, others, machine)]
    if binding.role is Role.MANAGEMENT:
        found += [*_default(binding, machine), *_bridges(binding, machine)]
    found += _port_of_bridge(binding, machine)
    return sorted((r for r in found if not overrides.get(r.rule, "").strip()), key=lambda r: RULES.index(r.rule))


def _refuse(rule: str, binding: Binding, fact: str, remedy: str) -> Refusal:
    return Refusal(rule, f"network '{binding.network}' on {binding.interface}", fact, remedy)


def _chain(name: str, machine: Machine) -> Iterator[Interface]:
    """The interface and what it stands on: a VLAN over a bridge is as open to the bridge's ports as the bridge is."""
    seen: set[str] = set()
    current: str | None = name
    while current is not None and current in machine.interfaces and current not in seen:
        seen.add(current)
        yield machine.interfaces[current]
        current = machine.interfaces[current].lower


def _wildcard(binding: Binding) -> Iterator[Refusal]:
    if binding.address is not None and binding.address.is_unspecified:
        fact = "0.0.0.0 listens on every address, so the socket no longer says where a request came in"
        yield _refuse("wildcard-address", binding, fact, "set the interface's own address")


def _default(binding: Binding, machine: Machine) -> Iterator[Refusal]:
    for one in _chain(binding.interface, machine):
        if one.name in machine.default_routes and one.name == binding.interface:
            fact = f"the default route leaves by {one.name}, so this is no dedicated management LAN"
            yield _refuse("default-route", binding, fact, "use a NIC of its own")


def _bridges(binding: Binding, machine: Machine) -> Iterator[Refusal]:
    for one in _chain(binding.interface, machine):
        if one.kind == "openvswitch":
            fact = f"{one.name} is an Open vSwitch, whose ports cannot be checked here"
            yield _refuse("bridge-ports", binding, fact, "use a NIC of its own")
        unlisted = [p for p in one.ports if p not in binding.bridge_ports]
        if one.kind == "bridge" and unlisted:
            fact = f"{one.name} is a bridge, and whoever is on its port {', '.join(unlisted)} would be on this network"
            yield _refuse("bridge-ports", binding, fact, "use a NIC of its own, or list every port in 'bridge_ports'")


def _port_of_bridge(binding: Binding, machine: Machine) -> Iterator[Refusal]:
    own = machine.interfaces.get(binding.interface)
    bridge = machine.interfaces.get(own.bridge) if own is not None and own.bridge is not None else None
    if bridge is not None and bridge.kind == "bridge":
        fact = f"{binding.interface} is a port of the bridge {bridge.name}, so it hears nothing"
        yield _refuse("bridge-port", binding, fact, f"use {bridge.name}, or take {binding.interface} out of it")


def _forwarding_pairs(binding: Binding, others: Sequence[Binding], machine: Machine) -> Iterator[Refusal]:
    own = machine.interfaces.get(binding.interface)
    if own is None or not own.forwarding:
        return
    for other in others:
        there = machine.interfaces.get(other.interface)
        if other.role is not binding.role and there is not None and there.forwarding:
            yield _refuse(
                "forwarding",
                binding,
                f"this server forwards packets between it and the {other.role} network '{other.network}'",
                f"sysctl net.ipv4.conf.{binding.interface}.forwarding=0",
            )
