"""The OEM preinstall disk image, in BIOS, UEFI and UEFI with Secure Boot, and a batch for a factory."""

from __future__ import annotations

import hashlib
import json

import pytest

from provision.lab.vm import Device
from tests.boot import boots
from tests.boot.site import MEMBERS, BootSite, write_medium


@pytest.mark.parametrize("firmware", ["bios", "uefi", "secure"])
def test_one_file_boots_in_every_firmware(site: BootSite, firmware: str) -> None:
    member = MEMBERS["static-disk"]
    boots.from_medium(site, member, firmware, Device.DISK, write_medium(site, "disk", member))


def test_a_host_of_a_batch_on_dhcp(site: BootSite) -> None:
    out = site.lab.directory / "batch"
    site.call("disk", "--selector", "batch=factory", "--out", out)
    rows = {row["host"]: row for row in json.loads((out / "manifest.json").read_text())["hosts"]}
    assert set(rows) == {"edge0", "edge1", "edge2"}
    member = MEMBERS["edge1"]
    file = out / rows[member.name]["file"]
    assert hashlib.sha256(file.read_bytes()).hexdigest() == rows[member.name]["sha256"]
    boots.from_medium(site, member, "uefi", Device.DISK, file)
