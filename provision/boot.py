"""The words of booting: media, channels, requesters, and what policy is told of the bytes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network

from provision.clock import TOLERANCE
from provision.principal import Principal, PrincipalRole

SAME_BOOT = timedelta(minutes=10)
"""Re-reads by the same MAC within this time of the first seed byte are the same boot."""

FETCHING = timedelta(hours=1)
"""How long after its configuration a boot may come for its first seed byte: kernel and initrd are before it, and a
whole site may fetch theirs at once."""


class Medium(StrEnum):
    """The shapes in which a host gets its identity."""

    PXE = "pxe"
    HTTP_BOOT = "http-boot"
    ISO = "iso"
    DISK = "disk"

    @property
    def from_network(self) -> bool:
        """Whether firmware loads this medium from a LAN by itself."""
        return self in (Medium.PXE, Medium.HTTP_BOOT)


class Role(StrEnum):
    """What a network is for."""

    MANAGEMENT = "management"
    GENERAL = "general"


class ChannelKind(StrEnum):
    """Where a request came in."""

    MANAGEMENT = "management"
    GENERAL = "general"
    OPERATOR = "operator"


@dataclass(frozen=True)
class Channel:
    """Where a request came in, as the socket says it: never derived from an address or a header.

    `network`, `interface`, `address` (the server's own) and `prefix` are None for the operator's application, however
    it is reached: its requester has a principal.
    """

    kind: ChannelKind
    network: str | None = None
    interface: str | None = None
    address: IPv4Address | None = None
    prefix: IPv4Network | None = None

    def __str__(self) -> str:
        return f"{self.kind}:{self.network}" if self.network else str(self.kind)


OPERATOR = Channel(ChannelKind.OPERATOR)


@dataclass(frozen=True)
class Requester:
    """Who asks: `address` and `local` from the socket's peer, `mac` from the kernel's neighbour table only.

    `confirmed` says whether that MAC itself, asked for this very request, answered that it has the address, which is
    then pinned to it; None when it was not asked, as for what holds no secret. `local` says that the peer address is
    one of the server's own. `principal` is whom the operator's application authenticated, and None everywhere else.
    """

    address: IPv4Address | None = None
    mac: str | None = None
    local: bool = False
    principal: Principal | None = None
    confirmed: bool | None = None

    @property
    def is_operator(self) -> bool:
        """Whether somebody asks who may take media."""
        return self.principal is not None and self.principal.may(PrincipalRole.OPERATOR)


@dataclass(frozen=True)
class Payload:
    """What the bytes in question carry: `secrets_in_clear` is true when a sniffer would read a secret."""

    secrets_in_clear: bool


@dataclass(frozen=True)
class Window:
    """A period in which a host may boot from the network: from `opened` until `expires`, `boots` times, `used` so far.

    `opened` is None where only the end matters.
    """

    id: int
    expires: datetime
    boots: int
    used: int
    closed: bool = False
    opened: datetime | None = None

    def is_open(self, now: datetime) -> bool:
        """Whether a new boot may be charged at `now` (aware datetime). One opened in the future is not open."""
        begun = self.opened is None or _since(self.opened, now, self.expires - self.opened)
        return begun and not self.closed and self.used < self.boots and now < self.expires


@dataclass(frozen=True)
class Boot:
    """One boot of one host as the server sees it; a boot is charged at its first seed byte.

    `seed_revision` pins the reader: bytes of another revision are never given to this boot. Fractions are 0..1.
    """

    id: int
    host: str
    mac: str
    medium: Medium
    network: str
    started: datetime
    window: int | None = None
    charged: datetime | None = None
    seed_revision: str | None = None
    up: datetime | None = None

    @property
    def label(self) -> str:
        """What the boot is called in the revision of its seed."""
        return str(self.id)

    def is_charged(self, now: datetime) -> bool:
        """Whether it was charged so lately that what it reads again at `now` is free."""
        return self.up is None and self.charged is not None and _since(self.charged, now, SAME_BOOT)

    def is_running(self, now: datetime, fetching: timedelta = SAME_BOOT) -> bool:
        """Whether what its machine asks at `now` belongs to it; not charged yet, it began less than `fetching` ago."""
        if self.charged is not None:
            return self.is_charged(now)
        return self.up is None and _since(self.started, now, fetching)


def _since(moment: datetime, now: datetime, length: timedelta) -> bool:
    """Whether `now` is less than `length` after `moment`. What has not been yet, by more than a clock may be off, is
    of a clock that was wrong then or is wrong now: nothing rests on it."""
    return moment - TOLERANCE <= now < moment + length


@dataclass(frozen=True)
class Copy:
    """A medium that an operator takes away. Every copy with one `id` (32 hex digits) has the same bytes, so nothing is
    recorded of one but that it was given away, until a host has booted from it and says so."""

    host: str
    medium: Medium
    id: str

    @property
    def label(self) -> str:
        """What the copy is called in the revision of its seed."""
        return f"{self.medium} {self.id}"

    @property
    def network(self) -> str:
        """The network it was given away on: none."""
        return ""
