"""A host that starts signed images on its own disk, under Secure Boot and on a general LAN: firmware tries another one
in the second slot, once; it opens the host's envelope there, and is kept. One that panics is left again."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from provision.lab.lans import Lab
from provision.lab.processes import MOST_SECONDS
from provision.lab.vm import VM, Device, Firmware, Machine, Nic
from provision.media import gpt
from tests.boot.drives import KINDS, Drive
from tests.boot.sealed import stores_ciphertext_alone
from tests.boot.test_unified import CANARY, MAC, PATIENCE, PRINT, Office
from tests.helpers.images import host_image

IMAGES = {"second": "provision.gate=1800", "broken": "rdinit=/nonexistent"}
"""What the kernels of two more images are told: one has the time that an emulated machine needs, one panics."""
BEGINS = r"provision-update: this host starts again"


class Plant(Office):
    """The office, with two more base images, and a host that was installed from its disk image."""

    def __init__(self, lab: Lab) -> None:
        image = host_image()
        super().__init__(lab, image)
        for name, told in IMAGES.items():
            files = ("--kernel", image.kernel, "--initrd", image.initrd)
            self.call("image", "import", name, *files, "--cmdline", " ".join((*image.kernel_arguments, told)))
            self.call("sb", "sign", name)
        text = self.inventory.read_text()
        text = text.replace("  base: host\n", "  base: host\n  policy: {alive_seconds: 300}\n")
        self.inventory.write_text(text.replace("    chain: uki\n", "    chain: uki\n    update: {reboot: now}\n"))
        self.call("apply", "--yes", self.inventory)
        disk = lab.directory / "disk.img"
        self.call("disk", "node1", "-o", disk)
        self.own = Drive(disk, KINDS["virtio"])

    def on(self) -> VM:
        """The host's machine."""
        *drive, device = self.own.arguments()
        machine = Machine(
            "own",
            Firmware.SECURE_BOOT,
            (Nic(self.lan, MAC),),
            (Device.DISK,),
            1024,
            tpm=True,
            extra=(*drive, f"{device},bootindex=1"),
        )
        return self.switched_on(machine, self.variables)

    def gives(self, base: str) -> None:
        """Let the hosts' base be that one."""
        self.inventory.write_text(re.sub(r"(?m)^  base: .*$", f"  base: {base}", self.inventory.read_text()))
        self.call("apply", "--yes", self.inventory)

    def slots(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """What the server knows of the host's slots, when it is that."""
        end = time.monotonic() + MOST_SECONDS
        while True:
            found: dict[str, Any] = self.json("status", "node1")["hosts"][0]["slots"] or {"doing": ""}
            if holds(found):
                return found
            assert time.monotonic() < end, found
            time.sleep(3)

    @property
    def order(self) -> list[str]:
        """The partitions in the order of the disk's table."""
        return [one.name for one in gpt.read_table(self.own.path).partitions]


def enrols(plant: Plant, vm: VM) -> None:
    plant.call("enroll", "node1")
    with vm:
        vm.wait_for(r"this machine's TPM waits to be accepted: no configured root vouches", PATIENCE)
        shown = re.search(r"the fingerprint of this machine's TPM is\s+" + PRINT, vm.console)
        assert shown is not None
        plant.call("tpm", "accept", "node1", *shown[1].split(), *shown[2].split())


def starts_again(vm: VM, when: str) -> None:
    """It goes down by itself, and is started."""
    vm.wait_for(when, PATIENCE)
    vm.wait_off(300)
    vm.start()


def takes_another(plant: Plant, vm: VM) -> None:
    """The second image is tried, opens the envelope, and is kept."""
    slots = plant.slots(lambda slots: slots["doing"] == "idle")
    assert (slots["image"], slots["running"], slots["default"], slots["b"]) == ("host", "a", "a", None)
    plant.gives("second")
    starts_again(vm, BEGINS)
    assert plant.order == ["provision-esp-a", "provision-esp-b", "provision-config"]
    chains = [network["chains"] for network in plant.json("tpm", "explain", "node1")["networks"]]
    assert [[one["chain"] for one in each] for each in chains] == [
        ["unified kernel", "unified kernel of the image that it falls back to"]
    ]
    vm.wait_for(r"provision-update: this image has proved itself", PATIENCE)
    slots = plant.slots(lambda slots: slots["doing"] == "idle")
    assert (slots["image"], slots["running"], slots["default"], slots["failed"]) == ("second", "b", "b", [])
    assert plant.hears(vm, 2) == ["opened", "opened"]
    assert plant.order == ["provision-esp-b", "provision-esp-a", "provision-config"]


def leaves_a_broken_one(plant: Plant, vm: VM) -> None:
    """The third panics before anybody could say so; firmware starts what comes first on the disk."""
    plant.gives("broken")
    starts_again(vm, BEGINS)
    starts_again(vm, r"Kernel panic - not syncing")
    vm.wait_for(r"^ +system +running$", PATIENCE)
    (failed,) = plant.slots(lambda slots: slots["doing"] == "failed")["failed"]
    assert (failed["image"], failed["reason"]) == ("broken", "it did not prove itself")
    assert plant.hears(vm, 3) == ["opened"] * 3


@pytest.mark.long
def test_an_image_is_kept_when_it_proves_itself_and_left_when_not(tmp_path: Path) -> None:
    with Lab("plant", tmp_path / "lab") as lab:
        plant = Plant(lab)
        vm = plant.on()
        enrols(plant, vm)
        with vm, plant.lan.capture() as wire:
            takes_another(plant, vm)
            leaves_a_broken_one(plant, vm)
        assert not wire.contains(CANARY) and not wire.contains(CANARY[7:20])
        stores_ciphertext_alone(plant.own, {"canary": CANARY, "its middle": CANARY[7:20]})
