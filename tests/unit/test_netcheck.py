from __future__ import annotations

import asyncio
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import cast

import dns.message
import dns.rcode
import dns.resolver
import pytest

from provision import proc
from provision.errors import Unavailable
from provision.netcheck import (
    Answers,
    Finding,
    check,
    default_resolvers,
    examine,
    judge,
    primary_addresses,
    questions,
)
from provision.site import Inventory
from tests.helpers.inventory_samples import read

TEXT = """\
site:
  domain: example.test
  networks:
    mgmt: {role: management, prefix: 10.0.0.0/24, prefix6: '2001:db8::/64'}
  servers:
    management: {srv: _provision._tcp}
    freeipa: {hosts: [{name: ipa.example.test, address: 10.0.0.2}, {name: ipa2.example.test}]}
hosts:
  n1:
    interfaces:
      a: {mac: 52:54:00:00:00:01, network: mgmt, addressing: static, ipv4: 10.0.0.11, ipv6: '2001:db8::11'}
      b: {mac: 52:54:00:00:01:01, network: mgmt, addressing: static, ipv4: 10.0.0.111}
  n2: {interfaces: {a: {mac: 52:54:00:00:00:02, network: mgmt, addressing: dhcp, reservation: 10.0.0.12}}}
  n3: {interfaces: {a: {mac: 52:54:00:00:00:03, network: mgmt, addressing: dhcp}}}
"""
INVENTORY = read(TEXT)
RIGHT = {
    "n1": "--host-record=n1.example.test,10.0.0.11,2001:db8::11",
    "n2": "--host-record=n2.example.test,10.0.0.12",
    "ipa": "--host-record=ipa.example.test,10.0.0.2",
    "ipa2": "--host-record=ipa2.example.test,10.0.0.3",
    "boot": "--host-record=boot.example.test,10.0.0.4",
    "srv": "--srv-host=_provision._tcp.example.test,boot.example.test,443",
}
Server = Callable[..., tuple[str, int]]


def free_port() -> int:
    """A port that is free for both UDP and TCP on loopback."""
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.bind(("127.0.0.1", 0))
        port: int = tcp.getsockname()[1]
        udp.bind(("127.0.0.1", port))
        return port


@pytest.fixture
def dnsmasq() -> Iterator[Server]:
    """Starts real DNS servers on loopback: the right records, changed by keyword (None leaves one out)."""
    running: list[subprocess.Popen[bytes]] = []

    def start(*extra: str, **changed: str | None) -> tuple[str, int]:
        port = free_port()
        records = [record for record in (RIGHT | changed).values() if record]
        command = [proc.find("dnsmasq", "dnsmasq-base"), "--no-daemon", f"--port={port}", "--no-resolv", "--no-hosts"]
        command += ["--listen-address=127.0.0.1", "--bind-interfaces", "--conf-file=/dev/null", "--pid-file="]
        command += ["--local=/example.test/", "--local=/10.in-addr.arpa/", "--local=/ip6.arpa/", *records, *extra]
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        running.append(server)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and server.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return "127.0.0.1", port
            time.sleep(0.02)
        server.kill()
        raise AssertionError(f"dnsmasq did not start: {server.communicate()[0].decode()}")

    yield start
    for server in running:
        server.terminate()
        server.wait(5)
        if server.stdout:
            server.stdout.close()


def findings(*servers: tuple[str, int], inventory: Inventory = INVENTORY, timeout: float = 2) -> list[str]:
    return [str(finding) for finding in check(inventory, servers, timeout=timeout)]


@pytest.mark.integration
def test_a_dns_that_agrees(dnsmasq: Server) -> None:
    assert findings(dnsmasq()) == []


