"""Captures: a sysfs, a copy of it, an archive of it and what a host prints are the same; nothing private is in them."""

from __future__ import annotations

import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from provision import assets
from provision.errors import Invalid, NotFound, Problems
from provision.image import capture
from provision.image.capture import Capture, Device
from tests.helpers.paths import FIXTURES

SCRIPT = assets.directory("images") / "host" / "root" / "usr" / "lib" / "provision" / "capture-platform"
Q35 = FIXTURES / "q35.capture"
GUID = "f8615163-df3e-46c5-913f-f2d2f965ed0e"
NIC = "pci:v00008086d000010D3sv00001AF4sd00000000bc02sc00i00"


def sysfs(top: Path) -> Path:
    """A small sysfs: a NIC with its driver, a Hyper-V device whose path has an id, a device that says nothing."""
    sys = top / "sys"
    for path, alias in {
        "pci0000:00/0000:00:02.0": NIC,
        "LNXSYSTM:00/VMBUS:00/000d3a1b-2c3d-000d-3a1b-2c3d000d3a1b": f"vmbus:{GUID.replace('-', '')}",
        "platform/52:54:00:12:34:56": "platform:odd",
        "virtual/net/eth0": "",
    }.items():
        (sys / "devices" / path).mkdir(parents=True)
        (sys / "devices" / path / "modalias").write_text(f"{alias}\n" if alias else "")
    driver = sys / "bus/pci/drivers/e1000e"
    driver.mkdir(parents=True)
    (sys / "devices/pci0000:00/0000:00:02.0/driver").symlink_to(Path("../../../bus/pci/drivers/e1000e"))
    # A link that leads in a circle, as /sys has many.
    (sys / "devices/pci0000:00/0000:00:02.0/subsystem").symlink_to(sys / "devices")
    dmi = sys / "devices/virtual/dmi/id"
    dmi.mkdir(parents=True)
    for name, text in {"sys_vendor": "Maker", "product_name": "Model 7", "product_serial": "S3CRET"}.items():
        (dmi / name).write_text(f"{text}\n")
    return sys


EXPECTED = Capture(
    (
        Device("devices/LNXSYSTM:00/VMBUS:00/*", f"vmbus:{GUID.replace('-', '')}"),
        Device("devices/pci0000:00/0000:00:02.0", NIC, "e1000e"),
        Device("devices/platform/*", "platform:odd"),
    ),
    {"sys_vendor": "Maker", "product_name": "Model 7"},
)


def test_every_source_gives_the_same(tmp_path: Path) -> None:
    sys = sysfs(tmp_path)
    assert capture.read(sys) == EXPECTED
    assert capture.read(tmp_path) == EXPECTED, "the directory above sys/ will do"
    argv = ["sh", str(SCRIPT), str(sys)]
    printed = subprocess.run(argv, capture_output=True, check=True, timeout=30)
    assert printed.stderr == b""
    (tmp_path / "host.capture").write_bytes(printed.stdout)
    assert capture.read(tmp_path / "host.capture") == EXPECTED
    with tarfile.open(tmp_path / "sys.tar.gz", "w:gz") as archive:
        archive.add(sys, "copy/sys")
    assert capture.read(tmp_path / "sys.tar.gz") == EXPECTED
    assert capture.parse(EXPECTED.text().encode(), "again") == EXPECTED


def test_nothing_private_is_in_it(tmp_path: Path) -> None:
    sys = sysfs(tmp_path)
    printed = subprocess.run(["sh", str(SCRIPT), str(sys)], capture_output=True, check=True, text=True).stdout
    for text in (printed, capture.read(sys).text()):
        for private in ("S3CRET", "2c3d", "52:54:00"):
            assert private not in text
    # Also when somebody wrote one by other means.
    by_hand = f"{capture.HEAD}\ndevice\t\tusb:v1\tdevices/a/{GUID}/52-54-00-12-34-56/0x500a0981a0b1c2d3/1-1\n"
    [device] = capture.parse(by_hand.encode(), "x").devices
    assert device.path == "devices/a/*/*/*/1-1" and device.address == "1-1"


def test_a_live_sysfs_fills_archives_with_zeros(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "s.tar", "w") as archive:
        member = tarfile.TarInfo("sys/devices/x/modalias")
        member.size = 4096
        archive.addfile(member, BytesIO(b"pci:v1\n".ljust(4096, b"\0")))
    assert capture.read(tmp_path / "s.tar").devices == (Device("devices/x", "pci:v1"),)


def test_what_is_no_capture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="gone: cannot be read"):
        capture.read(tmp_path / "gone")
    with pytest.raises(Invalid, match="has no device with a modalias"):
        capture.read(tmp_path)
    (tmp_path / "text").write_text("hello\n")
    with pytest.raises(Invalid, match="is not a capture, a directory or a tar archive"):
        capture.read(tmp_path / "text")
    with pytest.raises(Problems) as raised:
        capture.parse(f"{capture.HEAD}\ndevice\tx\ndevice\t\ta\tb\ndmi\tproduct_uuid\t1\n".encode(), "c")
    assert [(p.line, p.fact) for p in raised.value.problems] == [
        (2, "is not a line of a capture"),
        (4, "is not a line of a capture"),
    ]
    with pytest.raises(Invalid, match="does not begin with 'provision-capture 1'"):
        capture.parse(b"provision-capture 11\n", "c")


def test_a_real_capture() -> None:
    found = capture.read(Q35)
    assert found.dmi["sys_vendor"] == "QEMU" and len(found.devices) > 70
    assert found.text() == capture.parse(found.text().encode(), "x").text()
