"""What the rules of a host know of its site."""

from __future__ import annotations

from dataclasses import dataclass, field

from provision.boot import Role
from provision.host import Interface
from provision.site import Network, Site


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
