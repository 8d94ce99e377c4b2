"""What the rules of a host know of its site."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from provision.boot import Role
from provision.host import Interface
from provision.site import Address, Network, Site


@dataclass(frozen=True)
class SiteIndex:
    """What host rules know of the site, which is None when it could not be read."""

    site: Site | None
    tags: dict[int, str] = field(default_factory=dict)
    """Tag -> name of every tagged management network."""
    servers: dict[tuple[str | None, Address], str] = field(default_factory=dict)
    """Scope and address -> which server of the site has it."""

    def server(self, network: Network, address: Address) -> str | None:
        """Which server of the site has an address of a network, as far as the network can meet it."""
        return self.servers.get((network.scope, address)) or self.servers.get((None, address))

    def network(self, name: str | None) -> Network | None:
        return self.site.networks.get(name) if self.site and name is not None else None

    def is_management(self, interface: Interface) -> bool:
        network = self.network(interface.network)
        return network is not None and network.role is Role.MANAGEMENT


def site_index(site: Site | None) -> SiteIndex:
    """The index of a site."""
    if site is None:
        return SiteIndex(None)
    tags = {n.vlan: name for name, n in site.networks.items() if n.role is Role.MANAGEMENT and n.vlan}
    return SiteIndex(site, tags, dict(_servers(site)))


def _servers(site: Site) -> Iterator[tuple[tuple[str | None, Address], str]]:
    for name, network in site.networks.items():
        yield from (((network.scope, address), f"a DNS server of network '{name}'") for address in network.dns)
    for kind, service in (("management", site.servers.management), ("FreeIPA", site.servers.freeipa)):
        for server in service.hosts if service else ():
            if server.address is not None:
                yield (None, server.address), f"the {kind} server '{server.name}'"
