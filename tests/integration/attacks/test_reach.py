"""Who reaches the management listener: attackers on the guest LAN, on the server itself, and in disguise."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from provision import proc
from provision.lab.lans import inside, ip
from tests.helpers.paths import FIXTURES
from tests.helpers.wired import eventually
from tests.integration.attacks.site import (
    ADDRESS,
    GUEST,
    MAC,
    MGMT,
    AttackSite,
    attack_site,
    exchange,
    http,
    listening,
    pxe,
    tftp,
)

REFUSED_BY = "Not booting from the network"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AttackSite]:
    with attack_site(tmp_path_factory.mktemp("reach")) as site:
        yield site


@pytest.fixture(scope="module")
def stray(site: AttackSite) -> str:
    """A machine with the first host's MAC, cabled to the guest LAN."""
    return site.guest.host("stray", "10.77.2.21/24", mac=MAC["node1"])


@pytest.fixture(scope="module")
def intruder(site: AttackSite) -> str:
    """An unknown machine on the management LAN."""
    return site.mgmt.host("intruder", "10.77.1.99/24", mac="52:54:00:77:0f:ff")


def paths(site: AttackSite, name: str = "node1") -> list[str]:
    """Everything of a host that holds a secret, or leads to one."""
    config = http(site.hosts[name], MGMT, f"/pxe/{pxe(name)}")
    return [f"/pxe/{pxe(name)}", site.seed_path(config), "/boot/seed/current/seed.cpio", "/http-boot/boot.iso"]


def over_tftp(path: str) -> str:
    return path.removeprefix("/pxe/").removeprefix("/")


@pytest.fixture
def impostor(site: AttackSite) -> Iterator[None]:
    """The first guest host also has an address of the management LAN, and prefers the server for the way there."""
    ip(site.attacker, "addr", "add", f"{ADDRESS['node1']}/32", "dev", "eth0")
    yield
    ip(site.attacker, "addr", "del", f"{ADDRESS['node1']}/32", "dev", "eth0")


def test_the_guest_lan_does_not_reach_the_management_address(site: AttackSite) -> None:
    """The weak host model: the server takes a packet to its management address from the guest NIC."""
    with listening(site.lab.server, MGMT, 8099) as careless:
        thread = threading.Thread(target=lambda: careless.accept()[0].close())
        thread.start()
        assert exchange(site.attacker, MGMT, b"", port=8099) == b"", "the attack reaches a socket bound to the address"
        thread.join()
    site.seed_of("node1")
    for path in paths(site):
        assert exchange(site.attacker, MGMT, f"GET {path} HTTP/1.0\r\n\r\n".encode()) is None
    with listening(site.lab.server, MGMT, 6999, socket.SOCK_DGRAM) as careless, inside(site.attacker):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as shout:
            shout.sendto(b"x", (MGMT, 6999))
        assert careless.recv(10) == b"x"
    assert site.canary["node1"] in tftp(site.hosts["node1"], MGMT, over_tftp(paths(site)[1])).body
    for path in paths(site)[:3]:
        assert tftp(site.attacker, MGMT, over_tftp(path), timeout=0.5).status == 0


def test_a_management_source_address_on_the_guest_lan_gets_nothing(site: AttackSite, impostor: None) -> None:
    """The server routes its answers for that address to the management LAN, unless they are bound to the guest NIC."""
    site.seed_of("node1")
    source = ADDRESS["node1"]
    with site.mgmt.capture() as wire:
        for path in paths(site):
            assert http(site.attacker, MGMT, path, source=source, timeout=0.5).status == 0
            assert http(site.attacker, GUEST, path, source=source, timeout=1).status == 0, "no route leads back there"
        for path in paths(site)[:3]:
            for address in (MGMT, GUEST):
                answer = tftp(site.attacker, address, over_tftp(path), source=source, timeout=0.5)
                assert not site.leaks(answer.raw)
    with listening(site.lab.server, GUEST, 6999, socket.SOCK_DGRAM) as careless, inside(site.attacker):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as shout:
            shout.bind((source, 0))
            shout.sendto(b"x", (GUEST, 6999))
        assert careless.recv(10) == b"x", "the attack comes in, and is heard by others"
    spoofed = bytes([10, 77, 1, 1, 10, 77, 1, 21])
    frames = [frame for frame in wire.frames() if spoofed in frame[26:34] and b"provision-seed" in frame]
    assert len(frames) == 0, "nor was the true owner of the address sent what it had not asked for"


