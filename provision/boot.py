"""The words of booting: media, channels, requesters, and what policy is told of the bytes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address

from provision.clock import TOLERANCE
from provision.principal import Principal, PrincipalRole

SAME_BOOT = timedelta(minutes=10)
"""Re-reads by the same MAC within this time of the first seed byte are the same boot."""

FETCHING = timedelta(hours=1)
"""How long after its configuration a boot may come for its first seed byte: kernel and initrd are before it, and a
whole site may fetch theirs at once."""

LINK_IDLE = timedelta(minutes=10)
"""A use of a link goes on while its peer asks again within this time. A BMC reads a CD as the host does: by ranges,
with minutes between them while a kernel unpacks what it has."""


class Medium(StrEnum):
    """The shapes in which a host gets its identity."""

    PXE = "pxe"
    HTTP_BOOT = "http-boot"
    ISO = "iso"
    DISK = "disk"
    ENVELOPE = "envelope"

    @property
    def from_network(self) -> bool:
        """Whether the host gets this medium from a LAN by itself."""
        return self in (Medium.PXE, Medium.HTTP_BOOT, Medium.ENVELOPE)


class DiskFormat(StrEnum):
    """The forms of a disk image."""

    RAW = "raw"
    QCOW2 = "qcow2"
    RAW_ZST = "raw.zst"

    @property
    def suffix(self) -> str:
        """How a file of it is called: "img", "qcow2" or "zst"."""
        return {DiskFormat.RAW: "img", DiskFormat.RAW_ZST: "zst"}.get(self, str(self))


RAW = DiskFormat.RAW


@dataclass(frozen=True)
class Kind:
    """What is downloaded: a medium, a disk in one of its formats. Its text is the last part of its path: "iso",
    "disk", "disk.qcow2" or "disk.raw.zst"."""

    medium: Medium
    format: DiskFormat = RAW

    def __str__(self) -> str:
        return f"{self.medium}.{self.format}" if self.format is not RAW else str(self.medium)

    @property
    def suffix(self) -> str:
        """How a file of it is called: "iso", "img", "qcow2" or "img.zst"."""
        if self.medium is not Medium.DISK:
            return str(self.medium)
        return "img.zst" if self.format is DiskFormat.RAW_ZST else self.format.suffix


DOWNLOADS = {str(kind): kind for kind in (Kind(Medium.ISO), *(Kind(Medium.DISK, one) for one in DiskFormat))}
"""Everything that is downloaded, by its text."""


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
    it is reached: its requester has a principal, or a link. `links` says whether the settings let media go out here by
    link, in plain HTTP.
    """

    kind: ChannelKind
    network: str | None = None
    interface: str | None = None
    address: IPv4Address | None = None
    prefix: IPv4Network | None = None
    links: bool = False

    def __str__(self) -> str:
        return f"{self.kind}:{self.network}" if self.network else str(self.kind)


OPERATOR = Channel(ChannelKind.OPERATOR)


@dataclass(frozen=True)
class LinkUse:
    """One use of a link: the address that it belongs to, when it began, and when that address asked last."""

    peer: str
    began: datetime
    seen: datetime

    def goes_on(self, peer: str, now: datetime) -> bool:
        """Whether what `peer` asks at `now` belongs to it."""
        return self.peer == peer and _since(self.seen, now, LINK_IDLE)


@dataclass(frozen=True)
class Link:
    """A short, expiring URL of one medium of one host, good for so many `uses`. Whoever has its secret is its bearer.

    All that is read by it is one copy (`copy`, 32 hex digits) of the medium as it was when the link was made:
    `identity` is what policy pins it to, and `seed_revision` what is in it. `address` is the only peer that may use it,
    when there is one. `actor` is the name of the principal who made it. `id` (12 hex digits) names it wherever its
    secret must not stand; `number` is its row's.
    """

    id: str
    number: int
    host: str
    medium: Medium
    identity: str
    seed_revision: str
    copy: str
    made: datetime
    expires: datetime
    uses: int
    actor: str
    address: str | None = None
    taken: tuple[LinkUse, ...] = ()
    revoked: bool = False

    def is_alive(self, now: datetime) -> bool:
        """Whether it has neither expired nor been revoked. One made in the future is of a clock that was wrong."""
        return not self.revoked and _since(self.made, now, self.expires - self.made)

    def use_of(self, peer: str, now: datetime) -> LinkUse | None:
        """The use that what `peer` asks at `now` belongs to; None when that would be a new one."""
        return next((use for use in self.taken if use.goes_on(peer, now)), None)

    def has_ended(self, peer: str, now: datetime) -> bool:
        """Whether `peer` gets nothing by it at `now`, whatever else is so."""
        return not self.is_alive(now) or (len(self.taken) >= self.uses and self.use_of(peer, now) is None)


@dataclass(frozen=True)
class Bearer:
    """Who has a link's secret: the link as it is now, and the address from which it is asked for."""

    link: Link
    address: IPv4Address | IPv6Address

    @property
    def peer(self) -> str:
        """The address as the uses of a link have it."""
        return str(self.address)


@dataclass(frozen=True)
class Requester:
    """Who asks: `address` and `local` from the socket's peer, `mac` from the kernel's neighbour table only.

    `confirmed` says whether that MAC itself, asked for this very request, answered that it has the address, which is
    then pinned to it; None when it was not asked, as for what holds no secret. `local` says that the peer address is
    one of the server's own. `principal` is whom the operator's application authenticated, and None everywhere else;
    `bearer` is who has shown a link's secret instead.
    """

    address: IPv4Address | None = None
    mac: str | None = None
    local: bool = False
    principal: Principal | None = None
    confirmed: bool | None = None
    bearer: Bearer | None = None

    @property
    def is_operator(self) -> bool:
        """Whether somebody asks who may take media."""
        return self.principal is not None and self.principal.may(PrincipalRole.OPERATOR)


class Payload(StrEnum):
    """What the bytes in question carry of a host's secrets: such that a sniffer would read them, none, or such as only
    the host's own TPM opens, in a boot chain that the site has approved."""

    CLEAR = "clear"
    NONE = "none"
    WRAPPED = "wrapped"


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

    def standing(self, now: datetime) -> str:
        """Why it is not open, as what its host "has"."""
        if self.used >= self.boots:
            return f"has used its boot window ({self.used} of {self.boots} boots)"
        if not self.closed and now < self.expires:
            return "has a boot window that was opened in the future, by a clock that was wrong"
        return "had a boot window, which is closed" if self.closed else "had a boot window, which has expired"


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
    """A medium that is taken away, by an operator or by the link of that id. Every copy with one `id` (32 hex
    digits) has the same bytes, so nothing is recorded of one but that it was given away, until a host has booted from
    it and says so."""

    host: str
    medium: Medium
    id: str
    link: str | None = None

    @property
    def label(self) -> str:
        """What the copy is called in the revision of its seed."""
        return f"{self.medium} {self.id}"

    @classmethod
    def labelled(cls, host: str, label: str) -> Copy | None:
        """The copy of a host that is called so; None for what is called otherwise."""
        medium, _, id_ = label.partition(" ")
        return cls(host, Medium(medium), id_) if id_ and medium in tuple(Medium) else None

    @property
    def network(self) -> str:
        """The network it was given away on: none."""
        return ""
