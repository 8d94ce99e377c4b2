"""What must hold of a host's devices: interfaces on the same NICs have one untagged, each tag once, and no guests where
the host is managed."""

from __future__ import annotations

import re
from collections.abc import Iterator

from provision.document import Path
from provision.host import Host, Interface
from provision.inventory.site_index import SiteIndex
from provision.inventory.violation import Violation

_NIC_NAME = re.compile(r"eth[0-9]+|en[opsxP][a-z0-9-]*")
_KERNEL_NAMES = frozenset(("all", "default", "lo"))
"""The loopback device, and what /proc/sys/net has beside devices: the kernel makes no device of these names."""
_MADE_BY_OTHERS = re.compile(r"(dummy|ifb|tunl|gre|gretap|erspan|sit|ip6tnl|ip6gre|virbr|vnet|macvtap)[0-9]+")
"""What kernel modules make by themselves when they are loaded, and libvirt for its networks and guests."""
_BOND_NAME = re.compile(r"bond([0-9]|1[0-5])")


def device_violations(host: Host, path: Path, seen: SiteIndex) -> Iterator[Violation]:
    """Everything wrong with how the interfaces of one host stand on its NICs, and on one another."""
    items = list(host.interfaces.items())
    yield from _devices(host, path)
    for index, (name, interface) in enumerate(items):
        where = (*path, "interfaces", name)
        yield from _guests(host, name, interface, where, seen)
        yield from _mtu(host, interface, where)
        for earlier_name, earlier in items[:index]:
            common = set(interface.macs) & set(earlier.macs)
            if common:
                yield from _shared(interface, earlier_name, earlier, where)


def _devices(host: Host, path: Path) -> Iterator[Violation]:
    """Names of the devices that the host creates: VLANs and bonds by their interface, bridges by their own.

    Those of NICs are the kernel's and udev's. A bond with no untagged interface has the name bond0 to bond15.
    """
    taken: set[str] = set()
    for name, interface in host.interfaces.items():
        where = (*path, "interfaces", name)
        names = [(where, name, interface.vlan is not None or interface.bond is not None)]
        names += [((*where, "bridge"), interface.bridge, True)] if interface.bridge else []
        for place, device, created in names:
            if device in _KERNEL_NAMES:
                yield Violation(place, f"the kernel keeps the name '{device}' for itself", "choose another")
            elif not created:
                continue
            elif _MADE_BY_OTHERS.fullmatch(device):
                fact = f"the kernel or libvirt makes devices of names such as '{device}' by itself"
                yield Violation(place, fact, "choose another, such as 'br-guests'")
            elif device in taken:
                fact = f"the name '{device}' is taken by another device of the host"
                yield Violation(place, fact, "choose another, such as 'br-guests'")
            elif _NIC_NAME.fullmatch(device) or _has_hidden_bond(host, device):
                fact = f"the host creates a device '{device}', and that is the name of a NIC or bond of its own"
                yield Violation(place, fact, "choose another, such as 'br-guests'", ((*path, "interfaces"),))
            taken.add(device)


def _has_hidden_bond(host: Host, device: str) -> bool:
    """Whether `device` may be the name of a bond that carries nothing but VLANs."""
    bonds = [interface for interface in host.interfaces.values() if interface.bond is not None]
    untagged = {frozenset(interface.macs) for interface in bonds if interface.vlan is None}
    hidden = any(frozenset(interface.macs) not in untagged for interface in bonds)
    return hidden and _BOND_NAME.fullmatch(device) is not None


def _shared(interface: Interface, other_name: str, other: Interface, path: Path) -> Iterator[Violation]:
    both = (path, (*path[:-1], other_name))
    links, tags = _keys(both, "macs", "bond", "bond_options"), _keys(both, "macs", "bond", "vlan")
    nets = (*tags, *_keys(both, "network"))
    bonds = (interface.bond, interface.bond_options), (other.bond, other.bond_options)
    if set(interface.macs) != set(other.macs) or bonds[0] != bonds[1]:
        fact = f"shares only a part of its NICs or no bond with '{other_name}'"
        yield Violation(
            (*path, "macs"), fact, "list the same MACs, 'bond' and 'bond_options' in both, or other NICs", links
        )
    elif interface.vlan == other.vlan and interface.vlan is None:
        fact = f"is a second untagged connection on the NICs of '{other_name}'"
        yield Violation((*path, "macs"), fact, "give one of them a 'vlan', or other NICs", tags)
    elif interface.vlan == other.vlan:
        fact = f"VLAN {interface.vlan} is already used by '{other_name}' on the same NICs"
        yield Violation((*path, "vlan"), fact, "take another VLAN, or other NICs", tags)
    elif interface.network == other.network and interface.network is not None:
        # A network is one segment: the NICs' one port cannot have it both under this tag and under that one.
        fact = f"the same NICs are on network '{interface.network}' by '{other_name}' already, with another VLAN"
        yield Violation((*path, "network"), fact, "name the network of this VLAN, or take other NICs", nets)


def _keys(places: tuple[Path, ...], *keys: str) -> tuple[Path, ...]:
    return tuple((*place, key) for place in places for key in keys)


def _mtu(host: Host, interface: Interface, path: Path) -> Iterator[Violation]:
    """A NIC has the largest MTU of what it carries; only a bridge on it may have a smaller one."""
    if interface.mtu is None or interface.vlan is not None or interface.bridge is not None:
        return
    for name, other in host.interfaces.items():
        larger = other.vlan is not None and other.mtu is not None and other.mtu > interface.mtu
        if larger and set(other.macs) == set(interface.macs):
            fact = f"{interface.mtu} is less than the {other.mtu} that the VLAN '{name}' on the same NIC needs"
            rests_on = _keys((path, (*path[:-1], name)), "macs", "vlan", "bridge")
            yield Violation((*path, "mtu"), fact, "leave it out, or give the VLAN no more", rests_on)


def _guests(host: Host, name: str, interface: Interface, path: Path, seen: SiteIndex) -> Iterator[Violation]:
    """A guest bridge on a management LAN would make every guest a machine of that LAN."""
    if interface.bridge is None:
        return
    where, guests = (*path, "bridge"), f"puts the guests of '{interface.bridge}'"
    # Both are asked of every bridge: which network an interface names says nothing of the tag that its frames have.
    if seen.is_management(interface):
        fact = f"{guests} on the management network '{interface.network}'"
        yield Violation(where, fact, "give the guests an interface with a 'vlan' of their own, or another NIC")
    elif interface.vlan in seen.tags:
        fact = f"{guests} on VLAN {interface.vlan}, the management LAN '{seen.tags[interface.vlan]}'"
        yield Violation(where, fact, "take another VLAN")
    elif interface.vlan is None and not interface.bridge_vlans:
        # A bridge with a list of VLANs passes nothing else, and nothing untagged.
        # A tagged management interface too: guests may tag frames themselves, and the bridge sends them on.
        for other_name, other in host.interfaces.items():
            if other_name != name and seen.is_management(other) and set(other.macs) & set(interface.macs):
                fact = f"{guests} untagged on the NIC that is connected to '{other.network}'"
                rests_on = _keys((path, (*path[:-1], other_name)), "vlan")
                yield Violation(where, fact, "give the bridge a 'vlan', or another NIC", rests_on)
                return
