"""What must hold of an inventory as a whole. Pure; every rule is linear in the number of hosts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from provision.document import Path
from provision.host import Host
from provision.inventory.address_rules import address_violations, name_violations
from provision.inventory.host_rules import host_violations
from provision.inventory.site_index import SiteIndex, site_index
from provision.inventory.site_rules import site_violations
from provision.inventory.unreadable import Unreadable
from provision.inventory.violation import Violation
from provision.site import Site

Keyed = Iterator[tuple[str, Path]]


def check(site: Site | None, hosts: Sequence[Host], unreadable: Unreadable | None = None) -> Iterator[Violation]:
    """Everything that is wrong, the site first, then host by host, then hosts against one another.

    `site` is None when it could not be read; rules that need it are then left out. `unreadable` has what is written but
    could not be read: nothing is said that rests on its absence. Of two hosts that collide, the later one in `hosts` is
    objected to.
    """
    for violation in _violations(site, hosts):
        if unreadable is None or not any(map(unreadable.touch, violation.rests_on)):
            yield violation


def _violations(site: Site | None, hosts: Sequence[Host]) -> Iterator[Violation]:
    if site is not None:
        yield from site_violations(site)
        yield from address_violations(site)
        yield from name_violations(site, hosts)
        yield from _borrowed(site, hosts)
    seen = site_index(site)
    for host in hosts:
        yield from host_violations(host, seen)
    yield from _twice("host name", hosts, _names, "give one of them another name")
    yield from _twice("UUID", hosts, _uuids, "ask the firmware of both: dmidecode -s system-uuid")
    yield from _twice("MAC", hosts, _macs, "a NIC belongs to one host")
    yield from _twice("address", hosts, partial(_addresses, seen), "give one of them another address")


def _borrowed(site: Site, hosts: Sequence[Host]) -> Iterator[Violation]:
    """Names that a credential is said to be for, and that are a host's own."""
    own = {name: host.name for host in hosts for name in (host.name, f"{host.name}.{site.domain}")}
    for name, spec in site.credentials.items():
        for index, shared in enumerate(spec.names):
            if shared in own:
                fact = f"'{shared}' is the host {own[shared]}, and others would get its credential"
                yield Violation(("site", "credentials", name, "names", index), fact, "give shared names only")


def _twice(what: str, hosts: Sequence[Host], values: Callable[[Host], Keyed], remedy: str) -> Iterator[Violation]:
    first: dict[str, Path] = {}
    for host in hosts:
        for value, path in values(host):
            earlier = first.setdefault(value, path)
            if earlier is not path:
                owner = earlier[1] if earlier[1] != host.name or len(earlier) < 4 else earlier[3]
                yield Violation(path, f"the {what} {value} is already that of {owner}", remedy)


def _names(host: Host) -> Keyed:
    yield host.name, ("hosts", host.name)


def _uuids(host: Host) -> Keyed:
    if host.uuid is not None and host.uuid.int not in (0, 2**128 - 1):
        yield str(host.uuid), ("hosts", host.name, "uuid")


def _macs(host: Host) -> Keyed:
    """Every MAC once: what interfaces of one host may share is a rule of the host."""
    once = dict[str, Path]()
    for name, interface in host.interfaces.items():
        for index, mac in enumerate(interface.macs):
            once.setdefault(mac, ("hosts", host.name, "interfaces", name, "macs", index))
    yield from once.items()


def _addresses(seen: SiteIndex, host: Host) -> Keyed:
    """Every address, with the scope in which it must be the only one."""
    for name, interface in host.interfaces.items():
        network = seen.network(interface.network)
        scope = f" of scope '{network.scope}'" if network is not None and network.scope else ""
        for field in ("ipv4", "reservation", "ipv6"):
            address = getattr(interface, field)
            if address is not None:
                yield f"{address}{scope}", ("hosts", host.name, "interfaces", name, field)
