"""What the inventory cannot know: whether the site's DNS agrees with it (SRV: RFC 2782, PTR: RFC 1035 section 3.5).

Three steps: the questions that follow from the inventory, the asking, and the judgement of the answers. Only the
asking touches the network.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address

import dns.asyncquery
import dns.asyncresolver
import dns.exception
import dns.message
import dns.nameserver
import dns.rdata
import dns.resolver
import dns.reversename

from provision.errors import Unavailable
from provision.host import Addressing, Host
from provision.site import Address, Inventory, Service

Resolver = tuple[str, int]
"""A DNS server: its address and UDP/TCP port."""
Question = tuple[str, str]
"""A name with no final dot, and a record type."""

CONCURRENCY = 32
PATIENCE = 8
"""So many questions in a row without any answer mean that the servers have stopped answering."""


@dataclass(frozen=True)
class Finding:
    """One disagreement; `str()` is one line: object, fact, way out."""

    subject: str
    fact: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.fact}; {self.remedy}"


@dataclass
class Answers:
    """What DNS said: the values of each question (empty when there are none), and why others have no answer."""

    values: dict[Question, frozenset[str]] = field(default_factory=dict)
    failed: dict[Question, str] = field(default_factory=dict)
    silent: bool = False

    def get(self, name: str, kind: str) -> frozenset[str] | None:
        """The values, None when the question has no answer."""
        return self.values.get((name, kind))


def check(inventory: Inventory, resolvers: Sequence[Resolver] | None = None, *, timeout: float = 3.0) -> list[Finding]:
    """Ask DNS everything that the inventory implies and say where it disagrees, in the order of the inventory.

    `resolvers` are tried in turn; by default they are the DNS servers of the site's networks, else the system's.
    `timeout` is in seconds for each question. A server that does not answer is one finding. Raises Unavailable when
    there is no server to ask, or none answers. Not to be called from a running event loop: await `examine` there.
    """
    return asyncio.run(examine(inventory, resolvers, timeout=timeout))


async def examine(
    inventory: Inventory, resolvers: Sequence[Resolver] | None = None, *, timeout: float = 3.0
) -> list[Finding]:
    """The same as `check`, for callers that have an event loop."""
    servers = list(resolvers if resolvers is not None else default_resolvers(inventory))
    alive = await asyncio.gather(*(_is_alive(server, inventory.site.domain, timeout) for server in servers))
    findings = [
        Finding(f"DNS server {host} port {port}", "does not answer", "look at its service, firewall and address")
        for (host, port), answers in zip(servers, alive, strict=True)
        if not answers
    ]
    living = [server for server, answers in zip(servers, alive, strict=True) if answers]
    if not living:
        raise Unavailable(", ".join(one.subject for one in findings), "no answer", findings[0].remedy)
    answers = Answers()
    await _ask(questions(inventory), living, timeout, answers)
    await _ask(_target_questions(inventory, answers), living, timeout, answers)
    return [*findings, *_trouble(answers), *judge(inventory, answers)]


def default_resolvers(inventory: Inventory) -> list[Resolver]:
    """The DNS servers of the site's networks, else those of this machine; raises Unavailable when there are none."""
    # Those of a scope are for its hosts, and its addresses may be others' here.
    near = [network for network in inventory.site.networks.values() if network.scope is None]
    named = dict.fromkeys(str(address) for network in near for address in network.dns)
    if named:
        return [(address, 53) for address in named]
    try:
        system = dns.resolver.Resolver()
    except dns.resolver.NoResolverConfiguration:
        system = dns.resolver.Resolver(configure=False)
    if not system.nameservers:
        raise Unavailable("DNS", "neither the site's networks nor this machine name a server", "add 'dns' to a network")
    return [(str(server), system.port) for server in system.nameservers]


# -- what to ask -------------------------------------------------------------------------------------------------------


def questions(inventory: Inventory) -> Iterator[Question]:
    """Everything that can be asked before any answer is known, each question once."""
    yield from dict.fromkeys(_all_questions(inventory))


