"""Whole boots of one member of the site, from power-on to its report, with everything asserted that must hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from provision.lab.report import Report
from provision.lab.vm import VM, Device, Firmware, Machine
from tests.boot import expect
from tests.boot.drives import Drive, drive
from tests.boot.site import API, MEMBERS, BootSite, Member, write_medium
from tests.boot.wire import Sent
from tests.helpers.boot_matrix import Cell, Way

TIMEOUT = 240.0
"""Seconds in which a console shows nothing: several times what the longest silence takes on a quiet machine."""


@dataclass(frozen=True)
class Booting:
    """A member that is to boot in a firmware, and its own disk if it keeps its identity on one."""

    site: BootSite
    member: Member
    firmware: Firmware
    own: Drive | None = None

    def machine(self, device: Device, memory: int, **more: Any) -> Machine:
        """It, cabled to the management LAN."""
        own, nics = self.own.arguments() if self.own else (), self.member.nics(self.site.mgmt)
        memory = max(memory, 768) if own else memory
        found = Machine(self.member.name, self.firmware, nics, (device,), memory, uuid=self.member.uuid, extra=own)
        return replace(found, **more)

    def report(self, machine: Machine) -> Report:
        """What the machine has become, after a look at its network."""
        with VM(self.site.lab, machine) as vm:
            report = vm.report(TIMEOUT)
            expect.network(self.site, self.member, report)
            assert ("provision-disk: the identity is stored on " in vm.console) == (self.own is not None)
        expect.firmware(report, self.firmware)
        return report

    def stored(self) -> None:
        """Its own disk, if it has one, holds its identity."""
        if self.own is not None:
            found = self.own.stored()
            assert found is not None
            needles = self.site.needles(self.member)
            assert Sent(found.content).found(needles) == set(needles)


def boot(site: BootSite, cell: Cell) -> None:
    """Boot the member that a cell of the matrix is for."""
    member = MEMBERS[cell.name]
    booting = Booting(
        site, member, cell.firmware, drive(site.lab, cell.name, kind=member.own_disk) if member.own_disk else None
    )
    _WAYS[cell.way](booting)
    booting.stored()


def from_network(booting: Booting, medium: str = "pxe") -> None:
    """Open a window, power on, and hold everything against what went over the management LAN."""
    site, member = booting.site, booting.member
    http, bios = medium == "http-boot", booting.firmware is Firmware.BIOS
    site.open_window(member)
    with site.mgmt.capture() as capture:
        report = booting.report(booting.machine(Device.NETWORK, 1024 if http else 640, http_boot=http))
    sent = Sent.over(capture)
    expect.identity(site, member, report, sent)
    expect.arguments(site, report, syslinux=bios)
    assert not bios or f"BOOTIF=01-{member.macs[0].replace(':', '-')}" in report["cmdline"].split()
    expect.up(site, member, report, medium)
    needles = site.needles(member)
    assert sent.found(needles) == set(needles), "a search that finds no secret here would prove nothing elsewhere"


def from_medium(booting: Booting, device: Device, file: Path) -> None:
    """Power on with the file as its CD, USB stick or disk."""
    site, member, disk = booting.site, booting.member, device is Device.DISK
    assert file.stat().st_mode & 0o777 == 0o600, "it carries secrets"
    report = booting.report(booting.machine(device, 640, **{str(device): file}))
    expect.identity(site, member, report, Sent.on(file))
    expect.arguments(site, report, syslinux=booting.firmware is Firmware.BIOS and not disk)
    expect.up(site, member, report, "disk" if disk else "iso")
    file.unlink()


def by_link(booting: Booting) -> None:
    """The firmware knows the site's CA, and takes the medium from where operators are served: no window is open, and
    nothing of it is on the wire in clear."""
    site, member = booting.site, booting.member
    made = site.json("link", member.name, "--medium", "iso", "--address", member.ipv4)
    url = made["urls"][0]
    assert url.startswith(f"{API}/b/")
    machine = booting.machine(Device.NETWORK, 1024, http_boot=True, trusted=site.firmware_authority)
    with site.http_boot_from(url), site.mgmt.capture() as capture:
        report = booting.report(machine)
    assert report["phone-home"] == "ok" and site.status(member)["medium"] == "iso"
    expect.own_files(site, member, report)
    assert Sent.over(capture).found(site.needles(member)) == set()
    released = [e for e in site.audit(member) if e.get("answer") == "released"]
    assert {(e["channel"], e["link"], e["address"]) for e in released} == {("operator", made["id"], member.ipv4)}


def _with(device: Device, kind: str = "iso") -> Callable[[Booting], None]:
    return lambda booting: from_medium(booting, device, write_medium(booting.site, kind, booting.member))


_WAYS: dict[Way, Callable[[Booting], None]] = {
    Way.PXE: from_network,
    Way.HTTP: lambda booting: from_network(booting, "http-boot"),
    Way.HTTPS: by_link,
    Way.CD: _with(Device.CD),
    Way.USB: _with(Device.USB),
    Way.DISK: _with(Device.DISK, "disk"),
}
