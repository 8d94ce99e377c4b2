"""Disks are found by what the inventory calls them, in the sysfs of Linux 6.1 as it was seen on machines."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.initramfs import SCRIPTS, run

VIRTIO = "pci0000:00/0000:00:04.0/virtio1/block/vda"
NVME = "pci0000:00/0000:00:05.0/nvme/nvme0/nvme0n1"
SATA = "pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/block/sda"
SCSI = "pci0000:00/0000:00:06.0/virtio2/host6/target6:0:0/6:0:0:1/block/sdb"
USB = "pci0000:00/0000:00:14.0/usb1/1-1/1-1:1.0/host7/target7:0:0/7:0:0:0/block/sdc"
CD = "pci0000:00/0000:00:1f.2/ata2/host1/target1:0:0/1:0:0:0/block/sr0"
GIB = 2**21


def pg80(serial: str) -> bytes:
    """Page 80h of SCSI's vital product data: four bytes, and the serial number with spaces before it."""
    return bytes((0, 0x80, 0, 20)) + serial.rjust(20).encode()


class Sysfs:
    """A tree that stands for /sys."""

    def __init__(self, top: Path) -> None:
        self.top = top
        (top / "sys/block").mkdir(parents=True)

    def add(self, path: str, size: int, **files: str | bytes) -> None:
        """A disk at this path of /sys/devices, and what its files hold; `device_` stands for device/."""
        place = self.top / "sys/devices" / path
        device = place.parent if "/block/" not in path else place.parents[1]
        place.mkdir(parents=True)
        (place / "device").symlink_to(device)
        for name, content in {"size": str(size), "ro": "0", "removable": "0", **files}.items():
            target = place / name.replace("device_", "device/")
            target.write_bytes(content if isinstance(content, bytes) else f"{content}\n".encode())
        (self.top / "sys/block" / place.name).symlink_to(place)

    def sh(self, commands: str) -> str:
        return run(self.top, f"sys={self.top}/sys; . {SCRIPTS}/disks; {commands}").strip()


@pytest.fixture
def sysfs(tmp_path: Path) -> Sysfs:
    found = Sysfs(tmp_path)
    found.add(VIRTIO, 40 * GIB, serial="boot-7")
    found.add(NVME, 100 * GIB, device_serial="S4EVNX0R12345       ", wwid="nvme.8086-5333")
    found.add(SATA, 200 * GIB, device_vpd_pg80=pg80("WD-1234"), device_wwid="naa.5000c500a1b2c3d4", device_type="0")
    found.add(SCSI, 40 * GIB, device_vpd_pg80=pg80("LUN9"), device_wwid="naa.6000", device_type="0")
    found.add(USB, 8 * GIB, device_type="0", device_vpd_pg80=b"")
    usb = tmp_path / "sys/devices/pci0000:00/0000:00:14.0/usb1/1-1"
    (usb / "idVendor").write_text("0951\n")
    (usb / "serial").write_text("60A44C41\n")
    found.add(CD, GIB, device_type="5")
    return found


def test_cds_are_no_disks_nor_is_what_is_empty_or_cannot_be_written(sysfs: Sysfs) -> None:
    sysfs.add("pci0000:00/0000:00:14.0/usb1/1-2/host8/target8:0:0/8:0:0:0/block/sdd", 0, device_type="0")
    sysfs.add("pci0000:00/0000:00:07.0/virtio3/block/vdb", GIB, ro="1")
    assert sysfs.sh("disks").split() == ["vda", "nvme0n1", "sdb", "sdc", "sda"]


@pytest.mark.parametrize(
    ("way", "value", "disk"),
    [
        ("serial", "boot-7", "vda"),
        ("serial", "S4EVNX0R12345", "nvme0n1"),
        ("serial", "WD-1234", "sda"),
        ("serial", "LUN9", "sdb"),
        ("serial", "60A44C41", "sdc"),
        ("serial", "WD-123", ""),
        ("wwn", "nvme.8086-5333", "nvme0n1"),
        ("wwn", "naa.5000c500a1b2c3d4", "sda"),
        ("wwn", "naa.6000", "sdb"),
        ("path", "pci0000:00/0000:00:04.0", "vda"),
        ("path", "pci0000:00/0000:00:05.0", "nvme0n1"),
        ("path", "pci0000:00/0000:00:1f.2/ata1", "sda"),
        ("path", "pci0000:00/0000:00:1f.2/ata", ""),
        ("smallest", "true", "vda"),
        ("largest", "true", "sda"),
    ],
)
def test_a_disk_is_found_by_what_the_inventory_says(sysfs: Sysfs, way: str, value: str, disk: str) -> None:
    assert sysfs.sh(f"disks_meant {way} '{value}'") == disk


def test_what_fits_several_names_them_all(sysfs: Sysfs) -> None:
    sysfs.add("pci0000:00/0000:00:07.0/virtio3/block/vdb", GIB, serial="boot-7")
    assert sysfs.sh("disks_meant serial boot-7").split() == ["vda", "vdb"]


def test_what_can_be_taken_out_is_not_the_smallest(sysfs: Sysfs) -> None:
    assert sysfs.sh("for d in $(disks); do disk_is_removable $d && echo $d; done; :") == "sdc"


def test_a_controller_without_a_driver_keeps_no_disk_from_being_found(sysfs: Sysfs) -> None:
    load = "chroot() { return 1; }; load_disk_drivers && echo some || echo none"
    assert sysfs.sh(load) == "none", "there is no controller"
    controller = sysfs.top / "sys/bus/pci/devices/0000:00:04.0"
    controller.mkdir(parents=True)
    (controller / "modalias").write_text("pci:v00001AF4d00001042sv00001AF4sd00001100bc01sc00i00\n")
    assert sysfs.sh(load) == "some"
