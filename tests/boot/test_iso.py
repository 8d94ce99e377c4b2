"""The per-host ISO as a CD and as a USB stick, in BIOS and UEFI firmware."""

from __future__ import annotations

import pytest

from provision.lab.vm import Device
from tests.boot import boots
from tests.boot.site import MEMBERS, BootSite, write_medium


@pytest.mark.parametrize("device", [Device.CD, Device.USB])
@pytest.mark.parametrize("firmware", ["bios", "uefi", "secure"])
def test_one_file_boots_as_cd_and_as_stick(site: BootSite, firmware: str, device: Device) -> None:
    member = MEMBERS["static-iso"]
    boots.from_medium(site, member, firmware, device, write_medium(site, "iso", member))


def test_a_host_on_dhcp_boots_from_its_cd(site: BootSite) -> None:
    member = MEMBERS["dhcp-iso"]
    file = write_medium(site, "iso", member)
    assert file.stat().st_mode & 0o777 == 0o600, "it carries secrets"
    boots.from_medium(site, member, "bios", Device.CD, file)