def test_the_hosts_own_mac_on_the_guest_lan_gets_a_refusal(site: AttackSite, stray: str) -> None:
    seed = site.seed_of("node1")
    for path in paths(site):
        answer = http(stray, GUEST, path)
        assert not site.leaks(answer.raw), path
        assert answer.rule == "secrets-on-general" or path.endswith(".iso"), answer.text
    image = http(stray, GUEST, "/http-boot/boot.iso", timeout=20)
    assert image.status == 200 and b"secrets-on-general" in image.body and not site.leaks(image.body)
    assert site.canary["node1"] in http(site.hosts["node1"], MGMT, "/http-boot/boot.iso", timeout=20).body
    config = tftp(stray, GUEST, pxe("node1"))
    assert config.rule == "secrets-on-general"
    refused = tftp(stray, GUEST, over_tftp(paths(site)[1]))
    assert refused.status == 2 and "clear" in refused.text
    grub = tftp(stray, GUEST, "grub/grub.cfg")
    assert "secrets-on-general" in grub.text and "linux" not in grub.text
    assert len(seed.body) > 0 and site.audit(rule="secrets-on-general", mac=MAC["node1"])


def test_a_stolen_address_with_another_mac_is_denied(site: AttackSite, intruder: str) -> None:
    """The intruder takes node2's address while node2 is off; its MAC is what ARP says."""
    site.seed_of("node2")
    wanted = paths(site, "node2")
    ip(site.hosts["node2"], "link", "set", "eth0", "down")
    ip(intruder, "addr", "add", f"{ADDRESS['node2']}/24", "dev", "eth0")
    ip(site.lab.server, "neigh", "flush", "dev", "mgmt")
    try:
        # Until the kernel has told of it, the server may still take the intruder for node2: a configuration has no
        # secret, and before a seed leaves, node2 itself is asked.
        eventually(lambda: http(intruder, MGMT, wanted[0], source=ADDRESS["node2"]).rule == "foreign-mac")
        config = http(intruder, MGMT, wanted[0], source=ADDRESS["node2"])
        assert config.rule == "foreign-mac" and "52:54:00:77:0f:ff is not a MAC of node2" in config.text
        for path in wanted[1:3]:
            answer = http(intruder, MGMT, path, source=ADDRESS["node2"])
            assert answer.status == 403 and answer.rule == "unknown-host"
        assert tftp(intruder, MGMT, over_tftp(wanted[0]), source=ADDRESS["node2"]).rule == "foreign-mac"
        assert tftp(intruder, MGMT, over_tftp(wanted[1]), source=ADDRESS["node2"]).status == 2
        image = http(intruder, MGMT, wanted[3], source=ADDRESS["node2"], timeout=20)
        assert b"unknown-host" in image.body and not site.leaks(image.body)
    finally:
        ip(intruder, "addr", "del", f"{ADDRESS['node2']}/24", "dev", "eth0")
        ip(site.hosts["node2"], "link", "set", "eth0", "up")
        ip(site.lab.server, "neigh", "flush", "dev", "mgmt")
    site.seed_of("node2")


def test_an_address_that_answers_no_arp_is_denied(site: AttackSite, intruder: str) -> None:
    """A datagram needs no answer to get in; who sends it stays unknown."""
    source = ("10.77.1.98/32", "dev", "eth0")
    ip(intruder, "addr", "add", *source)
    # With the server's MAC known it asks for nothing by ARP either: a question would tell who it is.
    ip(intruder, "neigh", "replace", MGMT, "lladdr", mac_of(site.lab.server, "mgmt"), "dev", "eth0")
    with inside(intruder):
        Path("/proc/sys/net/ipv4/conf/eth0/arp_ignore").write_text("8")
    try:
        assert tftp(intruder, MGMT, pxe("node1"), source="10.77.1.98", timeout=2).status == 0
    finally:
        with inside(intruder):
            Path("/proc/sys/net/ipv4/conf/eth0/arp_ignore").write_text("0")
    assert site.audit(rule="no-neighbour", address="10.77.1.98", host="node1")
    ip(site.lab.server, "neigh", "flush", "dev", "mgmt")
    answer = tftp(intruder, MGMT, pxe("node1"), source="10.77.1.98", timeout=2)
    assert answer.rule == "foreign-mac", "once it answers ARP, it is known"
    ip(intruder, "addr", "del", *source)


def heard(namespace: str, *, seconds: float) -> bytes:
    """Everything that arrives at a host's NIC in the next `seconds`, no matter for whom."""
    with inside(namespace), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as ear:
        ear.bind(("eth0", 3))
        ear.settimeout(0.1)
        end, found = time.monotonic() + seconds, b""
        while time.monotonic() < end:
            with contextlib.suppress(TimeoutError):
                found += ear.recv(65536)
    return found


