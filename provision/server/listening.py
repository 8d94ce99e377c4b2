"""Where and how a network is served: what settings, inventory and machine say together. Nothing here waits."""

from __future__ import annotations

from collections.abc import Sequence

from provision.boot import Channel, ChannelKind, Role
from provision.errors import Invalid, Problem, Problems, ProvisionError, Unavailable
from provision.net import interfaces, rules, sysctls
from provision.net.interfaces import Machine
from provision.net.rules import Stack
from provision.net.sources import Sources, sources
from provision.settings import Listen, Settings
from provision.site import Site
from provision.web.limits import Limits

# What boot loaders and hosts send has some hundred bytes, in less than ten fields; every one of the connections may
# hold as much as this.
_HEADER, _FIELDS, _BODY = 8192, 50, 4096


def place(listen: Listen, listens: Sequence[Listen], site: Site, machine: Machine) -> tuple[Channel, Stack]:
    """A network's channel, and what its interface stands on; `listens` are all networks of the settings.

    Raises Invalid with every rule that it breaks, or Unavailable.
    """
    network, subject = site.networks.get(listen.network), f"network '{listen.network}'"
    if network is None:
        known = ", ".join(site.networks)
        raise Invalid(subject, f"is not in the inventory (there: {known})", "correct [[listen]]")
    if network.scope is not None:
        fact = f"is in scope '{network.scope}', and the server is in none"
        raise Invalid(subject, fact, "leave its [[listen]] or its 'scope' out")
    if network.prefix is None:
        fact = "has no IPv4 prefix, and boot listeners are IPv4"
        raise Invalid(subject, fact, "leave its [[listen]] out: hosts there boot from an ISO or a disk")
    bindings = {one.network: _binding(one, site) for one in listens}
    own = bindings.pop(listen.network)
    refusals = rules.check_binding(own, list(bindings.values()), machine, listen.override)
    if refusals:
        facts = "; ".join(f"{refusal.fact} ({refusal.rule})" for refusal in refusals)
        raise Invalid(subject, facts, refusals[0].remedy)
    address = interfaces.address_of(machine, own)
    if network.role is Role.MANAGEMENT and address not in network.prefix and not address.is_unspecified:
        fact = f"{address} on {listen.interface} is outside of its prefix {network.prefix}"
        raise Invalid(subject, fact, "correct [[listen]], or the network's prefix")
    kind = ChannelKind.MANAGEMENT if network.role is Role.MANAGEMENT else ChannelKind.GENERAL
    channel = Channel(kind, listen.network, listen.interface, address, network.prefix, listen.links)
    return channel, rules.stack_of(own, machine, listen.override)


def refusal(errors: Sequence[ProvisionError]) -> ProvisionError:
    """All of `errors` as one: invalid when a setting is, and unavailable when only what is outside does not work."""
    if len(errors) == 1:
        return errors[0]
    problems = Problems((Problem(error.subject, 0, "", error.fact, error.remedy) for error in errors), "networks")
    if all(isinstance(error, Unavailable) for error in errors):
        problems.exit, problems.status, problems.kind = Unavailable.exit, Unavailable.status, Unavailable.kind
    return problems


def heard(channel: Channel, machine: Machine) -> Sources:
    """Whom a network's sockets hear: its own prefix, and what is routed by its interface."""
    interface = channel.interface or ""
    own = [address.ip for one in machine.interfaces.values() for address in one.addresses]
    there = machine.interfaces.get(interface)
    prefixes = [address.network for address in there.addresses] if there is not None else []
    return sources([*prefixes, *machine.routes.get(interface, ()), *([channel.prefix] if channel.prefix else [])], own)


def advice(channel: Channel, machine: Machine) -> list[sysctls.Advice]:
    """What of the kernel should be set otherwise for a network that is served."""
    there = machine.interfaces.get(channel.interface or "")
    if channel.kind is not ChannelKind.MANAGEMENT or channel.prefix is None or there is None:
        return []
    return list(sysctls.advise(there.name, channel.prefix, there.sysctl, machine.neighbours))


def _binding(listen: Listen, site: Site) -> interfaces.Binding:
    network = site.networks.get(listen.network)
    role = network.role if network else Role.GENERAL
    return interfaces.Binding(listen.network, role, listen.interface, listen.address, listen.bridge_ports)


def limits(settings: Settings) -> Limits:
    """The bounds of a boot listener."""
    return Limits(
        header=_HEADER,
        header_seconds=settings.header_timeout,
        fields=_FIELDS,
        body=_BODY,
        body_seconds=settings.header_timeout,
        connections=settings.max_connections,
        per_peer=settings.max_connections_per_peer,
    )
