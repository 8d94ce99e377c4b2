"""The host image on its own disk: it grows there, keeps what persists, takes another base image in its second slot, and
keeps that because it proves itself; the next one does not, and is left again."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from typing import Any

from provision.demo.site import INVENTORY, MAC
from provision.lab.lans import Lab
from provision.lab.vm import VM, Device, Firmware, Machine, Nic
from provision.media import gpt
from provision.media.image_slots import USUAL
from tests.boot.test_host_image_media import HostSite
from tests.helpers.images import host_image

OURS = INVENTORY.replace("  base: demo\n", "  base: demo\n  policy: {alive_seconds: 300}\n").replace(
    "    labels:",
    "    install: oem\n    persist: [ssh-host-keys, journal, libvirt]\n    update: {reboot: now}\n    labels:",
)
DEAF = ("systemd.mask=libvirtd.socket", "systemd.mask=libvirtd.service", "provision.gate=5")
"""What the image is started with that the factory puts on the disk. It would not prove itself."""
GROWTH = 64 << 20
KEY = "/etc/ssh/ssh_host_ed25519_key.pub"
TRIAL = ["panic=10", "systemd.watchdog_sec=60", "provision.slot=b"]


class UpdatedSite(HostSite):
    """A site with two base images, `demo` and `deaf`, which differ in what their kernel is told."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab, OURS)
        image = host_image()
        files = ("--kernel", image.kernel, "--initrd", image.initrd)
        self.call("image", "import", "deaf", *files, "--cmdline", " ".join((*image.kernel_arguments, *DEAF)))

    def gives(self, base: str) -> None:
        """Let the hosts' base be that one."""
        self.inventory.write_text(re.sub(r"(?m)^  base: .*$", f"  base: {base}", self.inventory.read_text()))
        self.call("apply", "--yes", self.inventory)

    def slots(self, holds: Callable[[dict[str, Any]], bool], seconds: float = 400) -> dict[str, Any]:
        """What the server knows of the host's slots, when it is that."""
        last = time.monotonic() + seconds
        while True:
            found: dict[str, Any] = self.json("status", "node1")["hosts"][0]["slots"] or {"doing": ""}
            if holds(found):
                return found
            assert time.monotonic() < last, found
            # Asking costs a good part of a processor that the machine may need.
            time.sleep(3)


def starts_again(vm: VM) -> None:
    """It goes down by itself, and is started."""
    vm.wait_for(r"provision-update: this (host starts again|image has failed)", 400)
    vm.wait_off(300)
    vm.start()


def test_an_update_is_kept_when_it_proves_itself_and_left_when_not(lab: Lab) -> None:
    site = UpdatedSite(lab)
    site.gives("deaf")
    site.serve()
    disk = lab.directory / "disk.img"
    site.call("disk", "node1", "-o", disk)
    os.truncate(disk, disk.stat().st_size + GROWTH)
    drive = "-drive", f"if=none,id=own,format=raw,cache=writethrough,file={disk}"
    own = (*drive, "-device", "virtio-blk-pci,drive=own,bootindex=1")
    machine = Machine("own", Firmware.SECURE_BOOT, (Nic(site.mgmt, MAC),), (Device.DISK,), 768, extra=own)
    with VM(lab, machine) as vm:
        assert site.slots(lambda slots: slots["doing"] == "idle")["image"] == "deaf"
        key = site.ssh("sha256sum", KEY)
        assert gpt.read_table(disk).partitions[-1].size == USUAL.data + GROWTH
        site.gives("demo")
        starts_again(vm)
        slots = site.slots(lambda slots: slots["doing"] == "idle")
        assert (slots["image"], slots["running"], slots["default"], slots["failed"]) == ("demo", "b", "b", [])
        arguments, *boots = site.ssh("cat /proc/cmdline && journalctl --list-boots -q").splitlines()
        assert arguments.split()[-3:] == TRIAL
        assert site.ssh("sha256sum", KEY) == key and len(boots) == 2, "keys and journal persist"
        site.gives("deaf")
        starts_again(vm)  # into the one that fails
        starts_again(vm)
        vm.wait_for(r"provision: slot b of this disk", 120)
        slots = site.slots(lambda slots: bool(slots["failed"]))
        (failed,) = slots["failed"]
        assert (failed["image"], failed["reason"]) == ("deaf", "libvirt does not answer")