def test_what_a_false_sender_asks_for_goes_to_the_true_owner(site: AttackSite, intruder: str) -> None:
    """A datagram with node2's address from another MAC: the answer goes where ARP says node2 is."""
    path = over_tftp(paths(site, "node2")[1])
    ip(intruder, "neigh", "replace", MGMT, "lladdr", mac_of(site.lab.server, "mgmt"), "dev", "eth0")
    with inside(intruder):
        Path("/proc/sys/net/ipv4/conf/eth0/arp_ignore").write_text("8")
    ip(intruder, "addr", "add", f"{ADDRESS['node2']}/32", "dev", "eth0")
    with ThreadPoolExecutor() as pool:
        ears = [pool.submit(heard, host, seconds=1.5) for host in (site.hosts["node2"], intruder)]
        time.sleep(0.2)
        assert tftp(intruder, MGMT, path, source=ADDRESS["node2"], timeout=0.5).status == 0
        owner, other = (ear.result() for ear in ears)
    ip(intruder, "addr", "del", f"{ADDRESS['node2']}/32", "dev", "eth0")
    with inside(intruder):
        Path("/proc/sys/net/ipv4/conf/eth0/arp_ignore").write_text("0")
    assert b"provision-seed" in owner, "the attack was answered"
    assert not site.leaks(other)


def mac_of(namespace: str, interface: str) -> str:
    done = proc.run(["ip", "-n", namespace, "-br", "link", "show", interface], package="iproute2")
    return done.stdout.decode().split()[2]


@contextlib.contextmanager
def forwarder(site: AttackSite, kind: int, port: int, to: int) -> Iterator[None]:
    """A program on the server that listens on the guest address and passes everything on to the management address."""
    script = FIXTURES / "forwarder.py"
    argv: list[str | Path] = [
        sys.executable,
        script,
        "tcp" if kind == socket.SOCK_STREAM else "udp",
        GUEST,
        str(port),
        MGMT,
        str(to),
    ]
    process = site.lab.spawn(site.lab.server, argv, log=f"forwarder-{port}.log")
    process.wait_for("ready", 10)
    yield
    process.stop()


def test_a_process_on_the_server_is_no_host(site: AttackSite) -> None:
    """Its connection arrives on the management socket, and its peer address tells."""
    site.seed_of("node1")
    for source in ("", MGMT, GUEST, "127.0.0.1"):
        for path in paths(site):
            answer = http(site.lab.server, MGMT, path, source=source, timeout=4 if source in ("", MGMT) else 0.3)
            expected = (200, "local-peer") if path.startswith("/pxe/") else (403, "unknown-host")
            assert not answer.status or path.endswith(".iso") or (answer.status, answer.rule) == expected, source
            assert answer.status or source in (GUEST, "127.0.0.1"), "from the address itself it does get in"
            assert not site.leaks(answer.raw), (source, path)
    for path in paths(site)[:3]:
        answer = tftp(site.lab.server, MGMT, over_tftp(path), timeout=1)
        assert not site.leaks(answer.raw)
    assert tftp(site.lab.server, MGMT, pxe("node1"), timeout=1).rule == "local-peer"


def test_a_forwarder_on_the_guest_address_passes_on_refusals_only(site: AttackSite) -> None:
    site.seed_of("node1")
    with forwarder(site, socket.SOCK_STREAM, 8081, 80):
        config = http(site.attacker, GUEST, f"/pxe/{pxe('node1')}", port=8081)
        assert config.rule == "local-peer", "the request reached the management listener through the forwarder"
        for path in paths(site)[1:]:
            answer = http(site.attacker, GUEST, path, port=8081, timeout=20)
            assert answer.status and not site.leaks(answer.raw)
    with forwarder(site, socket.SOCK_DGRAM, 6981, 69):
        assert tftp(site.attacker, GUEST, pxe("node1"), port=6981).rule == "local-peer"
        for path in paths(site)[1:3]:
            answer = tftp(site.attacker, GUEST, over_tftp(path), port=6981)
            assert answer.status == 2 and not site.leaks(answer.raw)


RULES = """
table ip attack {
  chain prerouting {
    type nat hook prerouting priority -100;
    iifname "guest" tcp dport 8082 dnat to 10.77.1.1:80
    iifname "guest" tcp dport 8083 dnat to 10.77.1.1:8098
    iifname "guest" udp dport 6982 dnat to 10.77.1.1:69
  }
}
"""


def test_address_translation_on_the_server_reaches_nothing(site: AttackSite) -> None:
    nft = ["ip", "netns", "exec", site.lab.server, "nft"]
    proc.run([*nft, "-f", "-"], package="nftables", stdin=RULES.encode())
    try:
        with listening(site.lab.server, MGMT, 8098) as careless:
            thread = threading.Thread(target=lambda: careless.accept()[0].close())
            thread.start()
            assert exchange(site.attacker, GUEST, b"", port=8083) == b"", "the translation works"
            thread.join()
        for path in paths(site):
            assert not site.leaks(
                exchange(site.attacker, GUEST, f"GET {path} HTTP/1.0\r\n\r\n".encode(), port=8082) or b""
            )
        assert tftp(site.attacker, GUEST, pxe("node1"), port=6982, timeout=0.5).status == 0
    finally:
        proc.run([*nft, "delete", "table", "ip", "attack"], package="nftables")