@pytest.mark.integration
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"n2": "--host-record=n2.example.test,10.0.0.99"},
            [
                "n2: n2.example.test is 10.0.0.99 in DNS, but 10.0.0.12 in the inventory; "
                "correct the one that is wrong",
                "n2: 10.0.0.12 has no PTR record; let it point to n2.example.test",
            ],
        ),
        (
            {"n2": None},
            [
                "n2: n2.example.test has no A record; add 'n2.example.test. A 10.0.0.12'",
                "n2: 10.0.0.12 has no PTR record; let it point to n2.example.test",
            ],
        ),
        (
            {
                "n2": "--address=/n2.example.test/10.0.0.12",
                "ptr": "--ptr-record=12.0.0.10.in-addr.arpa,old.example.test",
            },
            ["n2: 10.0.0.12 points to old.example.test; let it point to n2.example.test"],
        ),
        (
            {"more": "--host-record=n2.example.test,10.0.0.77"},
            [
                "n2: n2.example.test is also 10.0.0.77 in DNS, which the inventory does not know; delete that A record",
            ],
        ),
        ({"more": "--host-record=n1.example.test,10.0.0.111"}, []),
        (
            {"n1": "--host-record=n1.example.test,10.0.0.11"},
            [
                "n1: n1.example.test has no AAAA record; add 'n1.example.test. AAAA 2001:db8::11'",
                "n1: 2001:db8::11 has no PTR record; let it point to n1.example.test",
            ],
        ),
        (
            {"srv": None},
            [
                "_provision._tcp.example.test: has no SRV record, so hosts cannot find 'management'; "
                "add one, or name its 'hosts'"
            ],
        ),
        (
            {"boot": None},
            [
                "_provision._tcp.example.test: its target boot.example.test has no address; "
                "add an A or AAAA record for boot.example.test"
            ],
        ),
        (
            {"srv": "--srv-host=_provision._tcp.example.test"},
            [
                "_provision._tcp.example.test: its SRV record says that there is no such service; "
                "point it to the server"
            ],
        ),
        (
            {"ipa": "--host-record=ipa.example.test,10.0.0.9"},
            ["ipa.example.test: is 10.0.0.9 in DNS, but 10.0.0.2 in the inventory; correct the one that is wrong"],
        ),
        (
            {"ipa2": None},
            ["ipa2.example.test: has no address in DNS; add an A or AAAA record, or its 'address' to the inventory"],
        ),
    ],
)  # fmt: skip
def test_a_dns_that_disagrees(dnsmasq: Server, changed: dict[str, str | None], said: list[str]) -> None:
    assert findings(dnsmasq(**changed)) == said


@pytest.mark.integration
def test_a_dead_server_is_one_finding_and_the_other_is_asked(dnsmasq: Server) -> None:
    dead, alive = ("127.0.0.1", free_port()), dnsmasq(n2=None)
    said = findings(dead, alive, timeout=0.5)
    assert said[0].startswith(f"DNS server 127.0.0.1 port {dead[1]}: does not answer; ")
    assert len(said) == 3 and "n2.example.test has no A record" in said[1]
    with pytest.raises(Unavailable, match=f"^DNS server 127.0.0.1 port {dead[1]}: no answer; look at"):
        findings(dead, timeout=0.1)


@pytest.mark.integration
def test_a_server_that_refuses_is_one_finding(dnsmasq: Server) -> None:
    elsewhere = read(TEXT.replace("example.test", "other.invalid"))
    said = findings(dnsmasq(), inventory=elsewhere)
    assert len(said) == 1 or all("PTR" in line or "points to" in line for line in said[1:])
    assert "more: the server said REFUSED; let the server answer for these names" in said[0]


@pytest.mark.integration
def test_many_hosts(dnsmasq: Server) -> None:
    names = "".join(
        f"  h{i}: {{interfaces: {{a: {{mac: 52:54:00:01:{i >> 8:02x}:{i & 255:02x}, network: mgmt, addressing: static, "
        f"ipv6: '2001:db8::1:{i:x}'}}}}}}\n"
        for i in range(300)
    )
    records = [f"--host-record=h{i}.example.test,2001:db8::1:{i:x}" for i in range(299)]
    said = findings(dnsmasq(*records), inventory=read(TEXT + names))
    assert [line.partition(":")[0] for line in said] == ["h299", "h299"]


