"""What must hold of a site by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network

from provision.boot import Role
from provision.cmdline import reserved
from provision.document import Path
from provision.inventory.violation import Violation
from provision.site import Address, CredentialKind, CredentialSpec, Network, Service, Site, exposure


def site_violations(site: Site) -> Iterator[Violation]:
    """Everything wrong with the site's own lines."""
    if _ends_in_a_number(site.domain):
        fact = f"'{site.domain}' ends in a number, so names in it could be read as addresses"
        yield Violation(("site", "domain"), fact, "give a domain whose last label has letters (RFC 3696 section 2)")
    for index, domain in enumerate(site.search):
        if domain == site.domain or domain in site.search[:index]:
            fact = f"'{domain}' is searched already"
            yield Violation(("site", "search", index), fact, "list each domain once; the site's own comes first anyway")
        elif _ends_in_a_number(domain):
            fact = f"'{domain}' ends in a number, so names in it could be read as addresses"
            yield Violation(("site", "search", index), fact, "give a domain whose last label has letters")
    for name, network in site.networks.items():
        path: Path = ("site", "networks", name)
        for index, server in enumerate(network.ntp):
            if isinstance(server, str):
                yield from _server_name(server, (*path, "ntp", index))
        yield from _gateways(network, path)
        yield from _pool(network, path)
    yield from _overlaps(site)
    yield from _scopes(site)
    yield from _shared_tags(site)
    yield from _services(site)
    for name, spec in site.credentials.items():
        if fact := exposure(spec.kind, spec.mode):
            yield Violation(("site", "credentials", name, "mode"), fact, "write 0600")
        yield from _scope(spec, ("site", "credentials", name), site)
    yield from argument_violations(site.kernel_arguments, ("site", "kernel_arguments"))


def _scope(spec: CredentialSpec, path: Path, site: Site) -> Iterator[Violation]:
    """The other names and realms of a credential mean something where names and realms are looked at."""
    if spec.realms and spec.kind is not CredentialKind.KEYTAB:
        yield Violation((*path, "realms"), f"a {spec.kind} has no realm", "leave it out")
    elif spec.realms and site.realm is None:
        fact, realm = "the site has no realm beside which it could have others", ("site", "realm")
        yield Violation((*path, "realms"), fact, "set site.realm", (realm,))
    if spec.names and spec.kind not in (CredentialKind.KEYTAB, CredentialKind.CERTIFICATE):
        yield Violation((*path, "names"), f"a {spec.kind} is for no name", "leave it out")


def _ends_in_a_number(domain: str) -> bool:
    return domain.rpartition(".")[2].isdigit()


def _server_name(name: str, path: Path) -> Iterator[Violation]:
    """A name that ends in a number is a mistyped address: no such name is in DNS (RFC 3696 section 2)."""
    if _ends_in_a_number(name):
        yield Violation(
            path, f"'{name}' is neither an IP address nor a DNS name", "correct the address, or give the server's name"
        )


def argument_violations(arguments: tuple[str, ...], path: Path) -> Iterator[Violation]:
    """Kernel arguments that belong to the boot loader."""
    for index, argument in enumerate(arguments):
        if word := reserved(argument):
            yield Violation((*path, index), f"'{word}' is set by the boot loader", "leave it out")


def edge(address: object, prefix: IPv4Network | IPv6Network) -> str:
    """What kind of address no interface may have: 'network', 'broadcast', 'anycast' or nothing.

    In an IPv4 /31 and /32 and an IPv6 /127 and /128 every address is usable (RFC 3021, RFC 6164).
    """
    if prefix.num_addresses <= 2:
        return ""
    if address == prefix.network_address:
        return "network" if prefix.version == 4 else "subnet-router anycast"
    return "broadcast" if prefix.version == 4 and address == prefix.broadcast_address else ""


def _gateways(network: Network, path: Path) -> Iterator[Violation]:
    gateway, prefix = network.gateway, network.prefix
    if prefix is None:
        yield from _without_ipv4(network, path)
    elif gateway is not None and gateway not in prefix:
        if not network.is_on_link(gateway):
            yield _unreachable(gateway, prefix, (*path, "gateway"))
    elif gateway is not None and (kind := edge(gateway, prefix)):
        yield Violation((*path, "gateway"), f"{gateway} is the {kind} address of {prefix}", "give the router's own")
    gateway6, prefix6 = network.gateway6, network.prefix6
    if gateway6 is None or gateway6.is_link_local:
        return
    if prefix6 is None:
        fact, remedy = "'gateway6' without 'prefix6'", "add 'prefix6' or leave it out"
        yield Violation((*path, "gateway6"), fact, remedy, ((*path, "prefix6"),))
    elif gateway6 not in prefix6 and not network.is_on_link(gateway6):
        yield _unreachable(gateway6, prefix6, (*path, "gateway6"))


