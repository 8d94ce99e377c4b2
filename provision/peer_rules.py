"""What keeps a machine on a LAN from being believed to be a host; pure, for `provision.policy`."""

from __future__ import annotations

from collections.abc import Collection

from provision.boot import Channel, Requester
from provision.denial import Denial


def denial(name: str, macs: Collection[str], requester: Requester, channel: Channel, elsewhere: str) -> Denial | None:
    """Why whoever asks on the channel is not believed to be the host `name`, which has these MACs. `elsewhere` says
    where to boot it instead."""
    where = f"network '{channel.network}'" if channel.network else "another role"
    address, mac = requester.address, requester.mac
    if requester.local:
        fact = f"The request for {name} comes from an address of this server, so a proxy or a guest may be behind it"
        return Denial("local-peer", name, fact, f"Let {name} ask by itself on {elsewhere}")
    if address is None or channel.prefix is None or address not in channel.prefix:
        fact = f"{address} is not inside {channel.prefix}, the prefix of {where}"
        return Denial("off-prefix", name, fact, f"Boot {name} on {elsewhere} without a router in between")
    if mac is None:
        fact = f"{address} has no neighbour entry on {channel.interface}"
        return Denial("no-neighbour", name, fact, f"Put {name} on the same L2 segment as this server")
    if mac not in macs:
        remedy = f"Boot {name} from one of its own NICs, or correct its MACs and run 'provision apply'"
        return Denial("foreign-mac", name, f"{mac} is not a MAC of {name}", remedy)
    if requester.confirmed is False:
        fact = f"{mac} did not answer by ARP on {channel.interface} that it has {address}"
        remedy = f"Boot {name} again; if it asked itself, look for another machine with its address"
        return Denial("not-confirmed", name, fact, remedy)
    return None
