"""Signed unified images on a general LAN: firmware in setup mode takes the site's certificate from a medium, then it
starts the site's image under Secure Boot, by HTTP Boot and from a CD, and no other. The host enrols its TPM by the one,
and gets its credentials by the other, also when no server answers any more."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.demo.site import TOKEN_PATH, DemoSite
from provision.image.build import Image
from provision.lab.lans import Lab
from provision.lab.vm import VM, Device, Firmware, Machine, Nic
from provision.media import pe_signature, unified
from provision.media.library import Library
from provision.media.unified import UnifiedImages
from tests.boot.boots import TIMEOUT
from tests.boot.drives import drive
from tests.boot.sealed import stores_ciphertext_alone
from tests.helpers.images import host_image
from tests.unit.media.test_pe_signature import pair

# An emulated machine may be too slow to prove that its timer ticks, and one that says nothing for long is given up.
INVENTORY = """\
site:
  domain: lab.example
  base: host
  kernel_arguments: [no_timer_check, loglevel=7]
  credentials:
    enrolment: {kind: token, path: /etc/provision/enrolment.token}
  networks:
    office: {role: general, prefix: 10.77.2.0/24, gateway: 10.77.2.1, vlan: 30}
hosts:
  node1:
    chain: uki
    disk: {serial: boot-7}
    credentials: [enrolment]
    interfaces:
      office: {mac: "52:54:00:77:00:01", network: office, addressing: static, ipv4: 10.77.2.21}
"""
SETTINGS = '[[listen]]\nnetwork = "office"\ninterface = "office"\n'
MAC = "52:54:00:77:00:01"
CANARY = b"canary-77c1d-of-the-unified-boot"
PRINT = r"    ((?:[0-9a-f]{8} ?){4})\s+    ((?:[0-9a-f]{8} ?){4})"
REFUSED = r"Access Denied|Security Violation"
SETUP_MODE = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")


class Office(DemoSite):
    """A server on a general LAN, with the host image, signed; somebody else's DHCP names its HTTP Boot URL."""

    def __init__(self, lab: Lab, image: Image) -> None:
        self.lan, self.own = lab.lan("office", "10.77.2.0/24"), drive(lab)
        super().__init__(lab, INVENTORY, SETTINGS)
        files = ("--kernel", image.kernel, "--initrd", image.initrd, "--cmdline", " ".join(image.kernel_arguments))
        self.call("image", "import", "host", *files)
        self.call("apply", self.inventory)
        self.service = self.serve()
        self.call("credential", "set", "node1", "enrolment", "--file", "-", stdin=CANARY)
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
        with self.switched_on(machine, SETUP_MODE) as vm:
            vm.wait_for(r"Enrolling secure boot keys from directory: \\loader\\keys\\auto", TIMEOUT)
            vm.wait_off(TIMEOUT)
        return vm.directory / "variables.fd"

    def booting(self, name: str, *, tpm: bool = False) -> VM:
        """A machine that boots from this LAN, its firmware enrolled."""
        nics = (Nic(self.lan, MAC),)
        machine = Machine(name, Firmware.SECURE_BOOT, nics, (Device.NETWORK,), 1024, http_boot=True, tpm=tpm)
        return self.switched_on(machine, self.variables)

    def switched_on(self, machine: Machine, variables: Path) -> VM:
        """A machine whose firmware has these variables; all that have a TPM have the same."""
        vm, tpm = VM(self.lab, machine), self.lab.directory / "tpm"
        vm.directory.mkdir()
        shutil.copyfile(variables, vm.directory / "variables.fd")
        if machine.tpm and tpm.exists():
            (vm.directory / "tpm").symlink_to(tpm)
        elif machine.tpm:
            vm.make_tpm().rename(tpm)
            (vm.directory / "tpm").symlink_to(tpm)
        return vm


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with Lab("office", tmp_path_factory.mktemp("office")) as lab:
        yield Office(lab, host_image())


