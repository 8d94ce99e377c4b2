"""One served network as the socket says it: the channel of its requests, and who a peer is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from ipaddress import IPv4Address
from typing import TypeVar

from provision.boot import Channel, ChannelKind, Requester
from provision.media.plan import Plan
from provision.net import fdb
from provision.net.neighbours import Neighbours
from provision.net.pins import Pins, Place
from provision.net.rules import Stack
from provision.service.delivery import Delivery
from provision.service.origin import Origin
from provision.site import Site

T = TypeVar("T", Plan, Delivery, Plan | Delivery)
"""What an answer is made of: a medium without secrets, or a delivery with some."""


@dataclass(frozen=True)
class Edge:
    """A listener's channel. `ifindex` is its interface, and `neighbours` the kernel's table of who is on it.

    `site` gives the site as it is applied now: a network that has just become general is general for the next request,
    before anybody has touched its listener. `pins` asks machines whether they are at their address; a management
    network is not served without. `macs_at` tells whose address one is, by the inventory. `stack` is what the
    interface stands on: on a bridge, a MAC counts only when it was learned on a listed port.
    """

    channel: Channel
    ifindex: int
    http_port: int
    neighbours: Neighbours
    site: Callable[[], Site | None] | None = None
    pins: Pins | None = None
    macs_at: Callable[[str, IPv4Address], tuple[str, ...]] = lambda network, address: ()
    stack: Stack = field(default_factory=Stack)
    # The site that was asked for last, and what the channel is by it.
    _judged: list[tuple[Site | None, Channel]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_judged", [(None, self.channel)])

    def _present(self) -> Channel:
        site = self.site() if self.site else None
        if site is None:
            return self.channel
        known, channel = self._judged[0]
        if known is not site:
            channel = self._judge(site)
            self._judged[0] = site, channel
        return channel

    def _judge(self, site: Site) -> Channel:
        """What the channel is by this site."""
        network = site.networks.get(self.channel.network or "")
        if network is None or network.prefix is None:
            return replace(self.channel, kind=ChannelKind.GENERAL, prefix=None)
        if network.role.value == self.channel.kind.value and network.prefix == self.channel.prefix:
            return self.channel
        # Never the other way: what makes an interface fit for secrets is looked at when its listener starts.
        management = network.role.value == self.channel.kind.value == ChannelKind.MANAGEMENT.value
        kind = ChannelKind.MANAGEMENT if management else ChannelKind.GENERAL
        return replace(self.channel, kind=kind, prefix=network.prefix)

    def _on_a_listed_port(self, mac: str) -> bool:
        """Whether frames for `mac`, which has just been heard, go to a port that the operator listed."""
        stack = self.stack
        return not stack.bridge or stack.allows(fdb.port_of(stack.bridge, mac, stack.vlan))

    async def origin(self, peer: str | None) -> Origin:
        """Who `peer` (the socket's peer address) is. A MAC comes only from the kernel's neighbour table."""
        address, loopback = _peer(peer) if peer else (None, True)
        local = address is None or peer is None or loopback or self.neighbours.is_local(peer)
        channel, mac = self._present(), None
        if address is not None and not local and channel.prefix and address in channel.prefix:
            mac = await self._mac(address)
            channel = self._present()
            if mac is not None and not self._on_a_listed_port(mac):
                mac = None
        return Origin(channel, Requester(address=address, mac=mac, local=local), self.http_port)

    async def confirmed(self, origin: Origin) -> Origin:
        """The same request once its machine was asked whether it is there; its address is not kept pinned to it."""
        pinned = await self._pinned(origin)
        pinned.release()
        return replace(pinned, pin=None)

    async def deliver(self, origin: Origin, make: Callable[[Origin], T]) -> T:
        """What `make` gives (in a thread) for the request once its machine was asked whether it is there, and its
        address pinned to it. A delivery keeps that pin, and has its turn at the window; nothing else keeps it."""
        pinned = await self._pinned(origin)
        making = asyncio.get_running_loop().run_in_executor(None, make, pinned)
        try:
            made = await asyncio.shield(making)
        except asyncio.CancelledError:
            making.add_done_callback(lambda done: _drop(done, pinned))
            raise
        except BaseException:
            pinned.release()
            raise
        if not isinstance(made, Delivery):
            pinned.release()
            return made
        try:
            await made.turn()
        except BaseException:
            made.end()
            raise
        return made

    async def _pinned(self, origin: Origin) -> Origin:
        """The same request with a pin. Nothing is asked on a general network, which no secret goes to, and of a
        machine that the kernel does not know."""
        who, channel = origin.requester, origin.channel
        if channel.kind is not ChannelKind.MANAGEMENT or self.pins is None or who.mac is None or who.address is None:
            return origin
        wanted, pin = self.macs_at(channel.network or "", who.address), None
        # An address that the inventory gives to one host is never held for another machine: it would cut that host off.
        if not wanted or who.mac in wanted:
            pin = await self.pins.pin(self._place(who.address, who.mac))
        try:
            if pin is not None and not self._on_a_listed_port(who.mac):
                pin.release()
                pin = None
        except BaseException:
            if pin is not None:
                pin.release()
            raise
        return replace(origin, requester=replace(who, confirmed=pin is not None), pin=pin)

    async def _mac(self, address: IPv4Address) -> str | None:
        """The MAC that is at `address`.

        It is the one that the inventory has there when that answers, whatever somebody else has told the kernel, and
        also when the kernel has no entry yet. Else it is the one that the kernel has, when that has been heard of
        lately or answers.
        """
        confirmed = self._heard_of(address, self.neighbours.confirmed(self.ifindex, address))
        wanted = self.macs_at(self.channel.network or "", address)
        if confirmed is not None and (not wanted or confirmed in wanted):
            return confirmed
        recorded = await self.neighbours.find_mac(self.ifindex, address)
        if self.pins is None:
            return recorded
        recorded = self.pins.behind(self.ifindex, address, recorded)
        if recorded not in wanted:
            found = await self._who_answers(address, wanted)
            # What the kernel had may be gone by now: an entry that no longer exists refuses nobody.
            found = found or self._heard_of(address, self.neighbours.confirmed_now(self.ifindex, address))
            if found is not None or recorded is None:
                return found
        return await self._who_answers(address, (recorded,))

    def _heard_of(self, address: IPv4Address, confirmed: str | None) -> str | None:
        """The MAC, unless it is only what the address has while its machine is asked whether it is still there."""
        own = self.pins is None or self.pins.behind(self.ifindex, address, confirmed) == confirmed
        return confirmed if own else None

    async def _who_answers(self, address: IPv4Address, macs: Sequence[str]) -> str | None:
        if self.pins is None:
            return None
        answers = await asyncio.gather(*(self.pins.confirm(self._place(address, mac)) for mac in macs))
        return next((mac for mac, there in zip(macs, answers, strict=True) if there), None)

    def _place(self, address: IPv4Address, mac: str) -> Place:
        return Place(self.ifindex, self.channel.address or IPv4Address(0), address, mac)


@lru_cache(maxsize=4096)
def _peer(text: str) -> tuple[IPv4Address, bool]:
    """The address of a peer, and whether it is one of loopback."""
    address = IPv4Address(text)
    return address, address.is_loopback


def _drop(made: asyncio.Future[T], pinned: Origin) -> None:
    """Nobody waits any more for what was made."""
    result = None if made.cancelled() or made.exception() is not None else made.result()
    if isinstance(result, Delivery):
        result.end()
    else:
        pinned.release()
