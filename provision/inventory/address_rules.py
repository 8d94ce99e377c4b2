"""What must hold of addresses and names wherever the site has them: that they mean one thing on every host."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network

from provision.document import Path
from provision.host import Host
from provision.inventory.violation import Violation
from provision.site import Address, Network, Service, Site

MAX_NAME = 253
"""Characters of a full DNS name without its last dot (RFC 1035 section 2.3.4: 255 octets on the wire)."""


def address_violations(site: Site) -> Iterator[Violation]:
    """Everything wrong with the addresses and names of a site by themselves."""
    for name, network in site.networks.items():
        path: Path = ("site", "networks", name)
        yield from _prefixes(network, path)
        for key, servers in (("dns", network.dns), ("ntp", network.ntp)):
            for index, server in enumerate(servers):
                if not isinstance(server, str):
                    yield from _server(server, (*path, key, index))
        yield from _routers(network, path)
    for name in type(site.servers).model_fields:
        service = getattr(site.servers, name)
        path = ("site", "servers", name)
        if isinstance(service, Service):
            yield from _service(service, site, path)


def _service(service: Service, site: Site, path: Path) -> Iterator[Violation]:
    for index, server in enumerate(service.hosts):
        if server.address is not None:
            yield from _server(server.address, (*path, "hosts", index, "address"))
    if service.srv is not None:
        yield from _length(f"{service.srv}.{site.domain}", (*path, "srv"))


def name_violations(site: Site, hosts: Sequence[Host]) -> Iterator[Violation]:
    """Hosts whose name does not fit into DNS together with the site's domain."""
    for host in hosts:
        yield from _length(f"{host.name}.{site.domain}", ("hosts", host.name))


def _prefixes(network: Network, path: Path) -> Iterator[Violation]:
    for key, prefix in (("prefix", network.prefix), ("prefix6", network.prefix6)):
        if prefix is not None and (kind := _no_network(prefix)):
            fact = f"{prefix} is {kind}, not that of one network"
            yield Violation((*path, key), fact, "give the prefix that the network's routers have")


def _no_network(prefix: IPv4Network | IPv6Network) -> str:
    """What a prefix is that no site has on one of its networks; "" for any other."""
    if prefix.prefixlen == 0:
        return "the prefix of all addresses"
    if prefix.is_loopback:
        return "the loopback prefix of every machine"
    if prefix.is_multicast:
        return "a multicast prefix"
    return "the link-local prefix of every link" if prefix.version == 6 and prefix.is_link_local else ""


def _routers(network: Network, path: Path) -> Iterator[Violation]:
    for key, address in (("gateway", network.gateway), ("gateway6", network.gateway6)):
        if address is not None and (kind := _no_machine(address)):
            yield Violation((*path, key), f"{address} is {kind}", "give the router's own address")


def _server(address: Address, path: Path) -> Iterator[Violation]:
    """A server's address has to mean the same on every link: /etc/hosts and /etc/resolv.conf have no zone for it."""
    if kind := _no_machine(address):
        yield Violation(path, f"{address} is {kind}", "give the server's own address")
    elif isinstance(address, IPv6Address) and address.is_link_local:
        fact = f"{address} is a link-local address, which is another machine on every link"
        yield Violation(path, fact, "give the server's global or unique local address")


def _no_machine(address: Address) -> str:
    if address.is_unspecified:
        return "the unspecified address"
    return "a multicast address" if address.is_multicast else ""


def _length(name: str, path: Path) -> Iterator[Violation]:
    if len(name) > MAX_NAME:
        fact = f"its full name, with the site's domain, has {len(name)} characters, and DNS takes {MAX_NAME}"
        yield Violation(path, fact, "give it a shorter one, or the site a shorter domain")