def comes_up_and_enrols_its_tpm(office: Office) -> None:
    office.call("enroll", "node1")
    with office.booting("signed", tpm=True) as vm:
        vm.wait_for(r"this machine's TPM waits to be accepted: no configured root vouches", TIMEOUT)
        shown = re.search(r"the fingerprint of this machine's TPM is\s+" + PRINT, vm.console)
        assert shown is not None
        office.call("tpm", "accept", "node1", *shown[1].split(), *shown[2].split())
        vm.wait_for(r"^    system       (running|degraded)", TIMEOUT)
    assert "    node1\n" in vm.console and "10.77.2.21/24" in vm.console
    assert "complete, revision" in vm.console and "provision-seed:" not in vm.console
    released = [e for e in office.json("audit", "--host", "node1") if e.get("answer") == "released"]
    assert "no_timer_check" in office.json("sb", "list")[0]["command_line"]
    assert {(e["medium"], e["channel"]) for e in released} == {("http-boot", "general:office")}
    [tpm] = office.json("tpm", "list")
    assert tpm["enrolled"] and tpm["loader"] == office.json("sb", "list")[0]["certificate"]


def opens_its_envelope_from_a_cd(office: Office) -> None:
    """Enrolled by HTTP Boot, and started from a CD, with a NIC on USB: the TPM's values are the same."""
    medium = office.lab.directory / "base.iso"
    office.call("sb", "iso", "host", "-o", medium)
    nics, own = (Nic(office.lan, MAC, "usb-net"),), office.own.arguments()
    machine = Machine("cd", Firmware.SECURE_BOOT, nics, (Device.CD,), 1024, cd=medium, tpm=True, extra=own)
    with office.lan.capture() as wire, office.switched_on(machine, office.variables) as vm:
        vm.wait_for(rf"^ +credential +{TOKEN_PATH}", TIMEOUT)
        vm.wait_for(r"^ +system +running$", TIMEOUT)
    assert not wire.contains(CANARY) and not wire.contains(CANARY[7:20])
    asked = bytes.fromhex(f"{MAC.replace(':', '')}8100001e0800")
    assert wire.contains(asked), "it asks for an address on the network's VLAN, too"
    [opened] = [one for one in office.json("audit", "--limit", "500") if one["event"] == "envelope-opened"]
    assert (opened["host"], opened["answer"]) == ("node1", "opened")
    [network] = office.json("tpm", "explain", "node1")["networks"]
    [chain] = network["chains"]
    assert [(pcr["pcr"], pcr["same"]) for pcr in chain["pcrs"]] == [(7, True), (11, True), (12, True)]
    stores_ciphertext_alone(office.own, {"canary": CANARY, "its middle": CANARY[7:20]})


def comes_up_without_a_server(office: Office) -> None:
    """From the same CD, with what is on its disk: nobody answers."""
    office.service.stop()
    before = office.own.path.read_bytes()
    nics, own = (Nic(office.lan, MAC),), office.own.arguments()
    medium = office.lab.directory / "base.iso"
    machine = Machine("alone", Firmware.SECURE_BOOT, nics, (Device.CD,), 1024, cd=medium, tpm=True, extra=own)
    with office.switched_on(machine, office.variables) as vm:
        vm.wait_for(r"provision-disk: this host has its identity from vd", TIMEOUT)
        vm.wait_for(r"this host opens the envelope on its own disk", TIMEOUT)
        vm.wait_for(rf"^ +credential +{TOKEN_PATH}", TIMEOUT)
    assert "    node1\n" in vm.console and "10.77.2.21/24" in vm.console
    assert office.own.path.read_bytes() == before, "a boot that opens it writes nothing"


def starts_no_other_image(office: Office) -> None:
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


def test_a_host_gets_its_credentials_by_signed_images_alone(office: Office) -> None:
    comes_up_and_enrols_its_tpm(office)
    opens_its_envelope_from_a_cd(office)
    starts_no_other_image(office)
    comes_up_without_a_server(office)
