"""Signed unified images on a general LAN: firmware in setup mode takes the site's certificate from a medium, then it
starts the site's image under Secure Boot, by HTTP Boot and from a BMC's virtual CD, and no other. The host enrols its
TPM by the one, and gets its credentials by the other, also when the server does not answer any more, and with
`tpm: online` by a proof; with companions beside the image it gets none, and the load options of a boot option change
nothing."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from provision import proc
from provision.demo.site import TOKEN_PATH, DemoSite
from provision.image.build import Image
from provision.lab.lans import Lab
from provision.lab.vm import VM, Device, Firmware, Machine, Nic
from provision.media import gpt, pe_signature, unified
from provision.media.library import Library
from provision.media.unified import UnifiedImages
from tests.boot.boots import TIMEOUT
from tests.boot.chassis import Box
from tests.boot.drives import drive
from tests.boot.sealed import stores_ciphertext_alone
from tests.boot.site import Member
from tests.helpers import firmware_variables
from tests.helpers.redfish import load
from tests.helpers.small_image import small_image
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
SETTINGS = """\
[[listen]]
network = "office"
interface = "office"

[api]
address = "10.77.2.1"
certificate = "tls/server.pem"
key = "tls/server.key"
"""
BMC_ADDRESS = "10.77.2.250"
MAC, OTHER_MAC = "52:54:00:77:00:01", "52:54:00:77:00:02"
CANARY = b"canary-77c1d-of-the-unified-boot"
THEIRS = "console=ttyS0 rdinit=/bin/sh"
PRINT = r"    ((?:[0-9a-f]{8} ?){4})\s+    ((?:[0-9a-f]{8} ?){4})"
REFUSED = r"Access Denied|Security Violation"
PATIENCE = 500.0
"""Seconds of silence: the image is read and unpacked in them."""
SETUP_MODE = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")


class Office(DemoSite):
    """A server on a general LAN, with the host image, signed; somebody else's DHCP names its HTTP Boot URL."""

    def __init__(self, lab: Lab, image: Image) -> None:
        self.lan, self.own = lab.lan("office", "10.77.2.0/24"), drive(lab)
        super().__init__(lab, INVENTORY, SETTINGS, "--ca", "--address", "10.77.2.1")
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

    def booting(self, name: str, *, tpm: bool = False, extra: tuple[str, ...] = ()) -> VM:
        """A machine that boots from this LAN, its firmware enrolled."""
        nics, order = (Nic(self.lan, MAC),), (Device.NETWORK,)
        machine = Machine(name, Firmware.SECURE_BOOT, nics, order, 1024, http_boot=True, tpm=tpm, extra=extra)
        return self.switched_on(machine, self.variables)

    def hears(self, vm: VM, count: int) -> list[str]:
        """What came of the envelopes, as soon as the host has said so often; its console shows it before that."""

        def said() -> list[str]:
            entries = self.json("audit", "--limit", "500")
            return [str(entry["answer"]) for entry in entries if entry["event"] == "envelope-opened"]

        vm.wait_until(lambda: len(said()) >= count, f"say {count} times what came of its envelope", PATIENCE)
        return said()

    def switched_on(self, machine: Machine, variables: Path, namespace: str | None = None) -> VM:
        """A machine whose firmware has these variables; all that have a TPM have the same."""
        vm, tpm = VM(self.lab, machine, namespace), self.lab.directory / "tpm"
        vm.directory.mkdir()
        shutil.copyfile(variables, vm.directory / "variables.fd")
        if machine.tpm and tpm.exists():
            (vm.directory / "tpm").symlink_to(tpm)
        elif machine.tpm:
            vm.make_tpm().rename(tpm)
            (vm.directory / "tpm").symlink_to(tpm)
        return vm


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    with Lab("office", tmp_path / "lab") as lab:
        yield Office(lab, small_image())


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


@dataclass
class Cabinet(Box):
    """The host's machine, with a NIC on USB, and the BMC from whose virtual CD it boots."""

    def _powered(self, once: str) -> VM:
        assert isinstance(self.site, Office) and once == "Cd"
        nics, url = (Nic(self.site.lan, MAC, "usb-net"),), self.bmc.drive["Image"] or ""
        own = self.site.own.arguments()
        machine = Machine("cd", Firmware.SECURE_BOOT, nics, (Device.CD,), 1024, cd_url=url, tpm=True, extra=own)
        return self.site.switched_on(machine, self.site.variables, self.bmcs)


