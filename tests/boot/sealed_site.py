"""A site on a general LAN alone, whose hosts get their credentials for their own TPMs, in bound boot chains."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import cached_property
from itertools import cycle
from pathlib import Path
from typing import Any

from provision.demo.site import GUEST, DemoSite
from provision.enrolled_tpm import EnrolledTpm, KeyKind
from provision.lab.lans import Lab
from provision.lab.processes import Process
from provision.lab.vm import VM, Device, Firmware, Machine
from provision.service.service import Service
from provision.settings import Settings
from provision.tpm import endorsement, public
from tests.boot.drives import Drive, drive
from tests.boot.site import Member, authority_certificate, fresh_secrets, inventory, load_secrets, member_of
from tests.boot.to_boot import TO_BOOT
from tests.helpers.boot_matrix import Cell, Way
from tests.helpers.small_image import small_image
from tests.helpers.tpm import software_tpm

SETTINGS = """\
[[listen]]
network = "guest"
interface = "guest"

[api]
address = "10.77.2.1"
certificate = "tls/server.pem"
key = "tls/server.key"
firmware_certificate = "tls/firmware.pem"
firmware_key = "tls/firmware.key"
"""
SETUP_MODE = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
_SETTINGS = SETTINGS, "--ca", "--address", "10.77.2.1"
# An emulated machine may be too slow to prove that its timer ticks.
_ARGUMENTS = ("no_timer_check",)
_DEVICES = {Way.CD: Device.CD, Way.USB: Device.USB, Way.DISK: Device.DISK}


def _member(cell: Cell, number: int) -> Member:
    chain = "grub" if cell.way is Way.PXE else "uki"
    return member_of(cell, number, "guest", (("chain", chain), ("netboot", "always")))


class SealedSite(DemoSite):
    """The server, with the host image, signed for unified boots; somebody else's DHCP points at it."""

    def __init__(self, lab: Lab) -> None:
        cells = [cell for cell in TO_BOOT if cell.storage.tpm]
        self.members: Mapping[str, Member] = {
            cell.name: _member(cell, number) for number, cell in enumerate(cells, start=10)
        }
        self.guest = lab.lan("guest", GUEST)
        authority = authority_certificate().decode()
        super().__init__(lab, inventory(authority, self.members.values(), "host", _ARGUMENTS), *_SETTINGS)
        image = small_image()
        files = ("--kernel", image.kernel, "--initrd", image.initrd, "--cmdline", " ".join(image.kernel_arguments))
        self.call("image", "import", "host", *files)
        self.call("apply", self.inventory)
        self.secrets = {name: fresh_secrets(member) for name, member in self.members.items()}
        load_secrets(self, self.secrets)
        self.disks: dict[str, Drive] = {}
        self._machines = {cell.name: self._machine(cell) for cell in cells}
        self._know()
        self.serve()
        self.call("sb", "init")
        self.call("sb", "sign", "host")
        self._dhcp = self._foreign_dhcp(f"http://{self.guest.address}/http-boot/boot.efi")

    def _foreign_dhcp(self, url: str) -> Process:
        server = self.guest.address
        return self.lab.dnsmasq(
            f"port=0\nbind-interfaces\ninterface={self.guest.interface}\nexcept-interface=lo\n"
            f"dhcp-range={self.guest.prefix[100]},{self.guest.prefix[199]},5m\n"
            "dhcp-match=set:http,option:client-arch,16\ndhcp-match=set:efi,option:client-arch,7\n"
            f"dhcp-boot=tag:efi,shimx64.efi,,{server}\ndhcp-option-force=tag:http,60,HTTPClient\n"
            f'dhcp-boot=tag:http,"{url}"\n'
        )

    @contextmanager
    def http_boot_from(self, url: str) -> Iterator[None]:
        """Let UEFI HTTP Boot begin there."""
        self._dhcp.stop()
        other = self._foreign_dhcp(url)
        try:
            yield
        finally:
            other.stop()
            self._dhcp = self._foreign_dhcp(f"http://{self.guest.address}/http-boot/boot.efi")

    @cached_property
    def firmware_authority(self) -> Path:
        """The site's CA, as a firmware takes it."""
        file = self.lab.directory / "ca.esl"
        self.call("ca", "export", "--firmware", "--format", "efi", "-o", file)
        return file

    @cached_property
    def _variables(self) -> Path:
        """Those of a firmware that has taken the site's certificate: its setup mode ends by that."""
        medium = self.lab.directory / "enrol.img"
        self.call("sb", "enrol-image", "-o", medium)
        vm = VM(self.lab, Machine("enrol", Firmware.SECURE_BOOT, (), (Device.DISK,), 512, disk=medium))
        vm.directory.mkdir()
        shutil.copyfile(SETUP_MODE, vm.directory / "variables.fd")
        with vm:
            vm.wait_off(240)
        return vm.directory / "variables.fd"

    def _machine(self, cell: Cell) -> VM:
        """The machine of a cell's host, with a TPM. Its medium, if it has one, is written later."""
        member, device = self.members[cell.name], _DEVICES.get(cell.way, Device.NETWORK)
        if member.own_disk is not None:
            self.disks[cell.name] = drive(self.lab, cell.name, kind=member.own_disk)
        own = self.disks[cell.name].arguments() if cell.name in self.disks else ()
        found = Machine(cell.name, cell.firmware, member.nics(self.guest), (device,), 1024, tpm=True, extra=own)
        found = replace(found, uuid=member.uuid)
        if cell.way is Way.HTTPS:
            # The firmware keeps the medium as a disk in memory.
            found = replace(found, memory=1280, http_boot=True, trusted=self.firmware_authority)
        elif cell.way is Way.HTTP:
            found = replace(found, http_boot=True)
        elif cell.way is not Way.PXE:
            medium: dict[str, Any] = {str(device): self._medium(cell)}
            found = replace(found, **medium)
        vm = VM(self.lab, found)
        vm.directory.mkdir()
        return vm

    def _medium(self, cell: Cell) -> Path:
        return self.lab.directory / f"{cell.name}.{'img' if cell.way is Way.DISK else 'iso'}"

    def machine(self, cell: Cell) -> VM:
        """That with its medium, which any operator writes; and its firmware trusts the site if it has to."""
        vm = self._machines[cell.name]
        if cell.firmware is Firmware.SECURE_BOOT and cell.way is not Way.PXE:
            shutil.copyfile(self._variables, vm.directory / "variables.fd")
        if cell.way in _DEVICES:
            self.call("disk" if cell.way is Way.DISK else "iso", cell.name, "-o", self._medium(cell))
        return vm

    def _know(self) -> None:
        """Know the machines' TPMs by an RSA key or one on P-256, in turn, as a vendor's list would have them. The
        service does not run yet."""
        with closing(Service.open(Settings(state=self.state))) as service:
            for (name, vm), kind in zip(self._machines.items(), cycle(KeyKind), strict=False):
                key = _endorsement_key(vm, kind)
                mark = endorsement.fingerprint(public.parse(key, "EK"))
                about = b"\0\x0b" + bytes(32), bytes(32), "UEFI, Secure Boot on", service.core.clock(), "uid=0"
                service.core.store.tpms.put(EnrolledTpm(name, key, kind, mark, "imported", *about))
            service.core.witness()


def _endorsement_key(vm: VM, kind: KeyKind) -> bytes:
    scratch = vm.directory / "known"
    scratch.mkdir()
    (scratch / "state").symlink_to(vm.make_tpm())
    with software_tpm(scratch) as tpm:
        return tpm.endorsement_key("rsa" if kind is KeyKind.RSA else "ecc")
