"""The files that tell a host who it is and whom to ask: names, resolver, time, Kerberos."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from uuid import UUID

from provision.host import Addressing, Host, Interface
from provision.render.environment import render, render_common
from provision.site import Address, Network, Server, Service, Site

HOSTNAME = "/etc/hostname"
HOSTS = "/etc/hosts"
RESOLV = "/etc/resolv.conf"
RESOLVED = "/etc/systemd/resolved.conf.d/provision.conf"
TIMESYNCD = "/etc/systemd/timesyncd.conf.d/provision.conf"
KRB5 = "/etc/krb5.conf"
MACHINE_ID = "/etc/machine-id"
PATHS = (HOSTNAME, MACHINE_ID, HOSTS, RESOLV, RESOLVED, TIMESYNCD, KRB5)
"""Every path that `files` may give."""

MAX_NAMESERVERS = 3
"""How many `nameserver` lines the C library reads (resolv.conf(5), MAXNS)."""


def files(host: Host, site: Site) -> dict[str, bytes]:
    """Every such file by its path in the host's root."""
    found = {
        HOSTNAME: render("seed/hostname.j2", host=host.name),
        MACHINE_ID: render("seed/machine-id.j2", id=machine_id(host, site)),
        HOSTS: _hosts(host, site),
    }
    dns = _unique(address for _, network in _static(host, site) for address in network.dns)
    if dns:
        domains = (site.domain, *site.search)
        # The C library reads the first file, and so does systemd-resolved when it is a file and no link to its stub;
        # the second serves an image that puts its own link back. They name the same servers, so both may stand.
        found[RESOLV] = render_common("seed/resolv.conf.j2", domains=domains, dns=dns[:MAX_NAMESERVERS])
        found[RESOLVED] = render_common("seed/resolved.conf.j2", domains=domains, dns=dns)
    ntp = _unique(server for _, network in _networks(host, site) for server in network.ntp)
    if ntp:
        found[TIMESYNCD] = render_common("seed/timesyncd.conf.j2", ntp=ntp)
    if site.realm:
        kdcs = tuple(server.name for server in site.servers.freeipa.hosts) if site.servers.freeipa else ()
        specs = [site.credentials[name] for name in host.credentials if name in site.credentials]
        # The KDCs of other realms are found by DNS only.
        find = not kdcs or any(spec.realms for spec in specs)
        found[KRB5] = render_common("seed/krb5.conf.j2", realm=site.realm, domain=site.domain, kdcs=kdcs, find=find)
    return found


def machine_id(host: Host, site: Site) -> str:
    """The host's machine-id(5): 32 hex digits that stay over boots, new NICs and new images.

    A host without storage would make one up at every boot. It follows from the host's full name, so whatever must not
    be guessed may not be made of it; systemd's own uses hash it and need no secret.
    """
    digest = hashlib.sha256(f"provision machine-id {host.name}.{site.domain}".encode()).digest()
    return UUID(bytes=digest[:16], version=4).hex


def _hosts(host: Host, site: Site) -> bytes:
    servers = [server for service in _services(site) for server in service.hosts if server.address is not None]
    return render(
        "seed/hosts.j2",
        host=host.name,
        domain=site.domain,
        address=_own_address(host.primary),
        servers=_unique_servers(servers),
    )


def _own_address(primary: Interface) -> str:
    """The address that goes with the host's name; 127.0.1.1 (as Debian has it) when only DHCP knows."""
    if primary.addressing is Addressing.STATIC:
        return str(primary.ipv4 or primary.ipv6)
    return "127.0.1.1"


def _services(site: Site) -> tuple[Service, ...]:
    return tuple(service for service in (site.servers.management, site.servers.freeipa) if service is not None)


def _unique_servers(servers: Iterable[Server]) -> list[Server]:
    return list({(server.name, server.address): server for server in servers}.values())


def _networks(host: Host, site: Site) -> list[tuple[Interface, Network]]:
    return [(i, site.networks[i.network]) for i in host.interfaces.values() if i.network is not None]


def _static(host: Host, site: Site) -> list[tuple[Interface, Network]]:
    return [pair for pair in _networks(host, site) if pair[0].addressing is Addressing.STATIC]


def _unique(values: Iterable[Address | str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(str, values)))
