"""A host that runs from its own disk takes another base image in the other slot, proves it and keeps it; one that does
not prove itself is left again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from provision.demo.site import INVENTORY, MAC, MANAGEMENT, DemoSite
from provision.lab.lans import Lab
from provision.lab.vm import VM, Device, Machine, Nic
from tests.helpers.images import host_image

SETTINGS = '[[listen]]\nnetwork = "mgmt"\ninterface = "mgmt"\n'
DEAF = "systemd.mask=libvirtd.socket systemd.mask=libvirtd.service provision.gate=5"
"""What an image is started with that serves as a factory's, and would prove nothing."""
HOST = "  base: demo\n  policy: {alive_seconds: 300}\n"


class Updating(DemoSite):
    """A site with two base images, which differ in what their kernel is told; the first one is on the host's disk."""

    def __init__(self, lab: Lab) -> None:
        mgmt = lab.lan("mgmt", MANAGEMENT)
        given = INVENTORY.replace("  base: demo\n", HOST).replace(
            "    labels:", "    update: {reboot: now}\n    labels:"
        )
        super().__init__(lab, given, SETTINGS)
        image = host_image()
        self.fill(image)
        arguments = " ".join((*image.kernel_arguments, DEAF))
        files = ("--kernel", image.kernel, "--initrd", image.initrd, "--cmdline", arguments)
        self.call("image", "import", "deaf", *files)
        self.gives("deaf")
        self.disk = lab.directory / "node1.img"
        self.call("disk", "node1", "-o", self.disk)
        own = "-drive", f"if=none,id=own,format=raw,cache=unsafe,file={self.disk}"
        device = "-device", "virtio-blk-pci,drive=own,bootindex=1"
        self.machine = Machine("node1", nics=(Nic(mgmt, MAC),), order=(Device.DISK,), memory=768, extra=(*own, *device))

    def gives(self, base: str) -> None:
        """Let the host's base be that one."""
        self.inventory.write_text(INVENTORY_OF[base](self.inventory.read_text()))
        self.call("apply", "--yes", self.inventory)

    def slots(self) -> dict[str, Any]:
        """What the server knows of the host's slots."""
        found: dict[str, Any] = self.json("status", "node1")["hosts"][0]["slots"] or {}
        return found

    def wait(self, holds: Callable[[dict[str, Any]], bool], seconds: float = 400) -> dict[str, Any]:
        """Wait until it knows that."""
        last = time.monotonic() + seconds
        while not holds(slots := self.slots()):
            assert time.monotonic() < last, slots
            # Asking costs a good part of a processor that the machine may need.
            time.sleep(3)
        return slots


def _based(name: str) -> Callable[[str], str]:
    return lambda text: text.replace("base: demo\n", f"base: {name}\n").replace("base: deaf\n", f"base: {name}\n")


INVENTORY_OF = {name: _based(name) for name in ("demo", "deaf")}


def started_again(vm: VM) -> None:
    """It goes down by itself, and comes up again."""
    vm.wait_for(r"provision-update: this (host starts again|image has failed)", 400)
    vm.wait_off(300)
    vm.start()


def test_an_update_is_kept_when_it_proves_itself_and_left_when_not(lab: Lab) -> None:
    site = Updating(lab)
    site.serve()
    with VM(lab, site.machine) as vm:
        assert site.wait(lambda slots: bool(slots))["image"] == "deaf"
        site.gives("demo")
        started_again(vm)
        vm.wait_for(r"provision-update: this image has proved itself", 400)
        slots = site.wait(lambda slots: bool(slots["doing"] == "idle"))
        assert (slots["image"], slots["running"], slots["default"], slots["failed"]) == ("demo", "b", "b", [])
        site.gives("deaf")
        started_again(vm)
        started_again(vm)
        slots = site.wait(lambda slots: slots["running"] == "b" and bool(slots["failed"]))
        assert (slots["image"], slots["default"], slots["doing"]) == ("demo", "b", "failed")
        (failed,) = slots["failed"]
        assert (failed["image"], failed["reason"]) == ("deaf", "libvirt does not answer")
