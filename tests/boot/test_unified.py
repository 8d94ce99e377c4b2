"""Signed unified images on a general LAN: firmware in setup mode takes the site's certificate from a medium, then it
starts the site's image by HTTP Boot under Secure Boot and no other, and the host takes its own seed and no other."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from provision.demo.site import DemoSite
from provision.image.build import Image
from provision.lab.lans import Lab
from provision.lab.vm import VM, Device, Firmware, Machine, Nic
from provision.media import pe_signature, unified
from provision.media.library import Library
from provision.media.unified import UnifiedImages
from tests.boot.boots import TIMEOUT
from tests.helpers.images import host_image
from tests.unit.media.test_pe_signature import pair

# An emulated machine may be too slow to prove that its timer ticks, and one that says nothing for long is given up.
INVENTORY = """\
site:
  domain: lab.example
  base: host
  kernel_arguments: [no_timer_check, loglevel=7]
  networks:
    office: {role: general, prefix: 10.77.2.0/24, gateway: 10.77.2.1}
hosts:
  node1:
    chain: uki
    interfaces:
      office: {mac: "52:54:00:77:00:01", network: office, addressing: static, ipv4: 10.77.2.21}
"""
SETTINGS = '[[listen]]\nnetwork = "office"\ninterface = "office"\n'
MAC = "52:54:00:77:00:01"
REFUSED = r"Access Denied|Security Violation"
SETUP_MODE = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")


class Office(DemoSite):
    """A server on a general LAN, with the host image, signed; somebody else's DHCP names its HTTP Boot URL."""

    def __init__(self, lab: Lab, image: Image) -> None:
        self.lan = lab.lan("office", "10.77.2.0/24")
        super().__init__(lab, INVENTORY, SETTINGS)
        files = ("--kernel", image.kernel, "--initrd", image.initrd, "--cmdline", " ".join(image.kernel_arguments))
        self.call("image", "import", "host", *files)
        self.call("apply", self.inventory)
        self.service = self.serve()
        self.call("sb", "init")
        self.call("sb", "sign", "host")
        lab.dnsmasq(
            f"port=0\nbind-interfaces\ninterface=office\nexcept-interface=lo\n"
            f"dhcp-range={self.lan.prefix[100]},{self.lan.prefix[199]},5m\ndhcp-match=set:http,option:client-arch,16\n"
            "dhcp-option-force=tag:http,60,HTTPClient\n"
            f'dhcp-boot=tag:http,"http://{self.lan.address}/http-boot/boot.efi"\n'
        )
        self.variables = self._enrolled()

    def _enrolled(self) -> Path:
        """The variables of a firmware that has taken the site's certificate: its setup mode ends by that."""
        medium = self.lab.directory / "enrol.img"
        self.call("sb", "enrol-image", "-o", medium)
        machine = Machine("enrol", Firmware.SECURE_BOOT, (), (Device.DISK,), 512, disk=medium)
        with self._vm(machine, SETUP_MODE) as vm:
            vm.wait_for(r"Enrolling secure boot keys from directory: \\loader\\keys\\auto", TIMEOUT)
            vm.wait_off(TIMEOUT)
        return vm.directory / "variables.fd"

    def machine(self, name: str) -> Machine:
        """A machine that boots from this LAN."""
        nics = (Nic(self.lan, MAC),)
        return Machine(name, Firmware.SECURE_BOOT, nics, (Device.NETWORK,), 1024, http_boot=True)

    @contextmanager
    def booting(self, name: str) -> Iterator[VM]:
        """The machine, its firmware enrolled, switched on."""
        with self._vm(self.machine(name), self.variables) as vm:
            yield vm

    def _vm(self, machine: Machine, variables: Path) -> VM:
        vm = VM(self.lab, machine)
        vm.directory.mkdir()
        shutil.copyfile(variables, vm.directory / "variables.fd")
        return vm


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with Lab("office", tmp_path_factory.mktemp("office")) as lab:
        yield Office(lab, host_image())


def test_a_host_comes_up_by_the_signed_image_without_a_window(office: Office) -> None:
    with office.booting("signed") as vm:
        vm.wait_for(r"^    system       (running|degraded)", TIMEOUT)
    assert "    node1\n" in vm.console and "10.77.2.21/24" in vm.console
    assert "complete, revision" in vm.console and "provision-seed:" not in vm.console
    released = [e for e in office.json("audit", "--host", "node1") if e.get("answer") == "released"]
    assert "no_timer_check" in office.json("sb", "list")[0]["command_line"]
    assert {(e["medium"], e["channel"]) for e in released} == {("http-boot", "general:office")}


def test_firmware_starts_no_image_that_the_site_has_not_signed(office: Office) -> None:
    images, (base,) = UnifiedImages(office.state), Library(office.state).list()
    signed = images.get(base.id)
    assert signed is not None
    own = signed.file.path.read_bytes()
    bare = unified.build(base, b"", ("quiet",))
    key, certificate = pair("Another site")
    foreign = pe_signature.attach(bare, certificate, pe_signature.sign(key, pe_signature.request(bare, "u")), "u")
    try:
        for name, image in (("unsigned", bare), ("foreign", foreign)):
            images.put(base.id, image, signed.certificate, signed.site, signed.command_line)
            with office.booting(name) as vm:
                vm.wait_for(REFUSED, TIMEOUT)
    finally:
        images.put(base.id, own, signed.certificate, signed.site, signed.command_line)


def test_a_host_takes_no_seed_that_another_key_has_signed(office: Office) -> None:
    """The image that it boots knows the first key only."""
    first = next(row["number"] for row in office.json("site-key", "list") if row["use"] == "signing")
    office.call("site-key", "roll", "signing")
    office.call("site-key", "retire", str(first))
    with office.booting("stranger") as vm:
        vm.wait_for(rf"^provision-seed: http://{office.lan.address}: the seed is not signed by this site", TIMEOUT)