def _without_ipv4(network: Network, path: Path) -> Iterator[Violation]:
    rests_on = ((*path, "prefix"),)
    if network.prefix6 is None:
        fact = "neither 'prefix' nor 'prefix6' is given"
        yield Violation(path, fact, "add the network's IPv4 or IPv6 prefix", (*rests_on, (*path, "prefix6")))
    for key, value in (("gateway", network.gateway), ("pool", network.pool)):
        if value is not None:
            yield Violation((*path, key), f"'{key}' without 'prefix'", "add 'prefix' or leave it out", rests_on)


def _unreachable(gateway: Address, prefix: IPv4Network | IPv6Network, path: Path) -> Violation:
    remedy = "give one inside it, or 'gateway_onlink: true' if hosts reach it on the link itself"
    return Violation(path, f"the gateway {gateway} is outside {prefix}", remedy)


def _pool(network: Network, path: Path) -> Iterator[Violation]:
    pool, prefix = network.pool, network.prefix
    if pool is None or prefix is None:
        return
    for field, address in (("first", pool.first), ("last", pool.last)):
        if address not in prefix:
            yield Violation((*path, "pool", field), f"{address} is outside {prefix}", "move the pool into the prefix")
        elif kind := edge(address, prefix):
            yield Violation((*path, "pool", field), f"{address} is the {kind} address of {prefix}", "leave it out")
    if pool.first > pool.last:
        yield Violation((*path, "pool"), f"it ends at {pool.last} before it begins at {pool.first}", "swap them")
    elif network.gateway is not None and pool.first <= network.gateway <= pool.last:
        fact = f"it contains the gateway {network.gateway}, which would be leased to a host"
        yield Violation((*path, "pool"), fact, "begin after it or end before it")


def _overlaps(site: Site) -> Iterator[Violation]:
    """Networks of one scope may meet, and those without one meet all."""
    scopes: dict[str | None, dict[str, Network]] = {None: {}}
    for name, network in site.networks.items():
        scopes.setdefault(network.scope, {})[name] = network
    found: dict[Path, Violation] = {}
    for own in scopes.values():
        for violation in _overlaps_of(scopes[None] | own):
            found.setdefault(violation.path, violation)
    yield from found.values()


def _overlaps_of(networks: Mapping[str, Network]) -> Iterator[Violation]:
    """Prefixes sorted by their first address overlap only with one that begins before and is still open."""
    four = [(network.prefix, name) for name, network in networks.items() if network.prefix is not None]
    six = [(network.prefix6, name) for name, network in networks.items() if network.prefix6 is not None]
    for field, prefixes in (("prefix", sorted(four)), ("prefix6", sorted(six))):
        widest: tuple[IPv4Network | IPv6Network, str] | None = None
        for prefix, name in prefixes:
            if widest is not None and int(prefix.network_address) <= int(widest[0].broadcast_address):
                fact = f"{prefix} overlaps with {widest[0]} of network '{widest[1]}'"
                remedy = "give each network a prefix of its own, or a 'scope' to networks that never meet"
                rests_on: tuple[Path, ...] = tuple(("site", "networks", one, "scope") for one in (name, widest[1]))
                yield Violation(("site", "networks", name, field), fact, remedy, rests_on)
            if widest is None or int(prefix.broadcast_address) > int(widest[0].broadcast_address):
                widest = (prefix, name)


def _scopes(site: Site) -> Iterator[Violation]:
    """A management LAN is the server's own, and what the server is on may meet anything."""
    for name, network in site.networks.items():
        if network.scope is not None and network.role is Role.MANAGEMENT:
            fact = f"the management network '{name}' is one of the server's own, and so in no scope"
            yield Violation(("site", "networks", name, "scope"), fact, "leave it out")


def _shared_tags(site: Site) -> Iterator[Violation]:
    management = {n.vlan: name for name, n in site.networks.items() if n.role is Role.MANAGEMENT and n.vlan}
    for name, network in site.networks.items():
        if network.role is Role.GENERAL and network.vlan in management:
            fact = f"VLAN {network.vlan} is also that of the management network '{management[network.vlan]}'"
            yield Violation(("site", "networks", name, "vlan"), fact, "a management network needs a VLAN of its own")


def _services(site: Site) -> Iterator[Violation]:
    for name in type(site.servers).model_fields:
        service = getattr(site.servers, name)
        if isinstance(service, Service) and bool(service.hosts) == bool(service.srv):
            fact = "both 'hosts' and 'srv' are given" if service.srv else "neither 'hosts' nor 'srv' is given"
            path: Path = ("site", "servers", name)
            yield Violation(path, fact, "name the servers, or the SRV record that finds them", (path,))
        for index, server in enumerate(service.hosts if isinstance(service, Service) else ()):
            yield from _server_name(server.name, ("site", "servers", name, "hosts", index, "name"))
