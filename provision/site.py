"""Site and Network: what all hosts of a site share. Parsed at the edge (provision.inventory), trusted inside."""

from __future__ import annotations

from enum import StrEnum
from ipaddress import IPv4Address
from typing import Annotated

from pydantic import AfterValidator, Field

from provision.boot import Role
from provision.host import Host
from provision.model import (
    AccountName,
    Domain,
    FileMode,
    Flag,
    IPv4Prefix,
    IPv6,
    IPv6Prefix,
    KernelArgument,
    Model,
    Name,
    Realm,
    SeedPath,
    SrvName,
    Whole,
    in_order,
)

Address = IPv4Address | IPv6


class Pool(Model):
    """The dynamic part of a network's DHCP range, first and last address included."""

    first: IPv4Address
    last: IPv4Address


class Network(Model):
    """One L2 segment of the site. `vlan` is its tag on trunk ports; the host's `vlan` says whether it is used.

    It has an IPv4 `prefix`, an IPv6 one, or both. With `gateway_onlink` hosts reach the gateways on the link itself,
    whatever the prefixes say. Networks of two different scopes never meet, so that prefixes and addresses of one may
    come again in the other; networks without a scope meet all.
    """

    role: Role
    scope: Name | None = None
    prefix: IPv4Prefix | None = None
    gateway: IPv4Address | None = None
    prefix6: IPv6Prefix | None = None
    gateway6: IPv6 | None = None
    gateway_onlink: Flag = False
    vlan: Whole | None = Field(default=None, ge=1, le=4094)
    dns: tuple[Address, ...] = ()
    # From left to right: pydantic would take the text of an IPv4 address for the name that it could be as well.
    ntp: tuple[Annotated[Address | Domain, Field(union_mode="left_to_right")], ...] = ()
    pool: Pool | None = None

    def is_on_link(self, router: Address) -> bool:
        """Whether hosts reach `router` on the link though no prefix says so: by order, because IPv4's link-local
        addresses are always there (RFC 3927 section 2.6.2), or because a prefix of one address has room for no other.
        """
        prefix = self.prefix if router.version == 4 else self.prefix6
        alone = prefix is not None and prefix.num_addresses == 1
        return prefix is not None and router not in prefix and (self.gateway_onlink or alone or is_local4(router))


def is_local4(address: Address) -> bool:
    """Whether the address is one of IPv4's link-local ones; those of IPv6 are on the link without being told."""
    return isinstance(address, IPv4Address) and address.is_link_local


class Server(Model):
    """A server by its name; `address` saves the host a DNS look-up (it goes to the host's /etc/hosts)."""

    name: Domain
    address: Address | None = None


class Service(Model):
    """Servers named one by one (`hosts`) or found by the host itself through DNS (`srv`, RFC 2782)."""

    hosts: tuple[Server, ...] = ()
    srv: SrvName | None = None


class Servers(Model):
    """The servers that a host needs to know."""

    management: Service | None = None
    freeipa: Service | None = None


class CredentialKind(StrEnum):
    """What a credential is, so that it can be checked when it is set."""

    KEYTAB = "keytab"
    CERTIFICATE = "certificate"
    KEY = "key"
    TOKEN = "token"
    FILE = "file"


class CredentialSpec(Model):
    """A credential that hosts may name: its kind, where it stands on the host, and whose it is there.

    `owner` and `group` are accounts of the host's image; root without them. A keytab or certificate is for the host;
    `names` has what else it may be for (a service address that hosts share), and `realms` the Kerberos realms beside
    the site's that a keytab may have keys of.
    """

    kind: CredentialKind
    path: SeedPath
    mode: FileMode = "0600"
    owner: AccountName | None = None
    group: AccountName | None = None
    names: tuple[Domain, ...] = ()
    realms: tuple[Realm, ...] = ()


def exposure(kind: CredentialKind, mode: str) -> str:
    """What is wrong with giving a credential of that kind that mode; "" for nothing."""
    secret = kind in (CredentialKind.KEYTAB, CredentialKind.KEY, CredentialKind.TOKEN)
    return f"every user of the host could read a {kind} with mode {mode}" if secret and int(mode, 8) & 0o007 else ""


class Reread(StrEnum):
    """What a second reading of one boot's seed does to the host's boot window."""

    CLOSE = "close"
    ALLOW = "allow"


class SitePolicy(Model):
    """The site's defaults of `provision window`, and how hosts are watched after it.

    `alive_seconds` is how long a host counts as up after it last said so; its agent says so every ten seconds.
    """

    window_minutes: Whole = Field(default=60, ge=1, le=10080)
    window_boots: Whole = Field(default=1, ge=1, le=100)
    alive_seconds: Whole = Field(default=30, ge=20, le=3600)
    seed_read_again: Reread = Reread.CLOSE


class Site(Model):
    """Everything that hosts share. `base` names the default base image.

    Short names are looked up in `domain` first, then in the domains of `search`.
    """

    domain: Domain
    search: tuple[Domain, ...] = Field(default=(), max_length=5)
    realm: Realm | None = None
    networks: Annotated[dict[Name, Network], AfterValidator(in_order)]
    servers: Servers = Servers()
    credentials: Annotated[dict[Name, CredentialSpec], AfterValidator(in_order)] = {}
    ca_certificates: tuple[str, ...] = ()
    kernel_arguments: tuple[KernelArgument, ...] = ()
    base: Name | None = None
    policy: SitePolicy = SitePolicy()


class Inventory(Model):
    """The checked whole: a site and its hosts, sorted by name."""

    site: Site
    hosts: tuple[Host, ...] = ()
