"""The host image by each way that it can come: over TFTP with Secure Boot, by HTTP Boot, from its ISO and its disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.demo.lab import Lab
from provision.demo.show import wait_up
from provision.demo.site import MAC, MANAGEMENT, PRINCIPAL, DemoSite
from provision.demo.vm import VM, Device, Firmware, Machine, Nic
from provision.image.build import Request, build

SETTINGS = '[[listen]]\nnetwork = "mgmt"\ninterface = "mgmt"\n'


class HostSite(DemoSite):
    """A site whose one host boots the host image."""

    def __init__(self, lab: Lab) -> None:
        self.mgmt = lab.lan("mgmt", MANAGEMENT)
        super().__init__(lab, settings=SETTINGS)
        self.fill(build(Request()))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostSite]:
    with Lab("host", tmp_path_factory.mktemp("host")) as lab:
        site = HostSite(lab)
        site.serve()
        site.dhcp()
        yield site


def medium_of(site: DemoSite, kind: str) -> Path:
    path = site.lab.directory / f"node1.{kind}"
    site.call(kind, "node1", "-o", path)
    return path


@pytest.mark.parametrize(
    ("medium", "firmware"),
    [
        ("pxe", Firmware.SECURE_BOOT),
        ("http-boot", Firmware.UEFI),
        ("iso", Firmware.BIOS),
        ("disk", Firmware.SECURE_BOOT),
    ],
)
def test_the_host_image_becomes_node1(site: HostSite, medium: str, firmware: Firmware) -> None:
    nics = (Nic(site.mgmt, MAC),)
    name = f"{medium}-{firmware}"
    if medium in ("iso", "disk"):
        file = medium_of(site, medium)
        device = Device.CD if medium == "iso" else Device.DISK
        slot = {"cd": file} if medium == "iso" else {"disk": file}
        machine = Machine(name, firmware, nics, (device,), 640, **slot)  # type: ignore[arg-type]
    else:
        site.call("window", "node1", "--minutes", "15", "--boots", "1")
        machine = Machine(name, firmware, nics, (Device.NETWORK,), 768, http_boot=medium == "http-boot")
    with VM(site.lab, machine) as vm:
        vm.wait_for(r"^ +system +running$", 400)
        assert f"{PRINCIPAL}, SHA-256 {site.fingerprints['keytab'][:16]}" in vm.console
        wait_up(site, medium)
