"""The laboratory itself: LANs that carry and separate, captures that find, and nothing left behind."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from provision.errors import Invalid, Unavailable
from provision.lab import capture, disk, router
from provision.lab.lans import Lab, inside, sweep
from provision.lab.processes import WaitFailed, plain
from provision.lab.report import parse
from provision.lab.vm import Device, Firmware, Machine, Nic, qemu_command

SECRET = b"canary-" + bytes(range(40))


def namespaces() -> list[str]:
    return [p.name for p in Path("/run/netns").glob("pvlab-*")] if Path("/run/netns").exists() else []


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab("u", tmp_path / "lab") as lab:
        yield lab


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
def test_a_secret_that_straddles_packets_is_found(lab: Lab) -> None:
    mgmt = lab.lan("mgmt", "10.77.1.0/24")
    near = mgmt.host("near", "10.77.1.9/24")
    with mgmt.capture() as wire, inside(lab.server):
        listener = socket.create_server(("10.77.1.1", 0))
        with inside(near), socket.create_connection(listener.getsockname()) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            server, _ = listener.accept()
            for byte in SECRET:
                server.send(bytes([byte]))
            server.close()
            assert client.makefile("rb").read() == SECRET
        listener.close()
    assert SECRET not in wire.path.read_bytes()
    assert wire.contains(SECRET) and not wire.contains(SECRET + b"!")


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


@pytest.mark.integration
def test_waiting_for_a_process_says_what_it_printed_last(lab: Lab) -> None:
    process = lab.spawn(None, ["sh", "-c", "echo one; echo two; exit 3"], package="dash", log="p.log")
    with pytest.raises(WaitFailed, match="ended without printing 'three'") as failure:
        process.wait_for("three", 5)
    assert failure.value.tail == "one\ntwo"
    assert "\n" not in str(failure.value)


def test_a_laboratory_without_root_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Unavailable, match="need root; run the same command with sudo"), Lab("n"):
        pass


def test_escape_sequences_are_left_out_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(
        b"\x1bc\x1b[2J\x1b[01;01H\x1b[0m\x1b[37m>>Start PXE\r\n"
        b"\x1b(B\x1b[m\x1b]104\x1b\\\x1b]0;a title\x07\xff done\0\r\nCtrl-B\x08\x08 \x08\r\n"
    )
    assert plain(log) == ">>Start PXE\n\ufffd done\nCtrl-B \n"
    assert plain(tmp_path / "none") == ""


def pcap(*frames: bytes) -> bytes:
    records = b"".join(struct.pack("<IIII", 0, 0, len(f), len(f)) + f for f in frames)
    return struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1) + records


def frame(protocol: int, body: bytes, *, vlan: bool = False, fragment: int = 0) -> bytes:
    tag = b"\x81\x00\x00\x07" if vlan else b""
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 7, fragment, 64, protocol, 0)
    return bytes(12) + tag + b"\x08\x00" + header + bytes([10, 0, 0, 1, 10, 0, 0, 2]) + body


def tcp(sequence: int, payload: bytes) -> bytes:
    return struct.pack("!HHIIHHHH", 80, 5000, sequence % 2**32, 0, 5 << 12, 0, 0, 0) + payload


def test_tcp_is_put_in_order_across_repeats_and_the_wrap_of_sequence_numbers() -> None:
    start = 2**32 - 5
    segments = [(0, b"abcde"), (8, b"ijklm"), (0, b"abcde"), (5, b"fgh"), (3, b"defgh")]
    data = pcap(*(frame(6, tcp(start + offset, payload), vlan=offset == 5) for offset, payload in segments))
    assert capture.contains(data, b"abcdefghijklm")
    assert not capture.contains(data, b"abcdeabcde")


def test_tftp_blocks_and_ip_fragments_are_joined() -> None:
    block = [struct.pack("!HHHHHH", 69, 5001, 0, 0, 3, n) + part for n, part in ((1, b"sec"), (2, b"ret"))]
    assert capture.contains(pcap(*(frame(17, b) for b in block)), b"secret")
    whole = struct.pack("!HHHH", 69, 5001, 0, 0) + b"x" * 14 + b"split-here"
    parts = frame(17, whole[:24], fragment=0x2000), frame(17, whole[24:], fragment=3)
    assert capture.contains(pcap(*parts), b"split-here")
    assert capture.contains(pcap(*reversed(parts)), b"split-here")


def test_a_capture_cut_short_is_read_as_far_as_it_goes() -> None:
    assert len(list(capture.frames(pcap(b"a" * 60, b"b" * 60)[:-1]))) == 1
    with pytest.raises(ValueError, match="pcap"):
        list(capture.frames(bytes(40)))


def test_a_report_is_read_and_a_console_without_one_is_refused() -> None:
    text = (
        "noise\nPROVISION-REPORT-BEGIN\nhostname: n\n"
        'addr: [{"ifname": "lo", "addr_info": []}, {"ifname": "e0", "addr_info": ['
        '{"local": "10.0.0.2", "prefixlen": 24, "scope": "global"}, '
        '{"local": "fe80::1", "prefixlen": 64, "scope": "link"}]}]\n'
        "file: 0600 0:0 abcd /etc/a b\nfailed: x\nfailed: y\nPROVISION-REPORT-END\n"
    )
    report = parse(text)
    assert report["hostname"] == "n" and report.addresses == {"e0": ["10.0.0.2/24"]}
    assert report.files["/etc/a b"].mode == "0600" and report.all("failed") == ["x", "y"]
    with pytest.raises(Invalid, match="2 lines 'failed:'"):
        report["failed"]
    with pytest.raises(Invalid, match="no report"):
        parse("PROVISION-REPORT-BEGIN\n")


def test_firmware_tries_devices_in_the_machine_s_order_and_no_others(tmp_path: Path) -> None:
    nic = Nic(None, "52:54:00:00:00:01")
    order = (Device.DISK, Device.NETWORK)
    command = qemu_command(
        Machine("m", Firmware.UEFI, nics=(nic,), order=order, cd=Path("/a,b.iso"), disk=Path("/d")),
        tmp_path,
        [None],
        None,
    )
    devices = [command[i + 1] for i, word in enumerate(command) if word == "-device"]
    assert "virtio-blk-pci,drive=disk,bootindex=1" in devices
    assert "virtio-net-pci,netdev=net0,mac=52:54:00:00:00:01,romfile=,bootindex=11" in devices
    assert "ide-cd,drive=cd,bus=ide.0" in devices
    assert any("file=/a,,b.iso" in word for word in command)


def test_a_boot_record_has_its_text_where_its_code_points() -> None:
    record = disk.boot_record()
    (pointer,) = struct.unpack_from("<H", record, 6)
    assert record[pointer - 0x7C00 :].lstrip(b"\r\n").startswith(disk.TEXT.encode())
    assert len(record) == 512 and record.endswith(b"\x55\xaa") and record[450] == 0xEF


def test_a_router_advertisement_has_a_sound_checksum_and_lifetime_zero() -> None:
    sent = router.advertisement()
    header, body = sent[14:54], sent[54:]
    assert router.checksum(header[8:24], header[24:40], body) == 0
    assert body[0] == 134 and body[6:8] == b"\0\0"
    assert not router.is_solicitation(sent)
    assert router.is_solicitation(sent[:54] + b"\x85" + sent[55:])
