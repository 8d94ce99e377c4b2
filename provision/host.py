"""Host: one machine and how it is to be reached. Parsed at the edge (provision.inventory), trusted inside."""

from __future__ import annotations

from enum import StrEnum
from functools import cached_property
from ipaddress import IPv4Address
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from provision.boot import Medium
from provision.model import (
    Flag,
    InterfaceName,
    IPv4Prefix,
    IPv6,
    IPv6Prefix,
    KernelArgument,
    LabelKey,
    LabelValue,
    Model,
    Name,
    NicAddress,
    VlanRange,
    Whole,
    in_order,
    is_infiniband,
)


def _wwn(value: Any) -> Any:
    """A world-wide name as the kernel writes it, from other usual spellings; what is not text is left to the type."""
    if not isinstance(value, str):
        return value
    low = value.lower()
    return f"naa.{low[2:]}" if low.startswith("0x") else low


class Install(StrEnum):
    """Who puts the software on the host: the factory or the site's own people."""

    OEM = "oem"
    IT = "it"


class Addressing(StrEnum):
    """How an interface gets its addresses."""

    DHCP = "dhcp"
    STATIC = "static"


class Storage(StrEnum):
    """Whether the host keeps anything across a power cycle."""

    PERSISTENT = "persistent"
    NONE = "none"


DiskSerial = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:+=-]{0,63}$")]
"""A disk's serial number, without the spaces around it."""
DiskWwn = Annotated[
    str, BeforeValidator(_wwn), StringConstraints(pattern=r"^(naa|eui|nvme|uuid)\.[0-9a-f][0-9a-f-]{7,127}$")
]
"""A disk's world-wide name as the kernel has it in sysfs: `naa.5000c500a1b2c3d4`. Parsed from `0x5000c500a1b2c3d4`
too, as lsblk shows it."""
DiskPath = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+[A-Za-z0-9:._-]*(/[A-Za-z0-9:._-]+)*$", max_length=200)]
"""Where a disk is: its path below /sys/devices, or the beginning of that in whole components."""


def _yes_or_no(value: Any) -> Any:
    """What "yes" and "no" mean; anything else is left to the type."""
    return {"yes": True, "no": False}.get(value, value) if isinstance(value, str) else value


_YesOrNo = Annotated[Flag, BeforeValidator(_yes_or_no)]


class Disk(Model):
    """The disk on which a host keeps its identity, by exactly one of five things. `smallest` and `largest` are of the
    built-in disks. `wipe` says that whatever is on this very disk may be overwritten."""

    serial: DiskSerial | None = None
    wwn: DiskWwn | None = None
    path: DiskPath | None = None
    smallest: _YesOrNo = False
    largest: _YesOrNo = False
    wipe: _YesOrNo = False

    @property
    def ways(self) -> tuple[str, ...]:
        """What it is named by: the names of the fields that are set, but for `wipe`."""
        return tuple(name for name in ("serial", "wwn", "path", "smallest", "largest") if getattr(self, name))


class Persist(StrEnum):
    """What a host keeps on the data partition of its own disk, beside its identity."""

    SSH_HOST_KEYS = "ssh-host-keys"
    JOURNAL = "journal"
    LIBVIRT = "libvirt"


class Netboot(StrEnum):
    """When the host may boot from the network."""

    WINDOW = "window"
    ALWAYS = "always"
    NEVER = "never"


class Chain(StrEnum):
    """What the host's firmware starts: boot loaders that read a configuration, or one image that the site has signed
    (UKI: unified kernel image)."""

    GRUB = "grub"
    UKI = "uki"


class TpmUse(StrEnum):
    """What opens the envelope of a host: its TPM by itself, or its TPM once the server has judged a quote of this very
    boot."""

    OFFLINE = "offline"
    ONLINE = "online"


class Reboot(StrEnum):
    """When a host may reboot into an update of its image: when no guest runs on it, at once, or when somebody reboots
    it."""

    WHEN_EMPTY = "when-empty"
    NOW = "now"
    NEVER = "never"


class Updates(Model):
    """How a host with two slots on its disk takes an update of its image."""

    reboot: Reboot = Reboot.WHEN_EMPTY


class BondMode(StrEnum):
    """Linux bonding modes (Documentation/networking/bonding.rst).

    active-backup, balance-tlb and balance-alb need nothing of the switch, 802.3ad needs LACP there, and balance-xor a
    static port channel.
    """

    ACTIVE_BACKUP = "active-backup"
    LACP = "802.3ad"
    BALANCE_XOR = "balance-xor"
    BALANCE_TLB = "balance-tlb"
    BALANCE_ALB = "balance-alb"


class LacpRate(StrEnum):
    """How often the peer is asked to send LACP frames: every 30 seconds, or every second."""

    SLOW = "slow"
    FAST = "fast"


class HashPolicy(StrEnum):
    """What of a frame decides which NIC of a bond sends it."""

    LAYER2 = "layer2"
    LAYER2_3 = "layer2+3"
    LAYER3_4 = "layer3+4"
    ENCAP2_3 = "encap2+3"
    ENCAP3_4 = "encap3+4"


