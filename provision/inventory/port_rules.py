"""What must hold of bonds and of bridges that keep VLANs apart themselves."""

from __future__ import annotations

from collections.abc import Iterator

from provision.document import Path
from provision.host import BondMode, BondOptions, Host, Interface
from provision.inventory.site_index import SiteIndex
from provision.inventory.violation import Violation
from provision.model import is_infiniband

_HASHED = (BondMode.LACP, BondMode.BALANCE_XOR, BondMode.BALANCE_TLB)
_NO_BRIDGE = (BondMode.BALANCE_ALB, BondMode.BALANCE_TLB)


def port_violations(host: Host, path: Path, seen: SiteIndex) -> Iterator[Violation]:
    """Everything wrong with the options of the host's bonds, with its VLAN-aware bridges, and with route metrics."""
    for name, interface in host.interfaces.items():
        where = (*path, "interfaces", name)
        yield from _bond_options(interface, where)
        yield from _bridged_bond(interface, where)
        yield from _infiniband(interface, where, seen)
        yield from _vlan_aware(host, name, interface, where, seen)
    yield from _metrics(host, path)
    yield from _scopes(host, path, seen)


def _bond_options(interface: Interface, path: Path) -> Iterator[Violation]:
    mode, options = interface.bond, interface.bond_options
    if mode is None:
        if options != BondOptions():
            fact, rests_on = "'bond_options' without 'bond'", ((*path, "bond"),)
            yield Violation((*path, "bond_options"), fact, "add 'bond', or leave the options out", rests_on)
        return
    for key, given, modes in (
        ("lacp_rate", options.lacp_rate, (BondMode.LACP,)),
        ("min_links", options.min_links, (BondMode.LACP,)),
        ("hash_policy", options.hash_policy, _HASHED),
    ):
        if given is not None and mode not in modes:
            fact = f"'{key}' has no effect on a bond of mode {mode.value}"
            remedy = f"leave it out; it goes with {_listed(modes)}"
            yield Violation((*path, "bond_options", key), fact, remedy)
    if options.min_links is not None and options.min_links > len(interface.macs):
        fact = f"{options.min_links} NICs must be up, and the bond has {len(interface.macs)}"
        yield Violation((*path, "bond_options", "min_links"), fact, "give no more than it has", ((*path, "macs"),))


def _listed(modes: tuple[BondMode, ...]) -> str:
    return ", ".join(mode.value for mode in modes)


def _bridged_bond(interface: Interface, path: Path) -> Iterator[Violation]:
    """These modes send and answer with the MAC of whichever NIC they choose, and guests behind a bridge then lose
    frames (Documentation/networking/bonding.rst, section 2)."""
    if interface.bridge is not None and interface.bond in _NO_BRIDGE:
        fact = f"guests of bridge '{interface.bridge}' would lose frames on a bond of mode {interface.bond.value}"
        yield Violation((*path, "bond"), fact, "take active-backup, which needs nothing of the switch, or 802.3ad")


def _infiniband(interface: Interface, path: Path, seen: SiteIndex) -> Iterator[Violation]:
    """IP over InfiniBand has no Ethernet frames (RFC 4391), so nothing that is made of them."""
    if not any(map(is_infiniband, interface.macs)):
        return
    for key, given in (("bond", interface.bond), ("vlan", interface.vlan), ("bridge", interface.bridge)):
        if given is not None:
            yield Violation((*path, key), f"'{key}' on an InfiniBand port, which has no Ethernet", "leave it out")
    if seen.is_management(interface):
        fact = f"an InfiniBand port on the management network '{interface.network}', where hosts are known by their MAC"
        yield Violation((*path, "network"), fact, "name a general network")


def _vlan_aware(host: Host, name: str, interface: Interface, path: Path, seen: SiteIndex) -> Iterator[Violation]:
    if not interface.bridge_vlans:
        return
    where = (*path, "bridge_vlans")
    if interface.bridge is None:
        yield Violation(where, "'bridge_vlans' without 'bridge'", "name the bridge", ((*path, "bridge"),))
    if interface.vlan is not None:
        yield Violation(
            where, "'bridge_vlans' beside 'vlan'", "leave 'vlan' out: the bridge's frames have tags already"
        )
    if interface.addressing is not None or interface.network is not None:
        fact = "a bridge that keeps VLANs apart has no address of the host"
        yield Violation(where, fact, "give the host another interface on the same NICs, with a 'vlan' of its own")
    yield from _bridged_tags(host, name, interface, where, seen)


def _bridged_tags(host: Host, name: str, interface: Interface, path: Path, seen: SiteIndex) -> Iterator[Violation]:
    """What comes with a tag goes to the bridge or to an interface of the host, and never to guests on a management LAN.

    All of a host's interfaces are asked: the site may not say which tag a management network has, the interface does.
    """
    spans = [_span(text) for text in interface.bridge_vlans]
    taken = set[int]()
    for index, span in enumerate(spans):
        where = (*path, index)
        if not taken.isdisjoint(span):
            yield Violation(
                where, f"'{interface.bridge_vlans[index]}' has a VLAN that stands before it", "list it once"
            )
        taken.update(span)
        for tag in sorted(seen.tags.keys() & set(span)):
            fact = f"puts the guests of '{interface.bridge}' on VLAN {tag}, the management LAN '{seen.tags[tag]}'"
            yield Violation(where, fact, "leave it out")
        for other_name, other in host.interfaces.items():
            same = set(other.macs) & set(interface.macs)
            if other_name != name and same and other.vlan in span and other.vlan not in seen.tags:
                fact = f"VLAN {other.vlan} is already used by '{other_name}' on the same NICs"
                yield Violation(where, fact, "leave it out, or that interface", ((*path[:-2], other_name, "vlan"),))


def _span(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def _metrics(host: Host, path: Path) -> Iterator[Violation]:
    """Two gateways of one metric would share the host's traffic by chance."""
    first: dict[int, str] = {}
    for name, metric in host.metrics.items():
        interface = host.interfaces[name]
        if interface.addressing is None:
            continue
        other = first.setdefault(metric, name)
        if other != name:
            place = name if interface.metric is not None else other
            rival = other if place == name else name
            fact = f"the routes of '{rival}' have the metric {metric} too"
            rests_on = tuple((*path, "interfaces", one, "metric") for one in (name, other))
            yield Violation(
                (*path, "interfaces", place, "metric"), fact, "give each interface one of its own", rests_on
            )


def _scopes(host: Host, path: Path, seen: SiteIndex) -> Iterator[Violation]:
    """A host on networks of two scopes would let them meet."""
    first: tuple[str, str] | None = None
    for name, interface in host.interfaces.items():
        network = seen.network(interface.network)
        if network is None or network.scope is None:
            continue
        first = first or (name, network.scope)
        if network.scope != first[1]:
            fact = f"is in scope '{network.scope}', and '{first[0]}' in scope '{first[1]}'; these never meet"
            yield Violation((*path, "interfaces", name, "network"), fact, "keep a host within one scope")
