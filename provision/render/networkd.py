"""systemd-networkd files of one host (systemd 252: systemd.netdev(5), systemd.network(5)).

NICs are matched by `PermanentMACAddress=` and never renamed: renaming is udev's, which has run before the seed stands
in the final root. First a pure plan of links (`plan`), then two templates.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Network

from provision.errors import Invalid
from provision.host import (
    Addressing,
    BondMode,
    BondOptions,
    HashPolicy,
    Host,
    Interface,
    Ipv6Addressing,
    LacpRate,
    Route,
)
from provision.render.environment import render, render_common
from provision.site import Address, Network, Site, is_local4

DEFAULT_MTU = 1500


_HASHED = (BondMode.LACP, BondMode.BALANCE_XOR)
"""Modes whose default hash, layer2, would put all that goes through one router on one NIC."""


@dataclass(frozen=True)
class Hop:
    """A route: to the default when there is no `to`, on the link itself when there is no `via`."""

    to: IPv4Network | IPv6Network | None
    via: Address | None
    onlink: bool
    metric: int

    @property
    def device(self) -> bool:
        """Whether it is an IPv4 route to the link itself: those have another scope."""
        return self.via is None and isinstance(self.to, IPv4Network)


@dataclass(frozen=True)
class Addresses:
    """What an interface has of its own on layer 3. `metric` orders default routes, and `prefix_metric` the routes to a
    network that another interface is on as well; None leaves that to the kernel.


    `dhcp` is what networkd's DHCP= takes ("", "ipv4", "ipv6", "yes"), `ra` whether routers are listened to, and
    `dhcp6_client` when DHCPv6 is asked ("" for when a router says so). `ipv6` is whether there is IPv6 at all.
    """

    dhcp: str
    ra: bool
    ipv6: bool
    metric: int
    required: bool
    dhcp6_client: str = ""
    addresses: tuple[str, ...] = ()
    routes: tuple[Hop, ...] = ()
    dns: tuple[Address, ...] = ()
    ntp: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    prefix_metric: int | None = None

    @property
    def family(self) -> str:
        """The family that 'online' waits for, when addresses are given by somebody else."""
        return {"ipv4": "ipv4", "yes": "ipv4", "ipv6": "ipv6"}[self.dhcp] if self.dhcp and not self.addresses else ""


@dataclass(frozen=True)
class Link:
    """One network device: matched by `macs` when it is a NIC, else created under its `name` as `kind`.

    `vlans` and `bridge` stand on top of it, `bond` below; `addresses` is None for a device that only carries others.
    `bridged` are the VLANs that a bridge keeps apart itself, at the bridge and at its port.
    """

    file: str
    name: str = ""
    kind: str = ""
    macs: tuple[str, ...] = ()
    vlan: int | None = None
    mode: str = ""
    options: BondOptions | None = None
    mtu: int | None = None
    vlans: tuple[str, ...] = ()
    bridge: str = ""
    bridged: tuple[str, ...] = ()
    bond: str = ""
    addresses: Addresses | None = None


def files(host: Host, site: Site) -> dict[str, bytes]:
    """Every file below /etc/systemd/network by its name; raises Invalid as `plan` does."""
    found: dict[str, bytes] = {}
    for link in plan(host, site):
        if link.kind:
            found[f"{link.file}.netdev"] = render("seed/netdev.j2", link=link)
        found[f"{link.file}.network"] = render("seed/network.j2", link=link)
    return found


def module_options(host: Host) -> bytes | None:
    """What modprobe(8) is told of the modules that make the host's devices (modprobe.d(5)); None for nothing."""
    if all(interface.bond is None for interface in host.interfaces.values()):
        return None
    return render_common("seed/modprobe.j2", bonds=0)


def plan(host: Host, site: Site) -> tuple[Link, ...]:
    """The links of `host`, lowest layer first.

    Raises Invalid when two devices would have one name, or two interfaces the same untagged NIC.
    """
    own = _addresses(host, site)
    groups: dict[frozenset[str], dict[str, Interface]] = {}
    for name, interface in host.interfaces.items():
        groups.setdefault(frozenset(interface.macs), {})[name] = interface
    for group in groups.values():
        plain = [name for name, interface in group.items() if interface.vlan is None]
        if len(plain) > 1:
            raise Invalid(host.name, f"{' and '.join(plain)} are both untagged on the same NIC", "give one a vlan")
    links = tuple(link for number, group in enumerate(groups.values()) for link in _group(number, group, own, host))
    names = [link.name for link in links if link.kind]
    for name in names:
        if names.count(name) > 1:
            raise Invalid(host.name, f"two network devices would be called {name}", "rename an interface or a bridge")
    return links


