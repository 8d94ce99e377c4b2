"""BIOS PXE: lpxelinux takes its configuration, kernel, initrds and the host's seed over HTTP."""

from __future__ import annotations

import pytest

from tests.boot import boots
from tests.boot.site import MEMBERS, BootSite


@pytest.mark.parametrize("name", ["dhcp-pxe-bios", "static-pxe-bios"])
def test_a_host_boots_with_its_own_identity(site: BootSite, name: str) -> None:
    member = MEMBERS[name]
    report = boots.from_network(site, member, "bios")
    mac = member.macs[0].replace(":", "-")
    assert f"BOOTIF=01-{mac}" in report["cmdline"].split()
