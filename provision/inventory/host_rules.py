"""What must hold of one host: its interfaces, its addresses on the site's networks, its kernel command line."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

from provision.document import Path
from provision.host import Addressing, Chain, Host, Interface, Route
from provision.inventory.device_rules import device_violations
from provision.inventory.disk_rules import disk_violations
from provision.inventory.port_rules import port_violations
from provision.inventory.route_rules import route_violations
from provision.inventory.site_index import SiteIndex
from provision.inventory.site_rules import argument_violations, edge
from provision.inventory.violation import Violation
from provision.messages import nearest
from provision.site import Address, Network

MAX_COMMAND_LINE = 1500
"""Bytes of the site's and the host's kernel arguments; x86 reads 2047, and base image and boot loader add theirs."""
_LOCAL_NAMES = frozenset(("localhost", "ip6-localhost", "ip6-loopback", "ip6-allnodes", "ip6-allrouters"))
"""What /etc/hosts says of every host (templates/seed/hosts.j2)."""
_NO_UUID = (UUID(int=0), UUID(int=2**128 - 1))


def host_violations(host: Host, seen: SiteIndex) -> Iterator[Violation]:
    """Everything wrong with one host by itself and against its site."""
    path: Path = ("hosts", host.name)
    if host.name in _LOCAL_NAMES:
        yield Violation(
            path, f"'{host.name}' is a name that every machine has for itself", "give the host another name"
        )
    if host.uuid in _NO_UUID:
        yield Violation((*path, "uuid"), f"{host.uuid} is a placeholder of the firmware", "leave it out")
    yield from disk_violations(host, path)
    for name, interface in host.interfaces.items():
        where = (*path, "interfaces", name)
        yield from _links(interface, where)
        yield from _addressing(interface, where)
        yield from _network(interface, where, seen)
        yield from _routes(interface, where, seen)
        yield from _detours(host, interface, where, seen)
    yield from device_violations(host, path, seen)
    yield from route_violations(host, path, seen)
    yield from port_violations(host, path, seen)
    yield from _credentials(host, path, seen)
    yield from _command_line(host, path, seen)


def _links(interface: Interface, path: Path) -> Iterator[Violation]:
    count = len(interface.macs)
    if len(set(interface.macs)) < count:
        yield Violation((*path, "macs"), "a MAC is listed twice", "list each NIC once")
    if interface.bond and count == 1:
        remedy = "list its other MACs or leave 'bond' out"
        yield Violation((*path, "bond"), "a bond of one NIC", remedy, ((*path, "macs"),))
    if not interface.bond and count > 1:
        remedy = "add 'bond: active-backup' or '802.3ad'"
        yield Violation((*path, "macs"), f"{count} MACs without 'bond'", remedy, ((*path, "bond"),))


def _addressing(interface: Interface, path: Path) -> Iterator[Violation]:
    given = [
        name for name in ("ipv4", "ipv6", "ipv6_addressing", "reservation") if getattr(interface, name) is not None
    ]
    way, network = interface.addressing, interface.network
    both = (*path, "network"), (*path, "addressing")
    if network and way is None:
        yield Violation(both[0], "'network' without 'addressing'", "add 'addressing: dhcp' or 'static'", both)
    elif way and network is None:
        yield Violation(both[1], "'addressing' without 'network'", "name the network it is on", both)
    elif way is None and given:
        yield Violation((*path, given[0]), f"'{given[0]}' without 'network' and 'addressing'", "add both", both)
    if way is Addressing.DHCP:
        for name in given:
            if name != "reservation":
                what = "stands beside" if name == "ipv6_addressing" else "is"
                remedy = "write 'reservation' for an address that DHCP gives, or 'addressing: static'"
                yield Violation((*path, name), f"'{name}' {what} a static address, but addressing is dhcp", remedy)
    if way is Addressing.STATIC:
        if interface.reservation is not None:
            remedy = "write 'ipv4' instead, or 'addressing: dhcp'"
            yield Violation((*path, "reservation"), "a DHCP reservation, but addressing is static", remedy)
        if interface.ipv4 is None and interface.ipv6 is None:
            addresses = (*path, "ipv4"), (*path, "ipv6")
            yield Violation(both[1], "static addressing without an address", "add 'ipv4' or 'ipv6'", addresses)
        if interface.ipv6 is not None and interface.ipv6_addressing is not None:
            fact = f"'ipv6_addressing: {interface.ipv6_addressing.value}' beside the static address {interface.ipv6}"
            yield Violation((*path, "ipv6_addressing"), fact, "keep one of them")


def _network(interface: Interface, path: Path, seen: SiteIndex) -> Iterator[Violation]:
    name, network = interface.network, seen.network(interface.network)
    if name is None or seen.site is None:
        return
    place: Path = ("site", "networks", name)
    if network is None:
        known = nearest(name, seen.site.networks)
        yield Violation((*path, "network"), f"no network '{name}' is in the site", known, (place,))
        return
    if interface.vlan and network.vlan and interface.vlan != network.vlan:
        fact = f"VLAN {interface.vlan}, but network '{name}' has VLAN {network.vlan}"
        yield Violation((*path, "vlan"), fact, "correct one of them")
    if interface.ipv6_addressing is not None and network.prefix6 is None:
        fact, remedy = f"network '{name}' has no 'prefix6'", "add it, or leave 'ipv6_addressing' out"
        yield Violation((*path, "ipv6_addressing"), fact, remedy, ((*place, "prefix6"),))
    yield from _addresses(interface, name, network, path, seen)
    pool, static = network.pool, interface.ipv4
    if pool and static and pool.first <= static <= pool.last:
        fact = f"{static} is inside the pool {pool.first}-{pool.last}, so DHCP may lease it to another host"
        yield Violation((*path, "ipv4"), fact, "take one outside, or 'addressing: dhcp' with 'reservation'")


def _addresses(interface: Interface, name: str, network: Network, path: Path, seen: SiteIndex) -> Iterator[Violation]:
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
            key = "prefix6" if field_name == "ipv6" else "prefix"
            fact, remedy = f"network '{name}' has no '{key}'", f"add it, or leave '{field_name}' out"
            yield Violation(where, fact, remedy, (("site", "networks", name, key),))
        elif address not in prefix:
            yield Violation(where, f"{address} is outside {prefix}, the prefix of network '{name}'", "correct one")
        elif kind := edge(address, prefix):
            yield Violation(where, f"{address} is the {kind} address of {prefix}", "take another")
        elif address.is_loopback or address.is_multicast or address.is_unspecified:
            yield Violation(
                where, f"{address} is not an address that one machine of a network can have", "take another"
            )
        elif address == gateway:
            yield Violation(where, f"{address} is the gateway of network '{name}'", "take another")
        elif server := seen.server(network, address):
            yield Violation(where, f"{address} is {server}", "take another")


def _routes(interface: Interface, path: Path, seen: SiteIndex) -> Iterator[Violation]:
    if interface.routes and interface.network is None:
        remedy = "name the network that the routers are on"
        yield Violation((*path, "routes"), "routes without 'network'", remedy, ((*path, "network"),))
    network = seen.network(interface.network)
    for index, route in enumerate(interface.routes):
        where = (*path, "routes", index)
        if route.via is None:
            yield from _device_route(interface, route, where)
            continue
        if route.to.version != route.via.version:
            fact = f"an IPv{route.to.version} route through an IPv{route.via.version} router"
            yield Violation((*where, "via"), fact, "give a router of the same family")
            continue
        if route.via in (interface.ipv4, interface.ipv6):
            yield Violation((*where, "via"), f"{route.via} is the host's own address", "give the router's")
        if network is not None:
            yield from _router(interface, route, route.via, network, where)


def _device_route(interface: Interface, route: Route, path: Path) -> Iterator[Violation]:
    """A route to what is on the link itself needs an address of its family, as any other does."""
    if route.onlink:
        remedy = "name the router with 'via', or leave 'onlink' out"
        yield Violation((*path, "onlink"), "'onlink' without 'via'", remedy, ((*path, "via"),))
    yield from _family(interface, route, path, f"{route.to} is out of reach")


def _family(interface: Interface, route: Route, path: Path, subject: str) -> Iterator[Violation]:
    """Whether the interface has an address of the route's family."""
    family = "ipv4" if route.to.version == 4 else "ipv6"
    learned = family == "ipv6" and interface.ipv6_addressing is not None
    if interface.addressing is Addressing.STATIC and getattr(interface, family) is None and not learned:
        place = (*path, "via" if route.via is not None else "to")
        remedy = f"add '{family}', or leave the route out"
        yield Violation(place, f"{subject}: the interface has no '{family}'", remedy, ((*path[:-2], family),))


