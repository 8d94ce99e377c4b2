"""LANs that carry and separate, and nothing left behind."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from provision.errors import Unavailable
from provision.lab.lans import Lab, inside, sweep

SECRET = b"canary-" + bytes(range(40))


def namespaces() -> list[str]:
    return [p.name for p in Path("/run/netns").glob("pvlab-*")] if Path("/run/netns").exists() else []


def runs(pid: int) -> bool:
    """Whether a process runs; one that has ended may still wait for a lazy init to take note."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end, "it did not come true within 5 s"
        time.sleep(0.02)


def udp(namespace: str, address: str) -> socket.socket:
    with inside(namespace):
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.settimeout(2)
        made.bind((address, 0))
    return made


@pytest.mark.integration
def test_a_lan_carries_frames_and_the_next_one_does_not(lab: Lab) -> None:
    mgmt, guest = lab.lan("mgmt", "10.77.1.0/24"), lab.lan("guest", "10.77.2.5/24")
    assert (mgmt.address, guest.address) == (IPv4Address("10.77.1.1"), IPv4Address("10.77.2.5"))
    near = mgmt.host("near", "10.77.1.9/24", mac="52:54:00:00:00:99")
    with (
        mgmt.capture() as here,
        guest.capture() as there,
        udp(lab.server, "10.77.1.1") as server,
        udp(near, "10.77.1.9") as client,
    ):
        client.sendto(SECRET, server.getsockname())
        assert server.recvfrom(100) == (SECRET, client.getsockname())
    assert here.contains(SECRET) and not there.contains(SECRET)
    assert there.frames() == []
    assert any(frame[6:12] == bytes.fromhex("525400000099") for frame in here.frames())


@pytest.mark.integration
def test_dnsmasq_serves_a_lan(lab: Lab) -> None:
    mgmt = lab.lan("mgmt", "10.77.1.0/24")
    host = mgmt.host("client", mac="52:54:00:00:00:98")
    server = lab.dnsmasq("port=0\ninterface=mgmt\ndhcp-range=10.77.1.100,10.77.1.110,1h\n")
    argv = ["busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-s", "/bin/true"]
    client = lab.spawn(host, argv, package="busybox-static")
    client.wait_for(r"lease of 10\.77\.1\.1\d\d obtained", 15)
    assert "DHCPACK(mgmt)" in server.text


@pytest.mark.integration
def test_everything_is_gone_afterwards_also_after_an_error(tmp_path: Path) -> None:
    def own() -> set[str]:
        return {name for name in namespaces() if name.startswith(f"pvlab-{os.getpid()}-")}

    before = own()
    with pytest.raises(RuntimeError), Lab("e", tmp_path) as lab:
        process = lab.spawn(lab.lan("mgmt", "10.77.1.0/24").namespace, ["sleep", "1000"], package="coreutils")
        pid = process.pid
        assert len(own() - before) == 2
        raise RuntimeError("the test of the user failed")
    assert own() - before == set()
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.integration
def test_a_killed_laboratory_leaves_no_process_and_is_swept_by_the_next() -> None:
    code = (
        "from provision.lab.lans import Lab\nimport time\n"
        "with Lab('k') as lab:\n p = lab.spawn(lab.server, ['sleep', '1000'])\n"
        " print(p.pid, lab.directory, flush=True)\n"
        " time.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    pid, directory = child.stdout.readline().split()
    sleeper = int(pid)
    wait_until(lambda: Path(f"/proc/{sleeper}/comm").read_text() == "sleep\n")
    child.send_signal(signal.SIGKILL)
    child.wait()
    left = f"pvlab-{child.pid}-k-server"
    assert left in namespaces() and Path(directory).is_dir()
    wait_until(lambda: not runs(sleeper))
    assert left in sweep()
    assert left not in namespaces() and not Path(directory).exists()


def test_a_laboratory_without_root_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Unavailable, match="need root; run the same command with sudo"), Lab("n"):
        pass


def frame(protocol: int, body: bytes, *, vlan: bool = False, fragment: int = 0) -> bytes:
    tag = b"\x81\x00\x00\x07" if vlan else b""
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 7, fragment, 64, protocol, 0)
    return bytes(12) + tag + b"\x08\x00" + header + bytes([10, 0, 0, 1, 10, 0, 0, 2]) + body
