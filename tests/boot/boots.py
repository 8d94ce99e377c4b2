"""Whole boots of one member of the site, from power-on to its report, with everything asserted that must hold."""

from __future__ import annotations

from pathlib import Path

from provision.lab.report import Report
from provision.lab.vm import VM, Device, Firmware, Machine
from tests.boot import expect
from tests.boot.site import BootSite, Member
from tests.boot.wire import Sent

TIMEOUT = 240.0
"""Seconds in which a console shows nothing: several times what the longest silence takes on a quiet machine."""

FIRMWARE = {"bios": Firmware.BIOS, "uefi": Firmware.UEFI, "secure": Firmware.SECURE_BOOT}


def from_network(site: BootSite, member: Member, firmware: str, medium: str = "pxe", memory: int = 640) -> Report:
    """Open a window, power on, and hold everything against what went over the management LAN."""
    site.open_window(member)
    machine = Machine(
        member.name,
        FIRMWARE[firmware],
        member.nics(site.mgmt),
        (Device.NETWORK,),
        memory,
        uuid=member.uuid,
        http_boot=medium == "http-boot",
    )
    with site.mgmt.capture() as capture, VM(site.lab, machine) as vm:
        report = vm.report(TIMEOUT)
        expect.network(site, member, report)
    sent = Sent.over(capture)
    expect.identity(site, member, report, sent)
    expect.arguments(site, report, syslinux=firmware == "bios")
    expect.firmware(report, firmware)
    expect.up(site, member, report, medium)
    needles = site.needles(member)
    assert sent.found(needles) == set(needles), "a search that finds no secret here would prove nothing elsewhere"
    return report


def from_medium(site: BootSite, member: Member, firmware: str, device: Device, file: Path) -> None:
    """Power on a machine with the file as its CD, USB stick or disk, cabled to the management LAN.

    The key in a medium works once: the first boot says that the host is up, any other is refused.
    """
    first = site.status(member)["stage"] != "up"
    slot = {Device.CD: "cd", Device.USB: "usb", Device.DISK: "disk"}[device]
    machine = Machine(
        f"{member.name}-{firmware}-{slot}",
        FIRMWARE[firmware],
        member.nics(site.mgmt),
        (device,),
        640,
        uuid=member.uuid,
        **{slot: file},  # type: ignore[arg-type]
    )
    with VM(site.lab, machine) as vm:
        report = vm.report(TIMEOUT)
        expect.network(site, member, report)
    expect.identity(site, member, report, Sent.on(file))
    expect.arguments(site, report, syslinux=firmware == "bios" and device is not Device.DISK)
    expect.firmware(report, firmware)
    if first:
        expect.up(site, member, report, "disk" if device is Device.DISK else "iso")
    else:
        assert report["phone-home"].startswith("refused"), report["phone-home"]
        assert site.status(member)["stage"] == "up"
