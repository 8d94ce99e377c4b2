"""Floods from the guest LAN and of strange machines: hosts on the management LAN are served as before."""

from __future__ import annotations

import contextlib
import re
import socket
import sqlite3
import statistics
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from provision.lab.lans import inside, ip
from provision.lab.processes import Process
from tests.fixtures.macs import make_up
from tests.helpers.paths import FIXTURES
from tests.integration.attacks.site import GUEST, KERNEL_BYTES, MGMT, AttackSite, attack_site, http, pxe, rrq, tftp

MEMORY_MIB = 250
FLOOD = FIXTURES / "flood.py"
SOURCES = [f"10.77.2.{number}" for number in range(100, 125)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AttackSite]:
    with attack_site(tmp_path_factory.mktemp("flood")) as site:
        make_up(site.attacker, SOURCES)  # of one MAC there are 64 connections only
        yield site


def memory(site: AttackSite) -> int:
    """Most memory that the server has ever held, in MiB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{site.server.pid}/status").read_text())
    assert found
    return int(found[1]) // 1024


def sockets(site: AttackSite) -> int:
    """Open descriptors of the server."""
    return len(list(Path(f"/proc/{site.server.pid}/fd").iterdir()))


def transfers(site: AttackSite) -> int:
    """TFTP transfers under way: UDP sockets of the server on the ports that it keeps to."""
    rows = Path(f"/proc/{site.server.pid}/net/udp").read_text().splitlines()[1:]
    return sum(20000 <= int(row.split()[1].rpartition(":")[2], 16) <= 20255 for row in rows)


def boot(site: AttackSite) -> float:
    """What a boot asks for, over HTTP: configuration, kernel, initrd, seed. Seconds."""
    node, start = site.hosts["node1"], time.perf_counter()
    config = http(node, MGMT, f"/pxe/{pxe('node1')}")
    kernel = http(node, MGMT, f"/boot/{site.base}/kernel")
    initrd = http(node, MGMT, f"/boot/{site.base}/initrd/0")
    seed = http(node, MGMT, site.seed_path(config))
    taken = time.perf_counter() - start
    assert len(kernel.body) > KERNEL_BYTES and initrd.status == 200 and site.canary["node1"] in seed.body
    return taken


def config_over_tftp(site: AttackSite) -> float:
    """The configuration over TFTP, in seconds; asked for again after a second, as firmware does."""
    start = time.perf_counter()
    while tftp(site.hosts["node1"], MGMT, pxe("node1"), timeout=1).status != 200:
        assert time.perf_counter() - start < 5
    return time.perf_counter() - start


def sample(measure: Callable[[AttackSite], float], site: AttackSite, until: Callable[[int], bool]) -> list[float]:
    """Measurements one after another, evenly over time, until `until` says of their number that it is enough."""
    taken: list[float] = []
    while not until(len(taken)):
        taken.append(measure(site))
        time.sleep(0.02)
    return taken


def mebibytes(flood: Process) -> int:
    return int((re.findall(r"(\d+) MiB of headers", flood.text) or ["0"])[-1])


def test_a_thousand_stalled_connections_and_endless_headers_cost_a_booting_host_little(site: AttackSite) -> None:
    """Median of a boot's requests, quiet against flooded; and the server's memory. It is quiet before and afterwards,
    so that what else the machine begins to do in between is not taken for the flood's."""
    site.seed_of("node1")
    quiet = sample(boot, site, lambda count: count >= 40)
    before = sockets(site)
    argv: list[str | Path] = [sys.executable, FLOOD, GUEST, f"/boot/{site.base}/kernel", *SOURCES]
    flood = site.lab.spawn(site.attacker, argv, log="flood.log")
    try:
        flood.wait_for("^1000 connections", 30)
        end = time.monotonic() + 20
        while sockets(site) - before < 900:  # they are really there
            assert time.monotonic() < end
            time.sleep(0.1)
        deadline = time.monotonic() + 60
        flooded = sample(boot, site, lambda count: count >= 80 and (mebibytes(flood) >= 200 or late(deadline)))
        assert mebibytes(flood) == 200 and flood.running
    finally:
        flood.stop()
    again = sample(boot, site, lambda count: count >= 40)
    slower = max(statistics.median(quiet), statistics.median(again))
    ratio = statistics.median(flooded) / slower
    assert ratio < 2, f"{ratio:.2f} times the quiet {slower * 1000:.1f} ms"
    assert max(flooded) < 3, "nor did one wait for a time-out"
    assert memory(site) < MEMORY_MIB
    assert http(site.attacker, GUEST, f"/pxe/{pxe('node1')}").rule == "foreign-mac", "the guest LAN is served again"


