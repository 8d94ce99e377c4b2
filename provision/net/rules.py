"""Whether a network may be served on an interface: the start-up refusals, and what one notification of a link breaks.

Everything here is pure: it judges what `interfaces.look` saw. The order of the rules is that of `settings.RULES`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from provision.boot import Role
from provision.net.interfaces import SHARING, Binding, Interface, Link, Machine
from provision.settings import RULES

_BUNDLES = ("bond", "team")
"""Their NICs are one wire; anything else in them is somebody else's way in."""
_NAMED = 3
"""So many interfaces are named in one line; the others are counted."""


@dataclass(frozen=True)
class Refusal:
    """A rule that a binding breaks; `str()` is one line. An operator overrides `rule` with a written reason."""

    rule: str
    subject: str
    fact: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.fact}; {self.remedy}"


@dataclass(frozen=True)
class Stack:
    """What a served interface stands on, by interface index: enough to judge a notification of another link without a
    look.

    `below` are the interface and those under it. `joined` are those of them that other interfaces can join (bridges,
    bonds), and `ports` the names that may; None means that the operator has overridden the rule, so any may. `bridge`
    is the first bridge, 0 for none, and `vlan` the VLAN in which a host's MAC is learned there (see `fdb.port_of`).
    `shared` says that macvlans may stand on it, by the operator's override.
    """

    below: frozenset[int] = frozenset()
    joined: frozenset[int] = frozenset()
    ports: frozenset[str] | None = frozenset()
    bridge: int = 0
    vlan: int = 0
    shared: bool = False

    def allows(self, port: str | None) -> bool:
        """Whether a host may be on this port of the bridge; None (its MAC was learned on none) never."""
        return port is not None and (self.ports is None or port in self.ports)


def stack_of(binding: Binding, machine: Machine, overrides: Mapping[str, str]) -> Stack:
    """What the interface of `binding` stands on; empty when the interface is not there, and for a general network,
    which may stand on anything."""
    if binding.role is not Role.MANAGEMENT:
        return Stack()
    chain = list(_chain(binding.interface, machine))
    bridge = next((one for one in chain if one.kind == "bridge"), None)
    tagged = next((one.vlan for one in chain if one.kind == "vlan"), 0)
    return Stack(
        frozenset(one.index for one in chain),
        frozenset(one.index for one in chain if one.kind in ("bridge", *_BUNDLES)),
        None if _given("bridge-ports", overrides) else frozenset(_allowed(binding, chain)),
        bridge.index if bridge is not None else 0,
        (tagged or bridge.vlan) if bridge is not None and bridge.vlan else 0,
        _given("shared-nic", overrides),
    )


def objection(link: Link, stack: Stack) -> str | None:
    """Why a management network with that stack must end at the very message that tells of `link`; else None."""
    if link.index in stack.below:
        return None
    if link.master in stack.joined and not stack.allows(link.name):
        return f"{link.name} has joined the bridge, and is not in 'bridge_ports' (bridge-ports)"
    if link.lower in stack.below and link.kind in SHARING and not stack.shared:
        return f"{link.name}, a {link.kind}, now stands on its interface (shared-nic)"
    return None


def check_binding(
    binding: Binding, others: Sequence[Binding], machine: Machine, overrides: Mapping[str, str]
) -> list[Refusal]:
    """Why `binding` may not be served, in the order of `RULES`; empty means it may.

    Pure. `others` are the other networks of this server. `overrides` maps a rule to the operator's written reason;
    a blank reason overrides nothing. A missing interface is not refused here: binding the socket says so.
    """
    found = [*_wildcard(binding), *_forwarding(binding, others, machine), *_port_of_bridge(binding, machine)]
    if binding.role is Role.MANAGEMENT:
        found += [*_default(binding, machine), *_bridges(binding, machine), *_shared(binding, machine)]
        found += [*_vrf(binding, machine), *_forwarding(binding, others, machine, six=True)]
    return sorted((r for r in found if not _given(r.rule, overrides)), key=lambda r: RULES.index(r.rule))


def _given(rule: str, overrides: Mapping[str, str]) -> bool:
    return bool(overrides.get(rule, "").strip())


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


def _allowed(binding: Binding, chain: Sequence[Interface]) -> Iterator[str]:
    """The ports that may be there now: the listed ones, and the ones that a bond was found with."""
    yield from binding.bridge_ports
    for one in chain:
        if one.kind in _BUNDLES:
            yield from one.ports


def _wildcard(binding: Binding) -> Iterator[Refusal]:
    if binding.address is not None and binding.address.is_unspecified:
        fact = "0.0.0.0 listens on every address, so the socket no longer says where a request came in"
        yield _refuse("wildcard-address", binding, fact, "set the interface's own address")


def _default(binding: Binding, machine: Machine) -> Iterator[Refusal]:
    name = binding.interface
    if name in machine.default_routes and name in machine.interfaces:
        fact = f"the default route leaves by {name}, so this is not a dedicated management LAN"
        see = f"see 'ip route show table all dev {name}' and 'ip -6 route show table all dev {name}'"
        yield _refuse("default-route", binding, fact, f"use a NIC of its own ({see})")