def _detours(host: Host, interface: Interface, path: Path, seen: SiteIndex) -> Iterator[Violation]:
    """Routes to a network that the host is on itself: which of the two is taken would depend on their metrics."""
    for index, route in enumerate(interface.routes):
        for name, other in host.interfaces.items():
            network = seen.network(other.network)
            if network is not None and route.to in (network.prefix, network.prefix6):
                fact = f"a route to {route.to}, which is network '{other.network}' that '{name}' is on"
                yield Violation((*path, "routes", index, "to"), fact, "leave the route out")
                break


def _router(interface: Interface, route: Route, via: Address, network: Network, path: Path) -> Iterator[Violation]:
    """Whether the host can reach a route's router."""
    prefix_key, prefix = ("prefix", network.prefix) if via.version == 4 else ("prefix6", network.prefix6)
    on_link = route.onlink or via.is_link_local
    missing = list(_family(interface, route, path, f"the router {via} is out of reach"))
    yield from missing
    if not missing and (prefix is None or not (on_link or via in prefix)):
        fact = f"the router {via} is not on network '{interface.network}'"
        inside = f"give one inside {prefix}, or add 'onlink: true' to the route"
        remedy = inside if prefix else f"add '{prefix_key}' to it"
        yield Violation((*path, "via"), fact, remedy, (("site", "networks", str(interface.network), prefix_key),))


