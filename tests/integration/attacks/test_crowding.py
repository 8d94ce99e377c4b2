"""One machine with many addresses, or with MACs that it makes up, holds all that it can get: others are served."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

import tests.integration.attacks.site
from provision.demo.site import SETTINGS
from provision.lab.lans import inside, ip
from tests.fixtures.macs import make_up
from tests.integration.attacks.site import MGMT, Answer, AttackSite, attack_site, http, pxe, rrq, tftp

ADDRESSES = [f"10.77.1.{number}" for number in range(100, 134)]
MADE_UP = [f"10.77.1.{number}" for number in range(140, 200)]
NEIGHBOUR = "10.77.1.200"
# Everything is an eighth of what it is by default, so that an attack has it all soon.
TFTP_PORTS, CONNECTIONS, PER_MAC, PER_MAC_TFTP = 64, 256, 16, 8
BOUNDS = f"max_connections = {CONNECTIONS}\nmax_connections_per_peer = {PER_MAC}\n"
PORTS = SETTINGS.replace('interface = "mgmt"', f'interface = "mgmt"\ntftp_ports = [20000, {20000 + TFTP_PORTS - 1}]')
KERNEL_BYTES = 2 << 20


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AttackSite]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tests.integration.attacks.site, "SETTINGS", BOUNDS + PORTS)
        patch.setattr(tests.integration.attacks.site, "KERNEL_BYTES", KERNEL_BYTES)
        with attack_site(tmp_path_factory.mktemp("crowding")) as site:
            yield site


@pytest.fixture(scope="module")
def evil(site: AttackSite) -> str:
    """A machine on the management LAN: one MAC, many addresses."""
    name: str = site.mgmt.host("evil", f"{ADDRESSES[0]}/24")
    for address in ADDRESSES[1:]:
        ip(name, "addr", "add", f"{address}/24", "dev", "eth0")
    return name


@pytest.fixture(scope="module")
def liar(site: AttackSite) -> str:
    """A machine that makes up MACs: one for each of its addresses, and it answers ARP for each with its own."""
    name: str = site.mgmt.host("liar", "10.77.1.99/32")
    ip(name, "route", "add", "10.77.1.0/24", "dev", "eth0")
    make_up(name, MADE_UP)
    return name


@pytest.fixture(scope="module")
def neighbour(site: AttackSite) -> str:
    """Another machine that nobody knows."""
    name: str = site.mgmt.host("neighbour", f"{NEIGHBOUR}/24")
    return name


def held_by(site: AttackSite, protocol: str, addresses: frozenset[str]) -> int:
    """Sockets of the server whose peer is one of these addresses."""
    rows = [row.split() for row in Path(f"/proc/{site.server.pid}/net/{protocol}").read_text().splitlines()[1:]]
    peers = [socket.inet_ntoa(struct.pack("<I", int(row[2].partition(":")[0], 16))) for row in rows]
    return sum(peer in addresses and row[3] == "01" for peer, row in zip(peers, rows, strict=True))


def few_are_held(site: AttackSite, addresses: Sequence[str], most: int) -> None:
    """Connections that the server has yet to accept, or is just cutting, count for a moment."""
    end = time.monotonic() + 5
    while (held := held_by(site, "tcp", frozenset(addresses))) > most:
        assert time.monotonic() < end, held
        time.sleep(0.05)


class Attack:
    """Holds what it gets, in a thread, and takes again what it loses, until it is told to stop."""

    def __init__(self, step: Callable[[], None], end: Callable[[], None]) -> None:
        self._step, self._end = step, end
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.rounds = 0

    def _run(self) -> None:
        while not self._stop.is_set():
            self._step()
            self.rounds += 1

    def __enter__(self) -> Attack:
        self._thread.start()
        end = time.monotonic() + 60
        while self.rounds < 2:  # all that can be held is held
            assert self._thread.is_alive() and time.monotonic() < end
            time.sleep(0.05)
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join(60)
        self._end()


class Wires:
    """TFTP transfers from one address each, acknowledged in a way of their own."""

    def __init__(self, namespace: str, addresses: list[str], names: list[str], acks: str) -> None:
        self.acks = acks
        self.socks: list[tuple[socket.socket, str]] = []
        with inside(namespace):
            for address in addresses:
                for name in names:
                    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                    sock.bind((address, 0))
                    sock.setblocking(False)
                    self.socks.append((sock, name))
        self.counts: dict[socket.socket, int] = {}
        self.heard: dict[socket.socket, float] = {}

    def step(self) -> None:
        """Ask for what is not under way; acknowledge as the kind of attack wants it."""
        now = time.monotonic()
        for sock, name in self.socks:
            if now - self.heard.get(sock, 0.0) > 3.0:
                self.counts[sock], self.heard[sock] = 0, now
                with contextlib.suppress(OSError):
                    sock.sendto(rrq(name), (MGMT, 69))
        ready, _, _ = select.select([sock for sock, _ in self.socks], [], [], 0.2)
        for sock in ready:
            with contextlib.suppress(OSError):
                data, peer = sock.recvfrom(2048)
                self.counts[sock] += 1
                if data[1] == 3 and (self.acks == "slow" or (self.acks == "some" and self.counts[sock] < 20)):
                    sock.sendto(b"\0\4" + data[2:4], peer)
                    self.heard[sock] = now
        if self.acks == "slow":
            time.sleep(0.3)

    def close(self) -> None:
        for sock, _ in self.socks:
            sock.close()


def names_of(site: AttackSite) -> list[str]:
    """What anybody may ask for over TFTP; the kernel is the largest."""
    files = ["kernel", "initrd/0"]
    return [
        *(f"boot/{site.base}/{name}" for name in files),
        "ldlinux.c32",
        "lpxelinux.0",
        "grub/grub.cfg",
        pxe("node2"),
    ]


class Lines:
    """HTTP connections from addresses in turn, opened again when they are cut."""

    def __init__(
        self, namespace: str, addresses: list[str], count: int, kinds: list[bytes], slow: bool = False
    ) -> None:
        self.namespace, self.addresses, self.count, self.kinds, self.slow = namespace, addresses, count, kinds, slow
        self.open: dict[socket.socket, int] = {}
        self.free = list(range(count))

    def step(self) -> None:
        """Fill up, read a little when it is that kind of attack, and notice what was cut."""
        with inside(self.namespace):
            for number in self.free[:100]:
                self.dial(number)
            del self.free[:100]
        for sock, number in list(self.open.items()):
            try:
                if (self.slow or number % len(self.kinds) < 2) and sock.recv(200) == b"":
                    raise ConnectionResetError
            except BlockingIOError:
                continue
            except OSError:
                sock.close()
                del self.open[sock]
                self.free.append(number)
        time.sleep(0.3)

    def dial(self, number: int) -> None:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        sock.settimeout(0.5)
        try:
            sock.bind((self.addresses[number % len(self.addresses)], 0))
            sock.connect((MGMT, 80))
            sock.sendall(self.kinds[number % len(self.kinds)])
            sock.setblocking(False)
        except OSError:
            sock.close()
            self.free.append(number)
        else:
            self.open[sock] = number

    def close(self) -> None:
        for sock in self.open:
            sock.close()


def until(ask: Callable[[], Answer], good: Callable[[Answer], bool], seconds: float) -> float:
    """Seconds until the answer is good; a client asks again, as firmware does."""
    start = time.monotonic()
    while not good(ask()):
        assert time.monotonic() - start < seconds, "no answer while the attack goes on"
    return time.monotonic() - start


def others_are_served(site: AttackSite, neighbour: str, attack: Attack) -> None:
    """A host of the inventory gets all it needs by HTTP and TFTP; another unknown machine gets its refusal by both."""
    node, kernel = site.hosts["node1"], f"boot/{site.base}/kernel"
    rounds = attack.rounds
    until(lambda: http(node, MGMT, f"/pxe/{pxe('node1')}"), lambda a: b"seed.cpio" in a.body, 5)
    until(lambda: tftp(node, MGMT, pxe("node1"), timeout=1), lambda a: b"seed.cpio" in a.body, 5)
    assert len(http(node, MGMT, f"/{kernel}", timeout=30).body) > KERNEL_BYTES
    whole = tftp(node, MGMT, kernel, timeout=10)
    assert len(whole.body) > KERNEL_BYTES, (whole.status, len(whole.body), "in one go, with no second request")
    site.seed_of("node1")
    until(lambda: http(neighbour, MGMT, f"/pxe/{pxe('node2')}"), lambda a: a.rule == "foreign-mac", 10)
    until(lambda: tftp(neighbour, MGMT, pxe("node2"), timeout=1), lambda a: a.rule == "foreign-mac", 10)
    end = time.monotonic() + 20
    while attack.rounds <= rounds:
        assert time.monotonic() < end, "it is still on"
        time.sleep(0.05)


@pytest.mark.parametrize("acks", ["none", "some", "slow"])
def test_tftp_from_many_addresses_of_one_machine(site: AttackSite, evil: str, neighbour: str, acks: str) -> None:
    wires = Wires(evil, ADDRESSES, names_of(site), acks)
    with Attack(wires.step, wires.close) as attack:
        others_are_served(site, neighbour, attack)
        assert held_by(site, "udp", frozenset(ADDRESSES)) <= PER_MAC_TFTP


@pytest.mark.parametrize("slow", [False, True])
def test_http_from_many_addresses_of_one_machine(site: AttackSite, evil: str, neighbour: str, slow: bool) -> None:
    big = [
        f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for path in (f"/boot/{site.base}/kernel", "/pxe/ldlinux.c32")
    ]
    kinds = big if slow else [b"", b"GET / HTTP/1.1\r\nX: ", *big, b"POST /up HTTP/1.1\r\nContent-Length: 99\r\n\r\n{"]
    lines = Lines(evil, ADDRESSES, 300, kinds, slow)
    with Attack(lines.step, lines.close) as attack:
        others_are_served(site, neighbour, attack)
        few_are_held(site, ADDRESSES, PER_MAC + 4)


@pytest.mark.parametrize("acks", ["none", "some", "slow"])
def test_tftp_with_made_up_macs(site: AttackSite, liar: str, neighbour: str, acks: str) -> None:
    wires = Wires(liar, MADE_UP, names_of(site)[:3], acks)
    with Attack(wires.step, wires.close) as attack:
        others_are_served(site, neighbour, attack)
        assert held_by(site, "udp", frozenset(MADE_UP)) <= TFTP_PORTS // 2


@pytest.mark.parametrize("slow", [False, True])
def test_http_with_made_up_macs(site: AttackSite, liar: str, neighbour: str, slow: bool) -> None:
    kinds = [f"GET /boot/{site.base}/kernel HTTP/1.1\r\nHost: x\r\n\r\n".encode()] + ([] if slow else [b"", b"GET /"])
    lines = Lines(liar, MADE_UP, 300, kinds, slow)
    with Attack(lines.step, lines.close) as attack:
        others_are_served(site, neighbour, attack)
        few_are_held(site, MADE_UP, CONNECTIONS // 2 + 4)


def test_a_host_whose_address_another_one_uses(site: AttackSite, evil: str, neighbour: str) -> None:
    """Requests in a host's name, by a machine that does not take its MAC: the host's own transfers go on."""
    ip(evil, "addr", "add", "10.77.1.21/32", "dev", "eth0")
    with inside(evil):
        Path("/proc/sys/net/ipv4/conf/all/arp_ignore").write_text("8")
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("10.77.1.21", 0))
    names = [f"boot/{site.base}/kernel", pxe("node1"), "lpxelinux.0"]

    def step() -> None:
        for name in names:
            sock.sendto(rrq(name), (MGMT, 69))
        time.sleep(0.02)

    try:
        with Attack(step, sock.close) as attack:
            others_are_served(site, neighbour, attack)
    finally:
        ip(evil, "addr", "del", "10.77.1.21/32", "dev", "eth0")
        with inside(evil):
            Path("/proc/sys/net/ipv4/conf/all/arp_ignore").write_text("0")
