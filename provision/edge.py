"""One served network as the socket says it: the channel of its requests, and who a peer is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address

from provision.boot import Channel, ChannelKind, Requester
from provision.net import fdb
from provision.net.neighbours import Neighbours
from provision.net.rules import Footing
from provision.service.netboot import Origin
from provision.site import Site


@dataclass(frozen=True)
class Edge:
    """A listener's channel. `ifindex` is its interface, and `neighbours` the kernel's table of who is on it.

    `site` gives the site as it is applied now: a network that has just become general is general for the next request,
    before anybody has touched its listener. `footing` is what the interface stands on: on a bridge, a MAC counts only
    when it was learned on a listed port.
    """

    channel: Channel
    ifindex: int
    http_port: int
    neighbours: Neighbours
    site: Callable[[], Site | None] | None = None
    footing: Footing = field(default_factory=Footing)

    def _present(self) -> Channel:
        site = self.site() if self.site else None
        if site is None:
            return self.channel
        network = site.networks.get(self.channel.network or "")
        if network is None:
            return replace(self.channel, kind=ChannelKind.GENERAL, prefix=None)
        if network.role.value == self.channel.kind.value and network.prefix == self.channel.prefix:
            return self.channel
        # Never the other way: what makes an interface fit for secrets is looked at when its listener starts.
        management = network.role.value == self.channel.kind.value == ChannelKind.MANAGEMENT.value
        kind = ChannelKind.MANAGEMENT if management else ChannelKind.GENERAL
        return replace(self.channel, kind=kind, prefix=network.prefix)

    def _on_a_listed_port(self, mac: str) -> bool:
        standing = self.footing
        return not standing.bridge or standing.allows(fdb.port_of(standing.bridge, mac, standing.vlan))

    async def origin(self, peer: str | None) -> Origin:
        """Who `peer` (the socket's peer address) is. A MAC comes only from the kernel's neighbour table."""
        address = IPv4Address(peer) if peer else None
        local = address is None or address.is_loopback or self.neighbours.is_local(address)
        channel, mac = self._present(), None
        if address is not None and not local and channel.prefix and address in channel.prefix:
            mac = await self.neighbours.find_mac(self.ifindex, address)
            channel = self._present()
            if mac is not None and not self._on_a_listed_port(mac):
                mac = None
        return Origin(channel, Requester(address=address, mac=mac, local=local), self.http_port)
