"""UEFI HTTP Boot: the firmware itself loads the host's ISO over HTTP or HTTPS and starts it as a RAM disk."""

from __future__ import annotations

from dataclasses import replace

import pytest

from provision.lab.vm import VM, Device, Firmware, Machine
from provision.tls.authority import Kind
from provision.tls.trusted import Form, encoded
from tests.boot import boots, expect
from tests.boot.site import API, MEMBERS, BootSite
from tests.boot.wire import Sent
from tests.helpers.certificates import root

NOT_FOUND = r"Could not retrieve NBP file size from HTTP server"
"""What OVMF says when the handshake fails, too."""


@pytest.mark.parametrize(("name", "firmware"), [("dhcp-http-uefi", "uefi"), ("static-http-secure", "secure")])
def test_a_host_boots_its_iso_from_the_server(site: BootSite, name: str, firmware: str) -> None:
    boots.from_network(site, MEMBERS[name], firmware, "http-boot", memory=1024)


def test_a_host_boots_by_a_link_over_tls(site: BootSite) -> None:
    """The firmware knows the site's CA, and takes the medium from where operators are served: no window is open."""
    member, trusted, others = MEMBERS["by-https-boot"], site.lab.directory / "ca.esl", site.lab.directory / "other.esl"
    site.call("ca", "export", "--firmware", "--format", "efi", "-o", trusted)
    others.write_bytes(encoded(root(Kind.FIRMWARE).certificate, Form.EFI))
    made = site.json("link", member.name, "--medium", "iso", "--address", member.ipv4)
    url = made["urls"][0]
    assert url.startswith(f"{API}/b/")
    machine = Machine(
        member.name,
        Firmware.SECURE_BOOT,
        member.nics(site.mgmt),
        (Device.NETWORK,),
        1024,
        uuid=member.uuid,
        http_boot=True,
        trusted=trusted,
    )
    with site.http_boot_from(url), site.mgmt.capture() as capture:
        with VM(site.lab, replace(machine, name=f"{member.name}-misled", trusted=others)) as vm:
            vm.wait_for(NOT_FOUND, boots.TIMEOUT)
        (row,) = [row for row in site.json("link", "list") if row["id"] == made["id"]]
        assert row["used"] == 0, "a firmware that trusts another CA asks nothing"
        with VM(site.lab, machine) as vm:
            report = vm.report(boots.TIMEOUT)
            expect.network(site, member, report)
    expect.firmware(report, "secure")
    assert report["phone-home"] == "ok" and site.status(member)["medium"] == "iso"
    assert report["seed"] and report["hostname"] == member.name
    sent = Sent.over(capture)
    assert sent.found(site.needles(member)) == set()
    released = [e for e in site.audit(member) if e.get("answer") == "released"]
    assert {(e["channel"], e["link"], e["address"]) for e in released} == {("operator", made["id"], member.ipv4)}
