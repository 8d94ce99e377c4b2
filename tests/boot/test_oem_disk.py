"""A batch of OEM disk images for a factory."""

from __future__ import annotations

import hashlib
import json

from provision.lab.vm import Device, Firmware
from tests.boot import boots
from tests.boot.site import MEMBERS, BootSite


def test_a_host_of_a_batch_on_dhcp(site: BootSite) -> None:
    out = site.lab.directory / "batch"
    site.call("disk", "--selector", "batch=factory", "--out", out)
    rows = {row["host"]: row for row in json.loads((out / "manifest.json").read_text())["hosts"]}
    assert set(rows) == {"edge0", "edge1", "edge2"}
    member = MEMBERS["edge1"]
    file = out / rows[member.name]["file"]
    assert hashlib.sha256(file.read_bytes()).hexdigest() == rows[member.name]["sha256"]
    boots.from_medium(boots.Booting(site, member, Firmware.UEFI), Device.DISK, file)
