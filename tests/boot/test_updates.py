"""The host image on its own disk: it grows there, proves its second slot and keeps it, takes another base image in the
first one, and leaves that again because it does not prove itself."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from provision.demo.site import INVENTORY, MAC
from provision.lab.lans import Lab
from provision.lab.processes import MOST_SECONDS
from provision.lab.vm import VM, Device, Firmware, Machine, Nic
from provision.media import gpt
from provision.media.image_slots import SLOT_A, SLOT_B, USUAL
from tests.boot.test_host_image_media import HostSite
from tests.helpers.host_programs import load
from tests.helpers.images import host_image

OURS = INVENTORY.replace("  base: demo\n", "  base: demo\n  policy: {alive_seconds: 300}\n").replace(
    "    labels:",
    "    install: oem\n    persist: [ssh-host-keys, journal, libvirt]\n    update: {reboot: now}\n    labels:",
)
BROKEN = ("module_blacklist=ext4", "provision.gate=60")
"""What the image is started with that does not prove itself."""
GROWTH = 64 << 20
KEY = "/etc/ssh/ssh_host_ed25519_key.pub"
TRIAL = ["panic=10", "systemd.watchdog_sec=60", "provision.slot=b"]
BEGINS, FAILS = (f"provision-update: this {words}" for words in ("host starts again", "image has failed"))


class UpdatedSite(HostSite):
    """A site with two base images, `demo` and `broken`, which differ in what their kernel is told."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab, OURS)
        image = host_image()
        files = ("--kernel", image.kernel, "--initrd", image.initrd)
        self.call("image", "import", "broken", *files, "--cmdline", " ".join((*image.kernel_arguments, *BROKEN)))
        self.disk = lab.directory / "disk.img"
        self.call("disk", "node1", "-o", self.disk)
        on_trial(self.disk)
        os.truncate(self.disk, self.disk.stat().st_size + GROWTH)

    @property
    def machine(self) -> Machine:
        """The host."""
        drive = "-drive", f"if=none,id=own,format=raw,cache=writethrough,file={self.disk}"
        own = (*drive, "-device", "virtio-blk-pci,drive=own,bootindex=1")
        return Machine("own", Firmware.SECURE_BOOT, (Nic(self.mgmt, MAC),), (Device.DISK,), 768, extra=own)

    def gives(self, base: str) -> None:
        """Let the hosts' base be that one."""
        self.inventory.write_text(re.sub(r"(?m)^  base: .*$", f"  base: {base}", self.inventory.read_text()))
        self.call("apply", "--yes", self.inventory)

    def slots(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """What the server knows of the host's slots, when it is that."""
        last = time.monotonic() + MOST_SECONDS
        while True:
            found: dict[str, Any] = self.json("status", "node1")["hosts"][0]["slots"] or {"doing": ""}
            if holds(found):
                return found
            assert time.monotonic() < last, found
            time.sleep(3)


def on_trial(disk: Path) -> None:
    """Have the second slot on trial, with what is in the first one."""
    first, second = (gpt.read_table(disk).partitions[number - 1] for number in (SLOT_A, SLOT_B))
    table, environment = load("gpt"), load("grubenv")
    with disk.open("r+b") as file:
        file.seek(first.offset)
        content = file.read(first.size)
        file.seek(second.offset)
        file.write(content)
        sector = environment.find(file, table.read(file).find(table.ESP))
        environment.write(file, sector, {**environment.read(file, sector), "try": "b", "tries": "x"})


def starts_again(vm: VM, when: str) -> None:
    """It goes down by itself, and is started."""
    vm.wait_for(when, 400)
    vm.wait_off(300)
    vm.start()


def proves_itself(site: UpdatedSite) -> str:
    """The image on trial is kept, on a disk whose last partition has grown. Gives what its SSH key is."""
    slots = site.slots(lambda slots: slots["doing"] == "idle")
    assert (slots["image"], slots["running"], slots["default"], slots["failed"]) == ("demo", "b", "b", [])
    key, arguments = site.ssh(f"sha256sum {KEY} && cat /proc/cmdline").splitlines()
    assert arguments.split()[-3:] == TRIAL
    assert gpt.read_table(site.disk).partitions[-1].size == USUAL.data + GROWTH
    return key


def is_left_again(site: UpdatedSite, vm: VM, key: str) -> None:
    """What comes next does not prove itself; the host is back with what it had."""
    site.gives("broken")
    starts_again(vm, BEGINS)
    starts_again(vm, f"{FAILS}, and the one before it is started: systemd is degraded: .*provision-data")
    vm.wait_for(r"provision: slot b of this disk", 120)
    (failed,) = site.slots(lambda slots: slots["doing"] == "failed")["failed"]
    assert (failed["image"], failed["reason"]) == ("broken", "it did not prove itself")
    same, *boots = site.ssh(f"sha256sum {KEY} && journalctl --list-boots -q").splitlines()
    assert same == key and len(boots) == 2, "keys and journal persist"


@pytest.mark.long
def test_an_image_is_kept_when_it_proves_itself_and_left_when_not(lab: Lab) -> None:
    site = UpdatedSite(lab)
    site.serve()
    with VM(lab, site.machine) as vm:
        is_left_again(site, vm, proves_itself(site))
