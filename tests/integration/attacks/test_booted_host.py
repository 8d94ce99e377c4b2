"""What the host image lets through to the server's boot ports: its own rules, loaded as it loads them."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path

import yaml

from provision import assets
from provision.seed import BootServer, _boot_servers
from tests.helpers.netns import _CLONE_NEWNET, _libc, isolated, lan, peer, sh

ROOT = assets.directory("images") / "host" / "root"
SERVER, HOST = "192.0.2.1", "192.0.2.9"
AGENTS = 114
# As QEMU runs when a site wants its guests to be root's.
CALLERS = {"nobody": (65534, 65534), "root": (0, 0), "its group": (65534, AGENTS), "libvirt-qemu": (64055, 64055)}
CALL = """
import os, socket, sys
kind, address, port, uid, gid = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
os.setgroups([]); os.setresgid(gid, gid, gid); os.setresuid(uid, uid, uid)
sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
sock.settimeout(3)
try:
    sock.connect((address, port))
    sock.send(b"GET")
    print(sock.recv(10).decode())
except OSError as error:
    print(type(error).__name__)
"""


def call(kind: str, port: int, uid: int, gid: int, address: str = SERVER, prefix: tuple[str, ...] = ()) -> str:
    """What a process of that user and group gets there: "seed", or the error."""
    argv = [*prefix, "python3", "-c", CALL, kind, address, str(port), str(uid), str(gid)]
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30).stdout.strip()


class Filter:
    """The image's packet filter in the namespace of the calling thread, its files below a directory of the test's."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        listeners = [BootServer(IPv4Address(SERVER), 80, 69, (20000, 20255))]
        (directory / "boot-servers.nft").write_bytes(_boot_servers(listeners))
        self.write("nftables.conf", (ROOT / "etc/nftables.conf").read_text())
        self.write("guard.nft", (ROOT / "usr/lib/provision/guard.nft").read_text())
        self.write("firewall", (ROOT / "usr/lib/provision/firewall").read_text())

    def write(self, name: str, text: str) -> None:
        """One of its files, with the paths of this place."""
        for there in ("/etc/provision/boot-servers.nft", "/usr/lib/provision/guard.nft", "/etc/nftables.conf"):
            text = text.replace(there, str(self.directory / there.rpartition("/")[2]))
        (self.directory / name).write_text(text)

    def run(self, word: str, check: bool = True) -> str:
        done = subprocess.run(
            ["dash", self.directory / "firewall", word], capture_output=True, text=True, check=check, timeout=30
        )
        return done.stdout


@contextmanager
def server() -> Iterator[list[str]]:
    """The server's boot ports, which give the seed to any client; a list of the clients."""
    came: list[str] = []
    tcp = socket.create_server((SERVER, 80))
    udp = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    for sock, port in zip(udp, (69, 20007), strict=True):
        sock.bind((SERVER, port))

    def accept() -> None:
        while True:
            try:
                connection, (address, _) = tcp.accept()
            except OSError:
                return
            with connection:
                connection.recv(10)
                came.append(address)
                connection.sendall(b"seed")

    def receive(sock: socket.socket) -> None:
        while True:
            data, (address, port) = sock.recvfrom(100)
            if data == b"end":
                return
            came.append(address)
            sock.sendto(b"seed", (address, port))

    threads = [threading.Thread(target=accept), *(threading.Thread(target=receive, args=(s,)) for s in udp)]
    for thread in threads:
        thread.start()
    try:
        yield came
    finally:
        tcp.shutdown(socket.SHUT_RDWR)
        for sock in udp:
            sock.sendto(b"end", sock.getsockname())
        for thread in threads:
            thread.join()
        for sock in (tcp, *udp):
            sock.close()


PORTS = (("tcp", 80), ("udp", 69), ("udp", 20007))


@contextmanager
def in_thread_of(pid: int) -> Iterator[None]:
    """The calling thread in another process's network namespace."""
    with Path("/proc/thread-self/ns/net").open() as here, Path(f"/proc/{pid}/ns/net").open() as there:
        assert _libc.setns(there.fileno(), _CLONE_NEWNET) == 0
        try:
            yield
        finally:
            _libc.setns(here.fileno(), _CLONE_NEWNET)


def everybody() -> dict[tuple[str, int, str], str]:
    return {(kind, port, who): call(kind, port, *ids) for kind, port in PORTS for who, ids in CALLERS.items()}


@isolated
def test_only_the_images_own_programs_reach_the_boot_ports(tmp_path: Path) -> None:
    with lan("eth1", f"{SERVER}/24", f"{HOST}/24") as host, server() as came, in_thread_of(host.pid):
        assert set(everybody().values()) == {"seed"}, "without the rules everybody gets it"
        came.clear()
        rules = Filter(tmp_path)
        rules.run("load")
        assert "seed" not in everybody().values() and came == []
        for kind, port in PORTS:
            assert call(kind, port, 0, AGENTS) == "seed"