class BondOptions(Model):
    """What a bond has beside its mode. `min_links` is how many NICs must be up for the bond to have a carrier."""

    lacp_rate: LacpRate | None = None
    hash_policy: HashPolicy | None = None
    min_links: Whole | None = Field(default=None, ge=1, le=8)


class Ipv6Addressing(StrEnum):
    """How an interface with a static IPv4 address gets an IPv6 one: from router advertisements, or by DHCPv6."""

    SLAAC = "slaac"
    DHCP = "dhcp"


Metric = Annotated[Whole, Field(ge=1, le=999_999_999)]
"""A route's metric: the lowest of two routes to the same destination wins."""


class Route(Model):
    """A static route; `to` and `via` are of one address family.

    Without `via` the destination is on the link itself. With `onlink` the router is, whatever the prefixes say.
    """

    to: IPv4Prefix | IPv6Prefix
    via: IPv4Address | IPv6 | None = None
    onlink: Flag = False
    metric: Metric | None = None


class Interface(Model):
    """One connection of the host: a NIC, or a bond of several, optionally one VLAN on it, optionally a guest bridge.

    `macs` has one NIC, or two and more with `bond`. With `vlan` the connection is tagged, otherwise untagged. With
    `bridge` a Linux bridge of that name for guests stands on top, and addresses (if any) go to the bridge.
    `network` and `addressing` come together, or neither (a bridge for guests only has no address of its own).
    With `addressing: dhcp`, `reservation` is the address the DHCP server is to give. With `static`, `ipv4` and/or
    `ipv6` lie inside the network's prefixes; instead of `ipv6`, `ipv6_addressing` says how to get one. Several
    interfaces may share the same `macs` with different `vlan`. With `bridge_vlans` the bridge keeps VLANs apart
    itself, and takes these from the wire, tagged. `metric` is that of every route of the interface.
    """

    macs: tuple[NicAddress, ...] = Field(min_length=1, max_length=8)
    network: Name | None = None
    addressing: Addressing | None = None
    ipv4: IPv4Address | None = None
    ipv6: IPv6 | None = None
    ipv6_addressing: Ipv6Addressing | None = None
    reservation: IPv4Address | None = None
    vlan: Whole | None = Field(default=None, ge=1, le=4094)
    bond: BondMode | None = None
    bond_options: BondOptions = BondOptions()
    bridge: InterfaceName | None = None
    bridge_vlans: tuple[VlanRange, ...] = ()
    metric: Metric | None = None
    routes: tuple[Route, ...] = ()
    mtu: Whole | None = Field(default=None, ge=1280, le=9216)


DEFAULT_METRIC = 100
"""Route metric of a host's first interface; each further one has 100 more, so that the primary one's gateway wins."""


class Host(Model):
    """One machine. The first interface is its primary one: its address goes with the host's name. On its `disk` it
    keeps its identity, when it has one named, and what is to `persist`."""

    name: Name
    interfaces: dict[InterfaceName, Interface] = Field(min_length=1, max_length=64)
    uuid: UUID | None = None
    install: Install = Install.IT
    storage: Storage = Storage.PERSISTENT
    disk: Disk | None = None
    persist: tuple[Persist, ...] = ()
    base: Name | None = None
    kernel_arguments: tuple[KernelArgument, ...] = ()
    netboot: Netboot = Netboot.WINDOW
    chain: Chain = Chain.GRUB
    tpm: TpmUse = TpmUse.OFFLINE
    update: Updates = Updates()
    credentials: tuple[Name, ...] = ()
    labels: Annotated[dict[LabelKey, LabelValue], AfterValidator(in_order)] = {}

    def canonical(self) -> bytes:
        """As of every model. A host without what came later has the form, and so the revision, that it had before there
        was any."""
        later = ("disk", "persist", "tpm", "update")
        absent = {name for name in later if getattr(self, name) == type(self).model_fields[name].default}
        return self.model_dump_json(exclude=absent).encode()

    @cached_property
    def macs(self) -> tuple[str, ...]:
        """Every MAC of the host once, in the order of the file; no host boots by an InfiniBand port."""
        found = (mac for interface in self.interfaces.values() for mac in interface.macs if not is_infiniband(mac))
        return tuple(dict.fromkeys(found))

    def is_given_signed(self, medium: Medium) -> bool:
        """Whether the medium is a file with the image that the site has signed, and nothing of the host."""
        return self.chain is Chain.UKI and not medium.from_network

    @property
    def primary(self) -> Interface:
        """The interface whose address goes with the host's name."""
        return next(iter(self.interfaces.values()))

    @property
    def metrics(self) -> dict[str, int]:
        """The metric of each interface's routes, by its name."""
        return {
            name: interface.metric or DEFAULT_METRIC * place
            for place, (name, interface) in enumerate(self.interfaces.items(), start=1)
        }
