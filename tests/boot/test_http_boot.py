"""UEFI HTTPS Boot by firmware that does not know the site's CA. What boots is in the boot matrix."""

from __future__ import annotations

from provision.lab.vm import VM, Device, Firmware, Machine
from provision.tls.authority import Kind
from provision.tls.trusted import Form, encoded
from tests.boot import boots
from tests.boot.site import MEMBERS, BootSite
from tests.helpers.certificates import root

NOT_FOUND = r"Could not retrieve NBP file size from HTTP server"
"""What OVMF says when the handshake fails, too."""


def test_a_firmware_that_trusts_another_ca_asks_nothing(site: BootSite) -> None:
    member, others = MEMBERS["by-https-boot"], site.lab.directory / "other.esl"
    others.write_bytes(encoded(root(Kind.FIRMWARE).certificate, Form.EFI))
    made = site.json("link", member.name, "--medium", "iso", "--address", member.ipv4)
    nics = member.nics(site.mgmt)
    machine = Machine(
        "misled", Firmware.SECURE_BOOT, nics, (Device.NETWORK,), 1024, uuid=member.uuid, http_boot=True, trusted=others
    )
    with site.http_boot_from(made["urls"][0]), VM(site.lab, machine) as vm:
        vm.wait_for(NOT_FOUND, boots.TIMEOUT)
    (row,) = [row for row in site.json("link", "list") if row["id"] == made["id"]]
    assert row["used"] == 0
