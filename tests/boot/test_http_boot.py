"""UEFI HTTP Boot: the firmware itself loads the host's ISO over HTTP and starts it as a RAM disk."""

from __future__ import annotations

import pytest

from tests.boot import boots
from tests.boot.site import MEMBERS, BootSite


@pytest.mark.parametrize(("name", "firmware"), [("dhcp-http-uefi", "uefi"), ("static-http-secure", "secure")])
def test_a_host_boots_its_iso_from_the_server(site: BootSite, name: str, firmware: str) -> None:
    boots.from_network(site, MEMBERS[name], firmware, "http-boot", memory=1024)
