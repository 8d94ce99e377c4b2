"""One served network as the socket says it: the channel of its requests, and who a peer is."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address

from provision.boot import Channel, Requester
from provision.net.neighbours import Neighbours
from provision.service.netboot import Origin


@dataclass(frozen=True)
class Edge:
    """A listener's channel. `ifindex` is its interface, and `neighbours` the kernel's table of who is on it."""

    channel: Channel
    ifindex: int
    http_port: int
    neighbours: Neighbours

    async def origin(self, peer: str | None) -> Origin:
        """Who `peer` (the socket's peer address) is. A MAC comes only from the kernel's neighbour table."""
        address = IPv4Address(peer) if peer else None
        local = address is None or address.is_loopback or self.neighbours.is_local(address)
        mac = None
        if address is not None and not local and self.channel.prefix and address in self.channel.prefix:
            mac = await self.neighbours.find_mac(self.ifindex, address)
        return Origin(self.channel, Requester(address=address, mac=mac, local=local), self.http_port)