@asynccontextmanager
async def falling_silent(answered: int) -> AsyncIterator[tuple[tuple[str, int], list[str]]]:
    """A DNS server that says NXDOMAIN `answered` times and then nothing; also what it was asked."""
    asked: list[str] = []

    class Protocol(asyncio.DatagramProtocol):
        transport: asyncio.DatagramTransport

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast(asyncio.DatagramTransport, transport)

        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            query = dns.message.from_wire(data)
            asked.append(str(query.question[0].name))
            if len(asked) <= answered:
                reply = dns.message.make_response(query)
                reply.set_rcode(dns.rcode.NXDOMAIN)
                self.transport.sendto(reply.to_wire(), addr)

    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Protocol, ("127.0.0.1", 0))
    try:
        yield transport.get_extra_info("sockname"), asked
    finally:
        transport.close()


def test_a_server_that_stops_answering_is_one_finding_and_is_left_alone() -> None:
    names = "".join(
        f"  h{i}: {{interfaces: {{a: {{mac: 52:54:00:01:{i >> 8:02x}:{i & 255:02x}, network: mgmt, addressing: static, "
        f"ipv6: '2001:db8::1:{i:x}'}}}}}}\n"
        for i in range(500)
    )
    inventory = read(TEXT + names)

    async def run() -> tuple[list[Finding], int]:
        async with falling_silent(1) as (server, asked):
            return await examine(inventory, [server], timeout=0.2), len(asked)

    found, asked = asyncio.run(run())
    (only,) = found
    assert "no answer in time, so the rest was not asked" in only.fact
    assert asked < 100 < len(list(questions(inventory)))


def test_questions_are_those_that_the_inventory_implies_once() -> None:
    assert list(questions(INVENTORY)) == [
        ("_provision._tcp.example.test", "SRV"),
        ("ipa.example.test", "A"),
        ("ipa2.example.test", "A"),
        ("ipa2.example.test", "AAAA"),
        ("n1.example.test", "A"),
        ("11.0.0.10.in-addr.arpa", "PTR"),
        ("n1.example.test", "AAAA"),
        ("1.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa", "PTR"),
        ("n2.example.test", "A"),
        ("12.0.0.10.in-addr.arpa", "PTR"),
    ]
    assert [primary_addresses(host) for host in INVENTORY.hosts] == [
        [ip_address("10.0.0.11"), ip_address("2001:db8::11")],
        [ip_address("10.0.0.12")],
        [],
    ]


def test_the_family_that_a_static_host_has_not_is_asked_for_too() -> None:
    one = read(TEXT.replace(", ipv6: '2001:db8::11'}", "}"))
    assert [kind for name, kind in questions(one) if name == "n1.example.test"] == ["A", "AAAA"]
    assert [kind for name, kind in questions(one) if name == "n2.example.test"] == ["A"]
    answers = Answers({("n1.example.test", "AAAA"): frozenset({"2001:db8::99"})})
    assert [str(finding) for finding in judge(one, answers)] == [
        "n1: n1.example.test is also 2001:db8::99 in DNS, which the inventory does not know; delete that AAAA record"
    ]


def test_questions_without_answers_are_not_judged() -> None:
    assert list(judge(INVENTORY, Answers())) == []


def test_resolvers_are_those_of_the_networks_first(monkeypatch: pytest.MonkeyPatch) -> None:
    named = read(TEXT.replace("mgmt: {", "mgmt: {dns: [10.0.0.2, '2001:db8::2', 10.0.0.2], "))
    assert default_resolvers(named) == [("10.0.0.2", 53), ("2001:db8::2", 53)]

    class System:
        def __init__(self, configure: bool = True) -> None:
            self.nameservers, self.port = ["192.0.2.53"] if configure else [], 53

    monkeypatch.setattr("dns.resolver.Resolver", System)
    assert default_resolvers(INVENTORY) == [("192.0.2.53", 53)]

    def without(configure: bool = True) -> System:
        if configure:
            raise dns.resolver.NoResolverConfiguration
        return System(configure=False)

    monkeypatch.setattr("dns.resolver.Resolver", without)
    with pytest.raises(Unavailable, match="add 'dns' to a network"):
        default_resolvers(INVENTORY)