def _all_questions(inventory: Inventory) -> Iterator[Question]:
    domain = inventory.site.domain
    for _, service in _services(inventory):
        if service.srv:
            yield f"{service.srv}.{domain}", "SRV"
        for server in service.hosts:
            yield from ((server.name, kind) for kind in _kinds(server.address))
    for host in inventory.hosts:
        for address in primary_addresses(host):
            yield f"{host.name}.{domain}", _kinds(address)[0]
            if not _is_scoped(inventory, host):
                yield _reverse(address), "PTR"
        yield from ((f"{host.name}.{domain}", kind) for kind in _other_kinds(host))


def _target_questions(inventory: Inventory, answers: Answers) -> Iterator[Question]:
    """The addresses of the servers that SRV records name."""
    asked: dict[Question, None] = {}
    for _, service in _services(inventory):
        if service.srv:
            targets = answers.get(f"{service.srv}.{inventory.site.domain}", "SRV") or frozenset()
            asked |= {(target, kind): None for target in sorted(targets) if target for kind in ("A", "AAAA")}
    yield from (question for question in asked if question not in answers.values)


def _is_scoped(inventory: Inventory, host: Host) -> bool:
    """Whether other hosts may have the primary address too, so that no name is the one that it points to."""
    network = inventory.site.networks.get(host.primary.network or "")
    return network is not None and network.scope is not None


def primary_addresses(host: Host) -> list[Address]:
    """The addresses that go with the host's name and that the inventory knows."""
    primary = host.primary
    if primary.addressing is Addressing.DHCP:
        return [primary.reservation] if primary.reservation else []
    return [address for address in (primary.ipv4, primary.ipv6) if address is not None]


def _other_kinds(host: Host) -> list[str]:
    """The kinds of address that DNS should have none of for the host's name. Beside DHCP, hosts find others by
    themselves, and those are in DNS rightly."""
    if host.primary.addressing is not Addressing.STATIC:
        return []
    return [kind for kind in ("A", "AAAA") if kind not in {_kinds(address)[0] for address in primary_addresses(host)}]


def _services(inventory: Inventory) -> Iterator[tuple[str, Service]]:
    for name, service in inventory.site.servers:
        if isinstance(service, Service):
            yield name, service


def _kinds(address: Address | None) -> tuple[str, ...]:
    if address is None:
        return "A", "AAAA"
    return ("A",) if isinstance(address, IPv4Address) else ("AAAA",)


def _reverse(address: Address) -> str:
    return dns.reversename.from_address(str(address)).to_text(omit_final_dot=True)


# -- asking ------------------------------------------------------------------------------------------------------------


async def _is_alive(server: Resolver, domain: str, timeout: float) -> bool:
    """Whether the server answers anything at all; a second try because UDP loses packets."""
    for _ in range(2):
        query = dns.message.make_query(domain, "SOA")
        try:
            await dns.asyncquery.udp(query, server[0], timeout=timeout, port=server[1], raise_on_truncation=False)
        except (dns.exception.DNSException, OSError, ValueError):
            continue
        return True
    return False


async def _ask(wanted: Iterable[Question], servers: Sequence[Resolver], timeout: float, answers: Answers) -> None:
    """Put the answers to `wanted` into `answers`, a bounded number of questions at a time."""
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers = [dns.nameserver.Do53Nameserver(host, port) for host, port in servers]
    resolver.timeout, resolver.lifetime = timeout / 2, timeout
    waiting, unanswered = iter(wanted), 0

    async def work() -> None:
        nonlocal unanswered
        for question in waiting:
            if answers.silent:
                return
            try:
                answers.values[question] = await _resolve(resolver, question)
                unanswered = 0
            except dns.exception.Timeout:
                answers.failed[question] = "no answer in time"
                unanswered += 1
                answers.silent = answers.silent or unanswered >= PATIENCE
            except (dns.exception.DNSException, OSError) as error:
                answers.failed[question] = _reason(error)
                unanswered = 0

    await asyncio.gather(*(work() for _ in range(CONCURRENCY)))


async def _resolve(resolver: dns.asyncresolver.Resolver, question: Question) -> frozenset[str]:
    name, kind = question
    try:
        answer = await resolver.resolve(f"{name}.", kind, search=False, raise_on_no_answer=False)
    except dns.resolver.NXDOMAIN:
        return frozenset()
    return frozenset(_value(record, kind) for record in answer.rrset or ())


def _value(record: dns.rdata.Rdata, kind: str) -> str:
    """An address as the inventory writes it, or the name that a PTR or SRV record points to ('' for the root)."""
    if kind in ("A", "AAAA"):
        return str(ip_address(record.to_text()))
    return record.to_text().split()[-1].rstrip(".").lower()