def late(deadline: float) -> bool:
    assert time.monotonic() < deadline, "the flood does not get its headers through"
    return False


def test_readers_that_never_read_hold_no_more_than_their_share(site: AttackSite) -> None:
    """All of them at once ask for the largest thing there is, and never take it."""
    held, before = [], sockets(site)
    try:
        with inside(site.attacker):
            for number in range(1000):
                sock = socket.socket()
                held.append(sock)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                sock.settimeout(2)
                sock.bind((SOURCES[number % len(SOURCES)], 0))
                sock.connect((GUEST, 80))
                sock.sendall(f"GET /boot/{site.base}/kernel HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        end = time.monotonic() + 20
        while sockets(site) - before < 1900:  # connections, and a file for each
            assert time.monotonic() < end
            time.sleep(0.1)
        assert boot(site) < 2
        assert memory(site) < MEMORY_MIB
    finally:
        for sock in held:
            sock.close()


def test_one_peer_has_no_more_than_its_share_of_connections(site: AttackSite) -> None:
    before, held = sockets(site), []
    with inside(site.attacker):
        for _ in range(200):
            sock = socket.create_connection((GUEST, 80), 2, source_address=(SOURCES[0], 0))
            held.append(sock)
    time.sleep(0.5)
    assert sockets(site) - before <= 64
    for sock in held:
        sock.close()


def frame(source_mac: str, target_mac: bytes, source: str, target: str, payload: bytes) -> bytes:
    """An Ethernet frame with a UDP datagram (RFC 768, no checksum) to the TFTP port."""
    udp = struct.pack("!HHHH", 2048, 69, 8 + len(payload), 0) + payload
    addresses = IPv4Address(source).packed + IPv4Address(target).packed
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0x4000, 64, 17, 0) + addresses
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    head = head[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + head[12:]
    return target_mac + octets(source_mac) + b"\x08\x00" + head + udp


def octets(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def arp_request(mac: str, source: str, target: str) -> bytes:
    """Who has `target`? (RFC 826). It tells the one who is asked who asks."""
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + octets(mac) + IPv4Address(source).packed
    return b"\xff" * 6 + octets(mac) + b"\x08\x06" + body + b"\0" * 6 + IPv4Address(target).packed


@contextlib.contextmanager
def answering(namespace: str, prefix: bytes) -> Iterator[None]:
    """Answer ARP for every address and MAC that somebody made up: the server asks the MACs that begin with `prefix`."""
    stop = threading.Event()

    def answer(raw: socket.socket) -> None:
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                asked = raw.recv(2048)
                if asked.startswith(prefix) and asked[12:14] == b"\x08\x06" and asked[20:22] == b"\0\1":
                    own, mac = asked[38:42], asked[:6]
                    raw.send(asked[6:12] + mac + asked[12:20] + b"\0\2" + mac + own + asked[22:32])

    ip(namespace, "link", "set", "eth0", "promisc", "on")
    with raw_socket(namespace, 0x0806) as raw:
        raw.settimeout(0.2)
        thread = threading.Thread(target=answer, args=(raw,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def server_mac(site: AttackSite, interface: str) -> bytes:
    with inside(site.lab.server), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind((interface, 0))
        found: bytes = raw.getsockname()[4]
        return found


def raw_socket(namespace: str, protocol: int = 0) -> socket.socket:
    with inside(namespace):
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))
        raw.bind(("eth0", protocol))
    return raw


def datagrams(site: AttackSite) -> int:
    """UDP datagrams that sockets in the server's namespace have got (RFC 4113, udpInDatagrams)."""
    lines = [line.split() for line in Path(f"/proc/{site.server.pid}/net/snmp").read_text().splitlines()]
    names, values = (line for line in lines if line[0] == "Udp:")
    return int(values[names.index("InDatagrams")])


def test_a_storm_of_read_requests_with_false_sources_is_bounded(site: AttackSite) -> None:
    """3,000 requests from 250 addresses that are nobody's, over and over, and from outside the LAN. How many transfers
    begin is for the kernel to say: it keeps so many neighbours, of all namespaces together."""
    mac, before = server_mac(site, "guest"), datagrams(site)
    sources = [f"10.77.2.{n}" for n in range(4, 254)] + [f"10.99.0.{n}" for n in range(1, 100)]
    inside_lan, most, flooded = 0, 0, []
    with raw_socket(site.attacker) as raw:
        for number in range(3000):
            name, source = rrq(("lpxelinux.0", pxe("node1"), f"x{number}")[number % 3]), sources[number % len(sources)]
            raw.send(frame("52:54:00:77:0e:01", mac, source, GUEST, name))
            inside_lan += source.startswith("10.77.2.")
            if number % 50 == 0:
                most = max(most, transfers(site))
                flooded.append(config_over_tftp(site))
    # What comes from outside the prefix, no socket hears.
    assert datagrams(site) - before >= inside_lan // 2, "the storm came in"
    assert most <= 2 * 256, "the ports of the range, on both networks"
    # Each was asked for right behind fifty others. A host that had to ask again would have waited a second.
    assert statistics.median(flooded) < 1 and max(flooded) < 3
    assert memory(site) < MEMORY_MIB and site.server.running
    site.seed_of("node1")


def test_one_peer_that_asks_without_end_leaves_the_others_alone(site: AttackSite) -> None:
    most, end = 0, time.monotonic() + 90
    while transfers(site):  # to addresses that are nobody's, of the storm before
        assert time.monotonic() < end, "transfers to nobody end"
        time.sleep(0.2)
    with inside(site.attacker), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for number in range(4000):
            sock.sendto(rrq("lpxelinux.0" if number % 2 else pxe("node1")), (GUEST, 69))
            if number % 100 == 0:
                most = max(most, transfers(site))
    assert most <= 20
    other, end = site.guest.host("other", "10.77.2.30/24"), time.monotonic() + 8
    while tftp(other, GUEST, pxe("node1"), timeout=1).rule != "foreign-mac":  # firmware asks again, too
        assert time.monotonic() < end
    assert config_over_tftp(site) < 1
    entries = [e for e in site.audit(address="10.77.2.66") if e.get("rule") == "foreign-mac"]
    assert 1 <= len(entries) < 20, "and the audit log counts them"


ROUNDS, MACHINES = 3, 200


def test_a_flood_of_unknown_machines_is_bounded(site: AttackSite) -> None:
    """600 MACs, each of which answers ARP, ask for configurations on the management LAN."""
    intruder, mac, before = site.mgmt.host("intruder", "10.77.1.99/24"), server_mac(site, "mgmt"), memory(site)
    with raw_socket(intruder) as raw, answering(intruder, b"\x06"):
        for turn in range(ROUNDS):
            for number in range(MACHINES):
                own, source = f"06:00:00:00:{turn:02x}:{number:02x}", f"10.77.1.{50 + number}"
                if source == "10.77.1.99":
                    continue
                raw.send(arp_request(own, source, MGMT))
                raw.send(frame(own, mac, source, MGMT, rrq(f"pxelinux.cfg/01-{own.replace(':', '-')}")))
                time.sleep(0.002)
            time.sleep(1.1)  # the kernel takes a new MAC for an address once a second
    site.seed_of("node1")
    seen = [u["mac"] for u in site.site.json("status")["unknown"] if u["mac"].startswith("06:00")]
    assert 300 < len(seen) <= ROUNDS * MACHINES, "they came in"
    assert memory(site) - before < 20
    site.server.stop()
    with sqlite3.connect(site.site.state / "provision.db") as database:
        (rows,) = database.execute("select count(*) from unknown_macs").fetchone()
    assert len(seen) <= rows <= 4096
    site.server = site.lab.spawn(site.lab.server, site.site.argv("serve"), log="again.log")
    site.server.wait_for("serving the operator's socket", 30)
    assert "whole" in site.site.call("audit", "--verify")