def _group(number: int, group: dict[str, Interface], own: dict[str, Addresses | None], host: Host) -> Iterator[Link]:
    """The links of the interfaces that share one NIC, or one bond."""
    first = next(iter(group.values()))
    untagged = next((name for name, interface in group.items() if interface.vlan is None), None)
    mtus = [interface.mtu for interface in group.values() if interface.mtu]
    port = next(iter(group))
    lower = Link(
        # An underscore stands in no name of the inventory.
        file=f"10-{untagged or _free(f'{port}-port', f'{port}_port', host)}",
        macs=first.macs[:1],
        mtu=max(mtus, default=None),
        vlans=tuple(name for name, interface in group.items() if interface.vlan is not None),
    )
    if first.bond is not None:
        name = untagged or _free(f"bond{number}", f"bond_{number}", host)
        yield Link(file=f"05-{name}-ports", macs=first.macs, bond=name, mtu=lower.mtu)
        lower = replace(
            lower, file=f"10-{name}", name=name, kind="bond", mode=first.bond.value, options=_options(first)
        )
    yield from _stack(lower, group[untagged] if untagged else None, own[untagged] if untagged else None)
    for name, interface in group.items():
        if interface.vlan is not None:
            mtu = interface.mtu or (DEFAULT_MTU if mtus else None)
            link = Link(file=f"20-{name}", name=name, kind="vlan", macs=first.macs[:1], vlan=interface.vlan, mtu=mtu)
            yield from _stack(link, interface, own[name])


def _free(name: str, otherwise: str, host: Host) -> str:
    """A name for a NIC or bond after which no interface is called, so that no untagged interface has its file."""
    return otherwise if name in host.interfaces and host.interfaces[name].vlan is None else name


def _stack(link: Link, interface: Interface | None, addresses: Addresses | None) -> Iterator[Link]:
    """The link itself, or the link as port of the interface's bridge and then that bridge."""
    if interface is None or interface.bridge is None:
        yield replace(link, addresses=addresses)
        return
    bridge, bridged = interface.bridge, interface.bridge_vlans
    yield replace(link, bridge=bridge, bridged=bridged)
    mtu = interface.mtu or (DEFAULT_MTU if link.mtu else None)
    upper = Link(file=f"30-{bridge}", name=bridge, kind="bridge", macs=link.macs[:1], mtu=mtu, bridged=bridged)
    yield replace(upper, addresses=addresses)


def _options(interface: Interface) -> BondOptions:
    """The bond's options with what they are when nobody says otherwise."""
    given = interface.bond_options
    rate = given.lacp_rate or (LacpRate.FAST if interface.bond is BondMode.LACP else None)
    hashing = given.hash_policy or (HashPolicy.LAYER3_4 if interface.bond in _HASHED else None)
    return BondOptions(lacp_rate=rate, hash_policy=hashing, min_links=given.min_links)


def _addresses(host: Host, site: Site) -> dict[str, Addresses | None]:
    """What each interface has on layer 3. The first with addresses is the one that 'online' waits for."""
    found: dict[str, Addresses | None] = {}
    used = [interface.network for interface in host.interfaces.values()]
    for name, interface in host.interfaces.items():
        network = site.networks[interface.network] if interface.network else None
        if network is None or interface.addressing is None:
            found[name] = None
            continue
        required = not any(found.values())
        metric = host.metrics[name]
        if interface.addressing is Addressing.DHCP:
            found[name] = _dynamic(interface, network, site, metric, required)
        else:
            own = _static(interface, network, site, metric, required)
            # Without it, the network would be reached through whichever interface came up first.
            shared = used.count(interface.network) > 1
            found[name] = replace(own, prefix_metric=metric) if shared else own
    return found


def _dynamic(interface: Interface, network: Network, site: Site, metric: int, required: bool) -> Addresses:
    six = network.prefix6 is not None
    routes = tuple(_hop(route, metric) for route in interface.routes)
    dhcp = "ipv6" if network.prefix is None else "yes" if six else "ipv4"
    return Addresses(dhcp, six, six, metric, required, routes=routes, domains=site.search)


def _static(interface: Interface, network: Network, site: Site, metric: int, required: bool) -> Addresses:
    addresses: list[str] = []
    gateways: list[Address] = []
    if interface.ipv4 is not None:
        addresses.append(_in(interface.ipv4, network))
        gateways += [network.gateway] if network.gateway else []
    if interface.ipv6 is not None:
        addresses.append(_in(interface.ipv6, network))
        gateways += [network.gateway6] if network.gateway6 else []
    way = interface.ipv6_addressing
    defaults = [Hop(None, gateway, network.is_on_link(gateway), metric) for gateway in gateways]
    return Addresses(
        dhcp="ipv6" if way is Ipv6Addressing.DHCP else "",
        ra=way is not None,
        ipv6=interface.ipv6 is not None or way is not None,
        metric=metric,
        required=required,
        dhcp6_client={None: "", Ipv6Addressing.SLAAC: "no", Ipv6Addressing.DHCP: "always"}[way],
        addresses=tuple(addresses),
        routes=(*defaults, *(_hop(route, metric) for route in interface.routes)),
        dns=network.dns,
        ntp=tuple(map(str, network.ntp)),
        domains=(site.domain, *site.search),
    )


def _hop(route: Route, metric: int) -> Hop:
    onlink = route.onlink or (route.via is not None and is_local4(route.via))
    return Hop(route.to, route.via, onlink, route.metric or metric)


def _in(address: Address, network: Network) -> str:
    """The address with its network's prefix length."""
    prefix = network.prefix if isinstance(address, IPv4Address) else network.prefix6
    return f"{address}/{prefix.prefixlen if prefix is not None else address.max_prefixlen}"
