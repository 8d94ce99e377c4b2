"""Host: one machine and how it is to be reached. Parsed at the edge (provision.inventory), trusted inside."""

from __future__ import annotations

from enum import StrEnum
from functools import cached_property
from ipaddress import IPv4Address
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field

from provision.model import (
    InterfaceName,
    IPv4Prefix,
    IPv6,
    IPv6Prefix,
    KernelArgument,
    LabelKey,
    LabelValue,
    Mac,
    Model,
    Name,
    Whole,
    in_order,
)


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


class Netboot(StrEnum):
    """When the host may boot from the network."""

    WINDOW = "window"
    ALWAYS = "always"
    NEVER = "never"


class BondMode(StrEnum):
    """Linux bonding modes that need no guess about the switch, and 802.3ad."""

    ACTIVE_BACKUP = "active-backup"
    LACP = "802.3ad"
    BALANCE_XOR = "balance-xor"


class Route(Model):
    """A static route; `to` and `via` are of one address family."""

    to: IPv4Prefix | IPv6Prefix
    via: IPv4Address | IPv6


class Interface(Model):
    """One connection of the host: a NIC, or a bond of several, optionally one VLAN on it, optionally a guest bridge.

    `macs` has one NIC, or two and more with `bond`. With `vlan` the connection is tagged, otherwise untagged. With
    `bridge` a Linux bridge of that name for guests stands on top, and addresses (if any) go to the bridge.
    `network` and `addressing` come together, or neither (a bridge for guests only has no address of its own).
    With `addressing: dhcp`, `reservation` is the address the DHCP server is to give. With `static`, `ipv4` and/or
    `ipv6` lie inside the network's prefixes. Several interfaces may share the same `macs` with different `vlan`.
    """

    macs: tuple[Mac, ...] = Field(min_length=1, max_length=8)
    network: Name | None = None
    addressing: Addressing | None = None
    ipv4: IPv4Address | None = None
    ipv6: IPv6 | None = None
    reservation: IPv4Address | None = None
    vlan: Whole | None = Field(default=None, ge=1, le=4094)
    bond: BondMode | None = None
    bridge: InterfaceName | None = None
    routes: tuple[Route, ...] = ()
    mtu: Whole | None = Field(default=None, ge=1280, le=9216)


class Host(Model):
    """One machine. The first interface is its primary one: its address goes with the host's name."""

    name: Name
    interfaces: dict[InterfaceName, Interface] = Field(min_length=1, max_length=16)
    uuid: UUID | None = None
    install: Install = Install.IT
    storage: Storage = Storage.PERSISTENT
    base: Name | None = None
    kernel_arguments: tuple[KernelArgument, ...] = ()
    netboot: Netboot = Netboot.WINDOW
    credentials: tuple[Name, ...] = ()
    labels: Annotated[dict[LabelKey, LabelValue], AfterValidator(in_order)] = {}

    @cached_property
    def macs(self) -> tuple[str, ...]:
        """Every MAC of the host once, in the order of the file."""
        return tuple(dict.fromkeys(mac for interface in self.interfaces.values() for mac in interface.macs))

    @property
    def primary(self) -> Interface:
        """The interface whose address goes with the host's name."""
        return next(iter(self.interfaces.values()))