def opens_its_envelope_from_a_virtual_cd(office: Office) -> None:
    """Enrolled by HTTP Boot, and started by its BMC from a CD that is a link: the TPM's values are the same."""
    bmcs = office.lan.host("bmcs", f"{BMC_ADDRESS}/24")
    cabinet = Cabinet(office, Member("node1", 0), bmcs, BMC_ADDRESS, load("other"))
    try:
        cabinet.introduce()
        argv = office.argv("boot", "node1", "--via", "cd", "--watch", "--minutes", "120")
        with office.lan.capture() as wire, cabinet.answering():
            booting = office.lab.spawn(office.lab.server, argv, log="boot.log")
            booting.wait_for(r"^node1: the machine is on$", TIMEOUT)
            vm = cabinet.vm
            assert vm is not None
            # The console goes on while the command has nothing to say.
            vm.wait_for(rf"^ +credential +{TOKEN_PATH}", PATIENCE)
            vm.wait_for(r"^ +system +running$", TIMEOUT)
            booting.wait_for(r"^node1: the host has opened its envelope$", TIMEOUT)
            booting.wait_for(r"^node1: up$", TIMEOUT)
        # All of the FAT but what it has free.
        assert "(image 90 %)" in booting.text and not cabinet.bmc.drive["Inserted"]
        assert cabinet.urls[0].startswith("https://10.77.2.1:8443/b/")
    finally:
        cabinet.close()
    assert not wire.contains(CANARY) and not wire.contains(CANARY[7:20])
    asked = bytes.fromhex(f"{MAC.replace(':', '')}8100001e0800")
    assert wire.contains(asked), "it asks for an address on the network's VLAN, too"
    [opened] = [one for one in office.json("audit", "--limit", "500") if one["event"] == "envelope-opened"]
    assert (opened["host"], opened["answer"]) == ("node1", "opened")
    [network] = office.json("tpm", "explain", "node1")["networks"]
    [chain] = network["chains"]
    assert [(pcr["pcr"], pcr["same"]) for pcr in chain["pcrs"]] == [(7, True), (11, True), (12, True)]
    stores_ciphertext_alone(office.own, {"canary": CANARY, "its middle": CANARY[7:20]})


def comes_up_without_the_server(office: Office) -> None:
    """From a CD with the same image, with what is on its disk. Somebody else answers in the server's place, and
    has another machine start images of his own; his boot option tells this one another command line, which the image
    does not take."""
    medium, ours = office.lab.directory / "base.iso", office.json("sb", "list")[0]["command_line"]
    office.call("sb", "iso", "host", "-o", medium)
    unsigned, foreign = other_images(office)
    office.service.stop()
    nics, own = (Nic(office.lan, MAC),), office.own.arguments()
    machine = Machine("alone", Firmware.SECURE_BOOT, nics, (Device.CD,), 1024, cd=medium, tpm=True, extra=own)
    vm = office.switched_on(machine, office.variables)
    firmware_variables.next_boot(vm.directory / "variables.fd", firmware_variables.FIRST_CD, "Theirs", THEIRS)
    with vm, somebody_else(office, unsigned):
        vm.wait_for(r'^BdsDxe: starting Boot00A0 "Theirs"', PATIENCE)
        vm.wait_for(r"^provision-seed: http://10.77.2.1: ", PATIENCE)
        # It asks again for minutes, in which it computes nothing.
        starts_no_other_image(office, foreign)
        vm.wait_for(r"provision-disk: this host has its identity from vd", PATIENCE)
        vm.wait_for(r"this host opens the envelope on its own disk", PATIENCE)
        vm.wait_for(rf"^ +credential +{TOKEN_PATH}", PATIENCE)
    assert "    node1\n" in vm.console and "10.77.2.21/24" in vm.console
    assert re.findall(r"\] Command line: (.*)", vm.console) == [ours] and THEIRS not in ours
    office.service = office.serve()


def other_images(office: Office) -> tuple[Path, Path]:
    """An unsigned image, as HTTP Boot gets it, and a CD with one that another site has signed."""
    (base,) = Library(office.state).list()
    theirs, (key, certificate) = office.lab.directory / "theirs", pair("Another site")
    (theirs / "tmp").mkdir(parents=True)
    (theirs / "http-boot").mkdir()
    bare = unified.build(base, b"", ("quiet",))
    (theirs / "http-boot/boot.efi").write_bytes(bare)
    signed = pe_signature.attach(bare, certificate, pe_signature.sign(key, pe_signature.request(bare, "u")), "u")
    images = UnifiedImages(theirs)
    return theirs, images.medium(images.put(base.id, signed, "", "", "quiet")).path


