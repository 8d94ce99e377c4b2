"""A kernel's neighbour table, and machines that are at their address, without a kernel and without machines."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Address

from provision.net.neighbours import Neighbours
from provision.net.pins import Pin, Pins, Place


class FakeNeighbours(Neighbours):
    """A kernel whose table is a dictionary of MACs by address."""

    def __init__(self, macs: Mapping[str, str], own: Sequence[str] = ("10.0.0.1", "10.1.0.1")) -> None:
        self.table, self.own = dict(macs), own

    def confirmed(self, ifindex: int, address: IPv4Address | str) -> str | None:
        return self.table.get(str(address))

    def confirmed_now(self, ifindex: int, address: IPv4Address | str) -> str | None:
        return self.table.get(str(address))

    async def find_mac(self, ifindex: int, address: IPv4Address | str, timeout: float = 1.0) -> str | None:
        return self.table.get(str(address))

    def is_local(self, address: IPv4Address | str) -> bool:
        return str(address) in self.own


class FakePin(Pin):
    """A pin of no kernel's entry."""

    def __init__(self, place: Place, release: Callable[[Pin], None] = lambda _: None) -> None:
        super().__init__(place, FakePins(), release)

    def guard(self, sock: socket.socket) -> None:
        """What comes over loopback has no MAC."""

    async def guard_stream(self, sock: socket.socket) -> bool:
        return True


class FakePins(Pins):
    """Every machine is where the table has it, but those at the addresses `off`. Those in `rechecked`, MACs by address,
    are just being asked whether they still are: their entries have the MAC ASIDE."""

    ASIDE = "52:54:00:00:00:a5"

    def __init__(self, off: Sequence[str] = (), rechecked: Mapping[str, str] | None = None) -> None:
        self.off, self.made, self.rechecked = off, list[Pin](), rechecked or {}

    def behind(self, ifindex: int, address: IPv4Address | str, mac: str | None) -> str | None:
        return self.rechecked.get(str(address), mac) if mac == self.ASIDE else mac

    async def confirm(self, place: Place) -> bool:
        return str(place.address) not in self.off

    async def pin(self, place: Place) -> Pin | None:
        if not await self.confirm(place):
            return None
        self.made.append(FakePin(place))
        return self.made[-1]
