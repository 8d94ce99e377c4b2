"""What must hold of one host: its interfaces, its addresses on the site's networks, its kernel command line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from uuid import UUID

from provision.boot import Role
from provision.document import Path
from provision.host import Addressing, Host, Interface, Netboot
from provision.inventory.finding import Finding
from provision.inventory.site_rules import argument_findings, edge
from provision.messages import nearest
from provision.site import Network, Site

MAX_COMMAND_LINE = 1500
"""Bytes of the site's and the host's kernel arguments; x86 reads 2047, and base image and boot loader add theirs."""
_NIC_NAME = re.compile(r"eth[0-9]+|en[opsxP][a-z0-9-]*")
_BOND_NAME = re.compile(r"bond([0-9]|1[0-5])")
_NO_UUID = (UUID(int=0), UUID(int=2**128 - 1))


@dataclass(frozen=True)
class View:
    """What host rules know of the site; `unsure` names networks and credentials that are declared but unreadable."""

    site: Site | None
    unsure: frozenset[str] = frozenset()
    tags: dict[int, str] = field(default_factory=dict)
    """Tag -> name of every tagged management network."""

    def network(self, name: str | None) -> Network | None:
        return self.site.networks.get(name) if self.site and name is not None else None

    def is_management(self, interface: Interface) -> bool:
        network = self.network(interface.network)
        return network is not None and network.role is Role.MANAGEMENT


def view(site: Site | None, unsure: frozenset[str] = frozenset()) -> View:
    """The view of a site (None when it could not be read)."""
    networks = site.networks.items() if site else ()
    return View(site, unsure, {n.vlan: name for name, n in networks if n.role is Role.MANAGEMENT and n.vlan})


def host_findings(host: Host, seen: View) -> Iterator[Finding]:
    """Everything wrong with one host by itself and against its site."""
    path: Path = ("hosts", host.name)
    if host.uuid in _NO_UUID:
        yield Finding((*path, "uuid"), f"{host.uuid} is a placeholder of the firmware", "leave it out")
    for name, interface in host.interfaces.items():
        where = (*path, "interfaces", name)
        yield from _links(interface, where)
        yield from _addressing(interface, where)
        yield from _network(interface, where, seen)
        yield from _routes(interface, where, seen)
    yield from _sharing(host, path, seen)
    yield from _credentials(host, path, seen)
    yield from _command_line(host, path, seen)


def _links(interface: Interface, path: Path) -> Iterator[Finding]:
    count = len(interface.macs)
    if len(set(interface.macs)) < count:
        yield Finding((*path, "macs"), "a MAC is listed twice", "list each NIC once")
    if interface.bond and count == 1:
        yield Finding((*path, "bond"), "a bond of one NIC", "list its other MACs or leave 'bond' out")
    if not interface.bond and count > 1:
        yield Finding((*path, "macs"), f"{count} MACs without 'bond'", "add 'bond: active-backup' or '802.3ad'")


def _addressing(interface: Interface, path: Path) -> Iterator[Finding]:
    given = [name for name in ("ipv4", "ipv6", "reservation") if getattr(interface, name) is not None]
    way, network = interface.addressing, interface.network
    if network and way is None:
        yield Finding((*path, "network"), "'network' without 'addressing'", "add 'addressing: dhcp' or 'static'")
    elif way and network is None:
        yield Finding((*path, "addressing"), "'addressing' without 'network'", "name the network it is on")
    elif way is None and given:
        yield Finding((*path, given[0]), f"'{given[0]}' without 'network' and 'addressing'", "add both")
    if way is Addressing.DHCP:
        for name in given:
            if name != "reservation":
                remedy = "write 'reservation' for an address that DHCP gives, or 'addressing: static'"
                yield Finding((*path, name), f"'{name}' is a static address, but addressing is dhcp", remedy)
    if way is Addressing.STATIC:
        if interface.reservation is not None:
            remedy = "write 'ipv4' instead, or 'addressing: dhcp'"
            yield Finding((*path, "reservation"), "a DHCP reservation, but addressing is static", remedy)
        if interface.ipv4 is None and interface.ipv6 is None:
            yield Finding((*path, "addressing"), "static addressing without an address", "add 'ipv4' or 'ipv6'")


def _network(interface: Interface, path: Path, seen: View) -> Iterator[Finding]:
    name, network = interface.network, seen.network(interface.network)
    if name is None or seen.site is None:
        return
    if network is None:
        if name not in seen.unsure:
            known = nearest(name, seen.site.networks)
            yield Finding((*path, "network"), f"no network '{name}' is in the site", known)
        return
    if interface.vlan and network.vlan and interface.vlan != network.vlan:
        fact = f"VLAN {interface.vlan}, but network '{name}' has VLAN {network.vlan}"
        yield Finding((*path, "vlan"), fact, "correct one of them")
    for field_name, prefix, gateway in (
        ("ipv4", network.prefix, network.gateway),
        ("reservation", network.prefix, network.gateway),
        ("ipv6", network.prefix6, network.gateway6),
    ):
        address = getattr(interface, field_name)
        where = (*path, field_name)
        if address is None:
            continue
        if prefix is None:
            yield Finding(where, f"network '{name}' has no 'prefix6'", "add it, or leave 'ipv6' out")
        elif address not in prefix:
            yield Finding(where, f"{address} is outside {prefix}, the prefix of network '{name}'", "correct one")
        elif kind := edge(address, prefix):
            yield Finding(where, f"{address} is the {kind} address of {prefix}", "take another")
        elif address == gateway:
            yield Finding(where, f"{address} is the gateway of network '{name}'", "take another")
    pool, static = network.pool, interface.ipv4
    if pool and static and pool.first <= static <= pool.last:
        fact = f"{static} is inside the pool {pool.first}-{pool.last}, so DHCP may lease it to another host"
        yield Finding((*path, "ipv4"), fact, "take one outside, or 'addressing: dhcp' with 'reservation'")


def _routes(interface: Interface, path: Path, seen: View) -> Iterator[Finding]:
    if interface.routes and interface.network is None:
        yield Finding((*path, "routes"), "routes without 'network'", "name the network that the routers are on")
    network, targets = seen.network(interface.network), set()
    for index, route in enumerate(interface.routes):
        where = (*path, "routes", index)
        if route.to in targets:
            yield Finding(where, f"a second route to {route.to}", "keep one of them")
        targets.add(route.to)
        if route.to.version != route.via.version:
            fact = f"an IPv{route.to.version} route through an IPv{route.via.version} router"
            yield Finding((*where, "via"), fact, "give a router of the same family")
            continue
        if route.via in (interface.ipv4, interface.ipv6):
            yield Finding((*where, "via"), f"{route.via} is the host's own address", "give the router's")
        prefix = network and (network.prefix if route.via.version == 4 else network.prefix6)
        on_link = route.via.version == 6 and route.via.is_link_local
        if network and not on_link and (prefix is None or route.via not in prefix):
            fact = f"the router {route.via} is not on network '{interface.network}'"
            yield Finding((*where, "via"), fact, f"give one inside {prefix}" if prefix else "add 'prefix6' to it")


def _sharing(host: Host, path: Path, seen: View) -> Iterator[Finding]:
    """Interfaces on the same NICs: one untagged, each tag once, never guests where the host boots."""
    items = list(host.interfaces.items())
    yield from _devices(host, path)
    for index, (name, interface) in enumerate(items):
        where = (*path, "interfaces", name)
        yield from _guests(host, name, interface, where, seen)
        for earlier_name, earlier in items[:index]:
            common = set(interface.macs) & set(earlier.macs)
            if common:
                yield from _shared(interface, earlier_name, earlier, where)


def _devices(host: Host, path: Path) -> Iterator[Finding]:
    """Names of the devices that the host creates: VLANs and bonds by their interface, bridges by their own.

    Those of NICs are the kernel's and udev's. A bond with no untagged interface has the name bond0 to bond15.
    """
    taken: set[str] = set()
    for name, interface in host.interfaces.items():
        where = (*path, "interfaces", name)
        created = [(where, name)] if interface.vlan is not None or interface.bond is not None else []
        created += [((*where, "bridge"), interface.bridge)] if interface.bridge else []
        for place, device in created:
            if device in taken:
                fact = f"the name '{device}' is taken by another device of the host"
                yield Finding(place, fact, "choose another, such as 'br-guests'")
            elif device == "lo" or _NIC_NAME.fullmatch(device) or _has_hidden_bond(host, device):
                fact = f"the host creates a device '{device}', and that is the name of a NIC or bond of its own"
                yield Finding(place, fact, "choose another, such as 'br-guests'")
            taken.add(device)


def _has_hidden_bond(host: Host, device: str) -> bool:
    """Whether `device` may be the name of a bond that carries nothing but VLANs."""
    bonds = [interface for interface in host.interfaces.values() if interface.bond is not None]
    untagged = {frozenset(interface.macs) for interface in bonds if interface.vlan is None}
    hidden = any(frozenset(interface.macs) not in untagged for interface in bonds)
    return hidden and _BOND_NAME.fullmatch(device) is not None


def _shared(interface: Interface, other_name: str, other: Interface, path: Path) -> Iterator[Finding]:
    if set(interface.macs) != set(other.macs) or interface.bond != other.bond:
        fact = f"shares only a part of its NICs or no bond with '{other_name}'"
        yield Finding((*path, "macs"), fact, "list the same MACs and the same 'bond' in both, or other NICs")
    elif interface.vlan == other.vlan and interface.vlan is None:
        fact = f"is a second untagged connection on the NICs of '{other_name}'"
        yield Finding((*path, "macs"), fact, "give one of them a 'vlan', or other NICs")
    elif interface.vlan == other.vlan:
        fact = f"VLAN {interface.vlan} is already used by '{other_name}' on the same NICs"
        yield Finding((*path, "vlan"), fact, "take another VLAN, or other NICs")


def _guests(host: Host, name: str, interface: Interface, path: Path, seen: View) -> Iterator[Finding]:
    """A guest bridge on a management LAN would make every guest a machine of that LAN."""
    if interface.bridge is None:
        return
    where = (*path, "bridge")
    remedy = "give the bridge a 'vlan', or another NIC"
    if interface.vlan is not None:
        tagged = seen.tags.get(interface.vlan)
        if tagged and interface.network is None:
            fact = f"puts the guests of '{interface.bridge}' on VLAN {interface.vlan}, the management LAN '{tagged}'"
            yield Finding(where, fact, "take another VLAN")
        return
    if seen.is_management(interface):
        fact = f"puts the guests of '{interface.bridge}' on the management network '{interface.network}', untagged"
        yield Finding(where, fact, remedy)
        return
    for other_name, other in host.interfaces.items():
        boots = other.vlan is None or host.netboot is not Netboot.NEVER
        if other_name != name and boots and seen.is_management(other) and set(other.macs) & set(interface.macs):
            fact = f"puts the guests of '{interface.bridge}' untagged on the NIC that boots from '{other.network}'"
            yield Finding(where, fact, remedy)
            return


def _credentials(host: Host, path: Path, seen: View) -> Iterator[Finding]:
    if seen.site is None:
        return
    names, files = set(), dict[str, str]()
    for index, name in enumerate(host.credentials):
        where = (*path, "credentials", index)
        spec = seen.site.credentials.get(name)
        if name in names:
            yield Finding(where, f"credential '{name}' is listed twice", "list it once")
        elif spec is None and name not in seen.unsure:
            yield Finding(where, f"no credential '{name}' is in the site", nearest(name, seen.site.credentials))
        elif spec is not None:
            for path_of_other, other in files.items():
                if spec.path == path_of_other:
                    yield Finding(where, f"'{name}' and '{other}' are both {spec.path}", "give one another path")
                elif f"{spec.path}/".startswith(f"{path_of_other}/") or f"{path_of_other}/".startswith(f"{spec.path}/"):
                    fact = f"of '{name}' ({spec.path}) and '{other}' ({path_of_other}) one is the other's directory"
                    yield Finding(where, fact, "give one of them another path")
            files[spec.path] = name
        names.add(name)


def _command_line(host: Host, path: Path, seen: View) -> Iterator[Finding]:
    where = (*path, "kernel_arguments")
    yield from argument_findings(host.kernel_arguments, where)
    arguments = (*(seen.site.kernel_arguments if seen.site else ()), *host.kernel_arguments)
    size = len(" ".join(arguments))
    if size > MAX_COMMAND_LINE:
        fact = f"the kernel command line has {size} bytes, and {MAX_COMMAND_LINE} fit"
        yield Finding(where, fact, "shorten the site's or the host's kernel_arguments")
    addresses = [argument for argument in arguments if argument.startswith("ip=")]
    if len(addresses) > 1:
        yield Finding(where, f"'ip=' is given {len(addresses)} times, by site and host together", "keep one")