DISGUISES: list[dict[str, str]] = [
    {"X-Forwarded-For": ADDRESS["node1"], "X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example"},
    {"Forwarded": f"for={ADDRESS['node1']};host=evil.example;proto=https", "Via": "1.1 evil.example"},
    {"X-Real-IP": ADDRESS["node1"], "True-Client-IP": ADDRESS["node1"], "CF-Connecting-IP": ADDRESS["node1"]},
    {"X-Original-URL": "/boot/seed/current/seed.cpio", "X-Rewrite-URL": "/boot/seed/current/seed.cpio"},
    {"Host": "evil.example"},
    {"Host": f"{MGMT}:81"},
    {"Host": "evil.example/x?y=\"'"},
    {"X-Forwarded-For": "127.0.0.1", "X-Client-MAC": MAC["node1"], "X-RHN-Provisioning-MAC-0": f"eth0 {MAC['node1']}"},
]


@pytest.mark.parametrize("headers", DISGUISES, ids=lambda headers: next(iter(headers.items())).__str__())
def test_no_header_changes_who_asks_or_what_is_answered(site: AttackSite, headers: dict[str, str]) -> None:
    path = f"/pxe/{pxe('node1')}"
    true = http(site.hosts["node1"], MGMT, path)
    assert f"http://{MGMT}/boot/" in true.text
    assert http(site.hosts["node1"], MGMT, path, headers=headers).body == true.body, "no URL is made of a header"
    plain = http(site.attacker, GUEST, path)
    assert plain.rule == "foreign-mac"
    assert http(site.attacker, GUEST, path, headers=headers).body == plain.body
    denied = http(site.attacker, GUEST, "/boot/seed/current/seed.cpio", headers=headers)
    assert denied.status == 403 and not site.leaks(denied.raw)
    assert http(site.lab.server, MGMT, path, headers=headers).rule == "local-peer"
    assert b"evil.example" not in true.raw + plain.raw + denied.raw


def test_a_request_line_with_an_authority_is_still_the_sockets(site: AttackSite) -> None:
    """The absolute form (RFC 9112 section 3.2.2), as a proxy is asked, moves neither identity nor URLs."""
    for target in (f"http://evil.example/pxe/{pxe('node1')}", f"http://{MGMT}/pxe/{pxe('node1')}"):
        answer = http(site.attacker, GUEST, target)
        assert not site.leaks(answer.raw) and b"evil.example" not in answer.body
    assert http(site.attacker, GUEST, f"{MGMT}:80", method="CONNECT").status in (400, 404, 405)


def open_sockets(namespace: str, table: str) -> set[tuple[str, int]]:
    """Address and port of every listening TCP or unconnected UDP socket, from the kernel's own table."""
    with inside(namespace):
        lines = Path(f"/proc/thread-self/net/{table}").read_text().splitlines()[1:]
    found = set()
    for line in lines:
        _, local, _, state, *_ = line.split()
        address, port = local.split(":")
        if state in ("0A", "07"):
            found.add((socket.inet_ntop(socket.AF_INET, bytes.fromhex(address)[::-1]), int(port, 16)))
    return found


def test_nothing_listens_anywhere_else(site: AttackSite) -> None:
    assert open_sockets(site.lab.server, "tcp") == {(MGMT, 80), (GUEST, 80)}
    assert open_sockets(site.lab.server, "udp") == {(MGMT, 69), (GUEST, 69)}
    for table in ("tcp6", "udp6", "raw", "raw6"):
        with inside(site.lab.server):
            assert len(Path(f"/proc/thread-self/net/{table}").read_text().splitlines()) == 1, table
    with inside(site.lab.server):
        unix = Path("/proc/thread-self/net/unix").read_text().splitlines()[1:]
    named = [line.split()[7] for line in unix if len(line.split()) > 7]
    assert named == [str(site.site.state / "operator.sock")], "no abstract name either: those have no mode"
    assert (site.site.state / "operator.sock").stat().st_mode & 0o777 == 0o600
    for address in ("127.0.0.1", "127.1.2.3"):
        assert exchange(site.lab.server, address, b"GET / HTTP/1.0\r\n\r\n") is None


@pytest.mark.parametrize("table", ["tcp", "udp"])
def test_the_look_at_open_sockets_sees_loopback(site: AttackSite, table: str) -> None:
    kind = socket.SOCK_STREAM if table == "tcp" else socket.SOCK_DGRAM
    with listening(site.lab.server, "127.0.0.1", 8097, kind):
        assert ("127.0.0.1", 8097) in open_sockets(site.lab.server, table)