@isolated
def test_the_guard_outlives_what_a_site_does_to_the_packet_filter(tmp_path: Path) -> None:
    with lan("eth1", f"{SERVER}/24", f"{HOST}/24") as host, server() as came, in_thread_of(host.pid):
        rules = Filter(tmp_path)
        for text in (
            "flush ruleset\n",
            "flush ruleset\ntable inet site { chain out { type filter hook output priority -400; accept; }; }\n",
            "flush ruleset\ntable inet site { chain out { type filter hook output priority 400; accept; }; }\n",
            "table ip site { chain o { type nat hook output priority -100; tcp dport 8080 dnat to 192.0.2.1:80; }; }\n",
            "this is no rule\n",
        ):
            rules.write("nftables.conf", text)
            rules.run("load", check=False)
            rules.run("load", check=False)
            assert "seed" not in everybody().values(), text
            assert call("tcp", 8080, 65534, 65534) != "seed"
            assert call("tcp", 80, 0, AGENTS) == "seed"
        assert set(came) == {HOST} and len(came) == 5
        sh("nft flush ruleset")
        assert "were gone" in rules.run("check")
        assert rules.run("check") == ""
        rules.run("guard")
        assert "seed" not in everybody().values()


@isolated
def test_guests_behind_the_hosts_nat_are_kept_off(tmp_path: Path) -> None:
    with lan("eth1", f"{SERVER}/24", f"{HOST}/24") as host, server() as came, peer() as guest:
        with in_thread_of(host.pid):
            sh(
                f"""
                ip link add virbr0 type veth peer name eth0 netns {guest.pid}
                ip addr add 10.66.0.1/24 dev virbr0; ip link set virbr0 up
                echo 1 >/proc/sys/net/ipv4/ip_forward
                nft add table ip libvirt
                nft add chain ip libvirt post '{{ type nat hook postrouting priority srcnat; }}'
                nft add rule ip libvirt post ip saddr 10.66.0.0/24 masquerade
                nft add chain ip libvirt pre '{{ type nat hook prerouting priority dstnat; }}'
                nft add rule ip libvirt pre ip daddr 10.66.0.1 tcp dport 8080 dnat to {SERVER}:80
                """
            )
        guest.sh("ip addr add 10.66.0.2/24 dev eth0; ip link set eth0 up; ip route add default via 10.66.0.1")
        ways = [(kind, port, SERVER) for kind, port in PORTS] + [("tcp", 8080, "10.66.0.1")]

        def tries() -> set[str]:
            inside = tuple(guest.argv())
            return {call(k, p, u, AGENTS, a, inside) for k, p, a in ways for u in (0, 65534)}

        assert tries() == {"seed"}, "without the rules a guest gets it"
        came.clear()
        with in_thread_of(host.pid):
            rules = Filter(tmp_path)
            rules.write(
                "nftables.conf", "table inet site { chain f { type filter hook forward priority -1; accept; }; }\n"
            )
            rules.run("load")
        assert "seed" not in tries() and came == []
        assert "1 received" in guest.sh(f"ping -c 1 -W 2 {SERVER}"), "everything else goes its way"


def guest_asks(ids: tuple[int, int], came: list[str], most: float) -> str:
    """Start a guest whose firmware fetches the seed through QEMU's user-mode network, until it came to the server or
    has given up; its console."""
    argv = ["setpriv", f"--reuid={ids[0]}", f"--regid={ids[1]}", "--clear-groups"]
    argv += ["qemu-system-x86_64", "-accel", "tcg", "-machine", "q35,graphics=off", "-m", "128", "-nodefaults"]
    argv += [
        "-display",
        "none",
        "-serial",
        "stdio",
        "-no-reboot",
        "-device",
        "virtio-net-pci,netdev=n,bootindex=1",
    ]
    argv += ["-netdev", f"user,id=n,bootfile=http://{SERVER}/boot/seed/current/seed.cpio"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL) as qemu:
        assert qemu.stdout is not None
        console, deadline = b"", time.monotonic() + most
        os.set_blocking(qemu.stdout.fileno(), False)
        # Asked in vain, it names the reason with a page of ipxe.org.
        while not came and time.monotonic() < deadline and b"ipxe.org/" not in console.partition(b"seed.cpio")[2]:
            console += qemu.stdout.read() or b""
            time.sleep(0.1)
        qemu.kill()
        return console.decode(errors="replace")


@isolated
def test_user_mode_guests_are_kept_off(tmp_path: Path) -> None:
    with lan("eth1", f"{SERVER}/24", f"{HOST}/24") as host, server() as came, in_thread_of(host.pid):
        guest_asks((0, 0), came, 120)
        assert came == [HOST], "without the rules a guest gets there"
        came.clear()
        Filter(tmp_path).run("load")
        for who in ("root", "nobody", "libvirt-qemu"):
            console = guest_asks(CALLERS[who], came, 120)
            assert "seed.cpio" in console, f"{who}'s guest has not asked: {console[-1000:]}"
            assert came == [], who


def test_the_group_is_the_images() -> None:
    recipe = yaml.safe_load((ROOT.parent / "recipe.yaml").read_text())
    assert recipe["groups"]["provision"] == AGENTS
    guard = (ROOT / "usr/lib/provision/guard.nft").read_text()
    assert re.search(rf"^define agents = {AGENTS}$", guard, re.MULTILINE)
    for unit in ("provision-phone-home.service", "provision-alive.service"):
        assert "\nGroup=provision\n" in (ROOT / "etc/systemd/system" / unit).read_text()