def _credentials(host: Host, path: Path, seen: SiteIndex) -> Iterator[Violation]:
    if seen.site is None:
        return
    names, files = set(), dict[str, str]()
    for index, name in enumerate(host.credentials):
        where = (*path, "credentials", index)
        spec = seen.site.credentials.get(name)
        if name in names:
            yield Violation(where, f"credential '{name}' is listed twice", "list it once")
        elif spec is None:
            known = nearest(name, seen.site.credentials)
            fact, place = f"no credential '{name}' is in the site", ("site", "credentials", name)
            yield Violation(where, fact, known, (place,))
        else:
            for path_of_other, other in files.items():
                if spec.path == path_of_other:
                    yield Violation(where, f"'{name}' and '{other}' are both {spec.path}", "give one another path")
                elif f"{spec.path}/".startswith(f"{path_of_other}/") or f"{path_of_other}/".startswith(f"{spec.path}/"):
                    fact = f"of '{name}' ({spec.path}) and '{other}' ({path_of_other}) one is the other's directory"
                    yield Violation(where, fact, "give one of them another path")
            files[spec.path] = name
        names.add(name)


def _command_line(host: Host, path: Path, seen: SiteIndex) -> Iterator[Violation]:
    where = (*path, "kernel_arguments")
    if host.chain is Chain.UKI and host.kernel_arguments:
        fact = "a signed image ('chain: uki') has the command line of all hosts in it"
        yield Violation(where, fact, "move them to the site's kernel_arguments, or set 'chain: grub'")
    yield from argument_violations(host.kernel_arguments, where)
    arguments = (*(seen.site.kernel_arguments if seen.site else ()), *host.kernel_arguments)
    size = len(" ".join(arguments))
    if size > MAX_COMMAND_LINE:
        fact = f"the kernel command line has {size} bytes, and {MAX_COMMAND_LINE} fit"
        yield Violation(where, fact, "shorten the site's or the host's kernel_arguments")
    addresses = [argument for argument in arguments if argument.startswith("ip=")]
    if len(addresses) > 1:
        yield Violation(where, f"'ip=' is given {len(addresses)} times, by site and host together", "keep one")
