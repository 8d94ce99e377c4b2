"""UEFI PXE: shim, then signed GRUB, which takes a configuration made for its host, and all else, over our TFTP."""

from __future__ import annotations

import pytest

from tests.boot import boots
from tests.boot.site import MEMBERS, BootSite


@pytest.mark.parametrize(
    ("name", "firmware"),
    [
        ("dhcp-pxe-uefi", "uefi"),
        ("static-pxe-uefi", "uefi"),
        ("dhcp-pxe-secure", "secure"),
        ("static-pxe-secure", "secure"),
    ],
)
def test_a_host_boots_with_its_own_identity(site: BootSite, name: str, firmware: str) -> None:
    boots.from_network(site, MEMBERS[name], firmware)