def _bridges(binding: Binding, machine: Machine) -> Iterator[Refusal]:
    for one in _chain(binding.interface, machine):
        if one.kind == "openvswitch":
            fact = f"{one.name} is an Open vSwitch, whose ports cannot be checked here"
            yield _refuse("bridge-ports", binding, fact, "use a NIC of its own")
        unlisted = [port for port in one.ports if port not in binding.bridge_ports]
        if one.kind in _BUNDLES:
            unlisted = [port for port in unlisted if machine.interfaces[port].kind]
        if unlisted and one.kind in ("bridge", *_BUNDLES):
            ports = ", ".join(unlisted)
            fact = f"{one.name} is a {one.kind}, and every machine on its port {ports} would be on this network"
            yield _refuse("bridge-ports", binding, fact, "use a NIC of its own, or list every port in 'bridge_ports'")


def _port_of_bridge(binding: Binding, machine: Machine) -> Iterator[Refusal]:
    own = machine.interfaces.get(binding.interface)
    bridge = machine.interfaces.get(own.bridge) if own is not None and own.bridge is not None else None
    if bridge is not None and bridge.kind == "bridge":
        fact = f"{binding.interface} is a port of the bridge {bridge.name}, so it hears nothing"
        yield _refuse("bridge-port", binding, fact, f"use {bridge.name}, or take {binding.interface} out of it")


def _shared(binding: Binding, machine: Machine) -> Iterator[Refusal]:
    chain = list(_chain(binding.interface, machine))
    names = {one.name for one in chain}
    known = {one.mac for one in machine.interfaces.values()}
    for one in chain:
        for child in sorted(machine.interfaces.values(), key=lambda i: i.name):
            if child.lower == one.name and child.kind in SHARING and child.name not in names:
                fact = (
                    f"{child.name} is a {child.kind} over {one.name}, and a guest that has it would be on this network"
                )
                yield _refuse("shared-nic", binding, fact, f"ip link del {child.name}, or use a NIC of its own")
        unseen = [mac for mac in one.stations if mac not in known]
        if unseen:
            fact = f"{one.name} is shared with {_named(unseen)}, a macvlan that is in another namespace (a container's)"
            remedy = f"see 'bridge fdb show dev {one.name}', and use a NIC of its own"
            yield _refuse("shared-nic", binding, fact, remedy)
        if one.elsewhere:
            fact = f"{one.name} stands on a NIC of another namespace, and who else does cannot be seen from here"
            yield _refuse("shared-nic", binding, fact, "use a NIC of its own")


def _vrf(binding: Binding, machine: Machine) -> Iterator[Refusal]:
    for one in _chain(binding.interface, machine):
        master = machine.interfaces.get(one.bridge) if one.bridge is not None else None
        if one.kind == "vrf":
            fact = f"{one.name} is a VRF, and a socket on it hears every NIC in it"
            yield _refuse("vrf", binding, fact, "use a NIC of its own, outside of any VRF")
        elif master is not None and master.kind == "vrf":
            fact = f"{one.name} is in the VRF {master.name}, where sockets and routes of others reach it"
            yield _refuse("vrf", binding, fact, f"ip link set {one.name} nomaster")


def _forwarding(
    binding: Binding, others: Sequence[Binding], machine: Machine, *, six: bool = False
) -> Iterator[Refusal]:
    def forwards(one: Interface) -> bool:
        return one.forwarding6 if six else one.forwarding

    name = binding.interface
    if name not in machine.interfaces or not forwards(machine.interfaces[name]):
        return
    there = [one for one in _others(binding, others, machine) if forwards(one)]
    if where := _where(binding, others, there):
        fact = f"this server forwards {'IPv6 ' if six else ''}packets between it and {where}"
        remedy = f"sysctl net.ipv4.conf.{name}.forwarding=0"
        if six:
            remedy = f"sysctl net.ipv6.conf.{name}.disable_ipv6=1, or net.ipv6.conf.all.forwarding=0"
        yield _refuse("forwarding", binding, fact, remedy)


def _others(binding: Binding, others: Sequence[Binding], machine: Machine) -> list[Interface]:
    """The interfaces that packets can be forwarded to and from, and that are not served as the same kind of network.

    A port of a bridge or bond takes no packets of its own; a member of a VRF does.
    """
    same = {other.interface for other in others if other.role is binding.role}
    masters = {one.name for one in machine.interfaces.values() if one.kind != "vrf"}
    return [
        one
        for one in machine.interfaces.values()
        if one.up and not one.loopback and one.bridge not in masters and one.name not in {binding.interface, *same}
    ]


def _where(binding: Binding, others: Sequence[Binding], there: Sequence[Interface]) -> str:
    """Where packets go; for a general network only management networks count."""
    served = {other.interface: f"the {other.role} network '{other.network}'" for other in others}
    names = [served.get(one.name, one.name) for one in there]
    if binding.role is not Role.MANAGEMENT:
        names = [served[one.name] for one in there if one.name in served]
    return _named(sorted(names, key=lambda name: " " not in name))


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