def _reason(error: Exception) -> str:
    if isinstance(error, dns.resolver.NoNameservers):
        said = {str(part[3]) for part in error.kwargs.get("errors", ()) if len(part) > 3}
        return f"the server said {' and '.join(sorted(said))}" if said else "the server refused"
    return "the answer could not be read"


# -- judging -----------------------------------------------------------------------------------------------------------


def _trouble(answers: Answers) -> Iterator[Finding]:
    """Questions without an answer: one finding for each reason, however many they are."""
    reasons: dict[str, list[str]] = {}
    for (name, kind), reason in answers.failed.items():
        reasons.setdefault(reason, []).append(f"{kind} {name}")
    for reason, names in sorted(reasons.items()):
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        fact = f"{min(names)}{more}: {reason}"
        if answers.silent and reason == "no answer in time":
            fact += ", so the rest was not asked"
        yield Finding("DNS", fact, "let the server answer for these names, then check again")


def judge(inventory: Inventory, answers: Answers) -> Iterator[Finding]:
    """Where the answers disagree with the inventory; a question without an answer is not judged."""
    for name, service in _services(inventory):
        if service.srv:
            yield from _judge_srv(f"{service.srv}.{inventory.site.domain}", name, answers)
        for server in service.hosts:
            yield from _judge_server(server.name, server.address, answers)
    for host in inventory.hosts:
        yield from _judge_host(host, f"{host.name}.{inventory.site.domain}", answers)


def _judge_srv(record: str, service: str, answers: Answers) -> Iterator[Finding]:
    targets = answers.get(record, "SRV")
    if targets is None:
        return
    if not targets:
        yield Finding(record, f"has no SRV record, so hosts cannot find '{service}'", "add one, or name its 'hosts'")
    for target in sorted(targets):
        if not target:
            yield Finding(record, "its SRV record says that there is no such service", "point it to the server")
        elif _nowhere(target, answers):
            yield Finding(record, f"its target {target} has no address", f"add an A or AAAA record for {target}")


def _nowhere(name: str, answers: Answers) -> bool:
    return all(values is not None and not values for values in (answers.get(name, "A"), answers.get(name, "AAAA")))


def _judge_server(name: str, address: Address | None, answers: Answers) -> Iterator[Finding]:
    if address is None:
        if _nowhere(name, answers):
            yield Finding(name, "has no address in DNS", "add an A or AAAA record, or its 'address' to the inventory")
        return
    values = answers.get(name, _kinds(address)[0])
    if values is not None and str(address) not in values:
        fact = f"is {_listed(values)} in DNS, but {address} in the inventory"
        yield Finding(name, fact, "correct the one that is wrong")


def _judge_host(host: Host, name: str, answers: Answers) -> Iterator[Finding]:
    own = {str(a) for i in host.interfaces.values() for a in (i.ipv4, i.ipv6, i.reservation) if a is not None}
    for address in primary_addresses(host):
        kind = _kinds(address)[0]
        values = answers.get(name, kind)
        if values is not None and not values:
            yield Finding(host.name, f"{name} has no {kind} record", f"add '{name}. {kind} {address}'")
        elif values is not None and str(address) not in values:
            fact = f"{name} is {_listed(values)} in DNS, but {address} in the inventory"
            yield Finding(host.name, fact, "correct the one that is wrong")
        elif values is not None:
            yield from _strays(host, name, kind, values - own)
        pointers = answers.get(_reverse(address), "PTR")
        if pointers is not None and name not in pointers:
            fact = f"{address} points to {_listed(pointers)}" if pointers else f"{address} has no PTR record"
            yield Finding(host.name, fact, f"let it point to {name}")

    for kind in _other_kinds(host):
        yield from _strays(host, name, kind, (answers.get(name, kind) or frozenset()) - own)


def _strays(host: Host, name: str, kind: str, values: frozenset[str]) -> Iterator[Finding]:
    if values:
        fact = f"{name} is also {_listed(values)} in DNS, which the inventory does not know"
        yield Finding(host.name, fact, f"delete that {kind} record")


def _listed(values: Iterable[str]) -> str:
    return ", ".join(sorted(values)) or "nowhere"
