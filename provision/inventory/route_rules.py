"""What must hold of a host's routes together: which of two is taken must not be left to chance."""

from __future__ import annotations

from collections.abc import Iterator

from provision.document import Path
from provision.host import Addressing, Host, Interface
from provision.inventory.site_index import SiteIndex
from provision.inventory.violation import Violation
from provision.site import Address, Network


def route_violations(host: Host, path: Path, seen: SiteIndex) -> Iterator[Violation]:
    """Routes of one destination and one metric, on whatever interfaces: the kernel takes one, or both by turns.

    A route without a metric has that of its interface, and so has the default route to the gateway of its network.
    """
    metrics = host.metrics
    first: dict[tuple[str, int], tuple[str, Path | None]] = {}
    for name, interface in host.interfaces.items():
        if interface.addressing is not None and (network := seen.network(interface.network)) is not None:
            for gateway in _gateways(interface, network):
                to = "0.0.0.0/0" if gateway.version == 4 else "::/0"
                # Two gateways of one metric are two interfaces of one metric, of which another rule speaks.
                first.setdefault((to, metrics[name]), (f"the gateway {gateway} of network '{interface.network}'", None))
    default_metrics = tuple((*path, "interfaces", name, "metric") for name in host.interfaces)
    for name, interface in host.interfaces.items():
        for index, route in enumerate(interface.routes):
            place = (*path, "interfaces", name, "routes", index)
            metric = route.metric or metrics[name]
            other, at = first.setdefault((str(route.to), metric), (f"that of '{name}'", place))
            if at == place:
                continue
            fact = f"a second route to {route.to} with the metric {metric}, beside {other}"
            rests_on = (*default_metrics, *((*one, "metric") for one in (at, place) if one is not None))
            yield Violation((*place, "to"), fact, "leave one of them out, or give the route another 'metric'", rests_on)


def _gateways(interface: Interface, network: Network) -> Iterator[Address]:
    """The gateways of a network that the interface takes; DHCP and router advertisements name them, too."""
    dynamic = interface.addressing is Addressing.DHCP
    if network.gateway is not None and (dynamic or interface.ipv4 is not None):
        yield network.gateway
    if network.gateway6 is not None and (dynamic or interface.ipv6 is not None or interface.ipv6_addressing):
        yield network.gateway6