@contextmanager
def somebody_else(office: Office, files: Path) -> Iterator[None]:
    """A web server at the address of the site's, with these files."""
    argv: list[str | Path] = [
        sys.executable,
        "-u",
        "-m",
        "http.server",
        "80",
        "--bind",
        "10.77.2.1",
        "--directory",
        files,
    ]
    server = office.lab.spawn(office.lab.server, argv, log="theirs.log")
    server.wait_for("Serving HTTP", TIMEOUT)
    try:
        yield
    finally:
        server.stop()


def starts_no_other_image(office: Office, foreign: Path) -> None:
    nics, order = (Nic(office.lan, OTHER_MAC),), (Device.NETWORK, Device.CD)
    machine = Machine("others", Firmware.SECURE_BOOT, nics, order, 1024, cd=foreign, http_boot=True)
    with office.switched_on(machine, office.variables) as vm:
        for device in ("HTTPv4", "DVD-ROM"):
            vm.wait_for(rf"^BdsDxe: failed to load \S+ .*{device}.*: ({REFUSED})", TIMEOUT)
    # All that it starts is its own shell.
    assert not re.search(r'^BdsDxe: starting \S+ "UEFI ', vm.console, re.MULTILINE)


def opens_nothing_with_companions(office: Office) -> None:
    """Somebody has put credentials for systemd beside the image on the host's disk. Firmware starts the image as ever,
    and only PCR 12 is another."""
    disk, own = office.lab.directory / "companions.img", office.lab.directory / "own.cred"
    office.call("disk", "node1", "-o", disk)
    own.write_bytes(b"of somebody else")
    esp = f"{disk}@@{gpt.read_table(disk).partitions[0].offset}"
    for folder in ("EFI/BOOT/BOOTX64.EFI.extra.d", "loader", "loader/credentials"):
        proc.run(["mmd", "-i", esp, f"::/{folder}"], package="mtools")
    for folder in ("EFI/BOOT/BOOTX64.EFI.extra.d", "loader/credentials"):
        proc.run(["mcopy", "-i", esp, own, f"::/{folder}/own.cred"], package="mtools")
    nics = (Nic(office.lan, MAC),)
    machine = Machine("companions", Firmware.SECURE_BOOT, nics, (Device.DISK,), 1024, disk=disk, tpm=True)
    with office.switched_on(machine, office.variables) as vm:
        vm.wait_for(r"provision-secrets: this host did not get its credentials:", PATIENCE)
        vm.wait_for(r"no approved boot chain is the one that was booted \(PCR 7\+11\+12", TIMEOUT)
        assert office.hears(vm, 2) == ["opened", "chain"]
    [status] = office.json("status", "node1")["hosts"]
    assert any("has booted in no chain that the site has approved" in alert["text"] for alert in status["alerts"])
    [network] = office.json("tpm", "explain", "node1")["networks"]
    [chain] = network["chains"]
    assert [(pcr["pcr"], pcr["same"]) for pcr in chain["pcrs"]] == [(7, True), (11, True), (12, False)]


def proves_its_boot_before_it_gets_its_envelope(office: Office) -> None:
    """Its firmware's log is judged by the server, which has made the image; what it gets then opens in this boot alone,
    and is not stored."""
    before = office.own.stored()
    office.inventory.write_text(INVENTORY.replace("    chain: uki\n", "    chain: uki\n    tpm: online\n"))
    office.call("apply", office.inventory)
    with office.booting("online", tpm=True, extra=office.own.arguments()) as vm:
        vm.wait_for(rf"^ +credential +{TOKEN_PATH}", PATIENCE)
        assert office.hears(vm, 3) == ["opened", "chain", "opened"]
    entries = office.json("audit", "--limit", "500")
    [proved] = [entry for entry in entries if entry["event"] == "tpm-proved"]
    assert proved["reason"].startswith("has booted by unified kernel (PCR 4+7+11+12), in start ")
    explained = office.json("tpm", "explain", "node1")
    assert explained["online"] and explained["proof"] == f"node1 {proved['reason']}"
    assert before is not None and office.own.stored() == before
    assert [entry["rule"] for entry in entries if entry.get("answer") == "denied"][-1] == "tpm-not-proved"


def test_a_host_gets_its_credentials_by_signed_images_alone(office: Office) -> None:
    comes_up_and_enrols_its_tpm(office)
    opens_its_envelope_from_a_virtual_cd(office)


@pytest.mark.long
def test_it_gets_them_without_the_server_never_beside_companions_and_by_a_proof(office: Office) -> None:
    comes_up_and_enrols_its_tpm(office)
    opens_its_envelope_from_a_virtual_cd(office)
    comes_up_without_the_server(office)
    opens_nothing_with_companions(office)
    proves_its_boot_before_it_gets_its_envelope(office)
