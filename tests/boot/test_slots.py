"""GRUB's choice between the two slots of a disk, by what it remembers; a slot here says its name and starts over."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType

import pytest

from provision.lab.lans import Lab
from provision.lab.vm import VM, Device, Firmware, Machine
from provision.media import gpt, identity
from provision.media.authoring import Ingredients
from provision.media.disk import build_disk
from provision.media.image_slots import CONFIG_NUMBER, SLOT_A, SLOT_B, Sizes
from provision.media.layout import GRUB
from provision.media.loaders import copy_loaders, find_loaders
from provision.render import grub
from tests.fixtures.media import image_archive, kernel, write
from tests.helpers.host_programs import load

MIB = 1 << 20
SEED = "what images without the feature 'identity' get from GRUB"
SAYS = f'cat {grub.on_disk(CONFIG_NUMBER, 8, 1)}\necho "SLOT $now: $slot_arguments."\nreboot\n'.encode()


class Slots:
    """A disk whose slots are such."""

    def __init__(self, lab: Lab) -> None:
        self._lab, self.path = lab, lab.directory / "disk.img"
        parts = lab.directory / "parts"
        (parts / "scratch").mkdir(parents=True)
        loaders = copy_loaders(find_loaders(None)[0], parts)
        files = write(parts / "kernel", kernel()), (write(parts / "initrd", image_archive()),)
        of = Ingredients("cd" * 32, *files, loaders, MIB)
        said = build_disk(of, self.path, parts / "scratch", Sizes(slot_room=8 * MIB))[GRUB]
        self.write(said.offset, SAYS.ljust(said.size, b"\n"))
        self.write(self.part(CONFIG_NUMBER).offset + identity.BLOCK, SEED.encode().ljust(512, b"\n"))
        self._gpt: ModuleType = load("gpt")
        self._grubenv: ModuleType = load("grubenv")

    def write(self, offset: int, content: bytes) -> None:
        with self.path.open("r+b") as file:
            file.seek(offset)
            file.write(content)

    def part(self, number: int) -> gpt.Partition:
        return gpt.read_table(self.path).partitions[number - 1]

    def content(self, number: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(self.part(number).offset)
            return file.read(self.part(number).size)

    def remembered(self, **changes: str) -> Mapping[str, str]:
        """What GRUB remembers, after these changes by the host's own means."""
        with self.path.open("r+b") as file:
            sector = self._grubenv.find(file, self._gpt.read(file).find(self._gpt.ESP))
            self._grubenv.write(file, sector, {**self._grubenv.read(file, sector), **changes})
            found: Mapping[str, str] = self._grubenv.read(file, sector)
            return found

    def forget(self) -> None:
        """The environment block is gone."""
        with self.path.open("r+b") as file:
            sector = self._grubenv.find(file, self._gpt.read(file).find(self._gpt.ESP))
        self.write(sector * 512, bytes(512))

    def boot(self, firmware: Firmware) -> str:
        """The slot that is booted, and what its kernel would be told."""
        own = "-drive", f"if=none,id=own,format=raw,cache=writethrough,file={self.path}"
        device = "-device", "virtio-blk-pci,drive=own,bootindex=1"
        machine = Machine("slots", firmware, order=(Device.DISK,), memory=256, extra=(*own, *device))
        with VM(self._lab, machine) as vm:
            said = vm.wait_for(r"SLOT ([ab]: .*)\.", 120)[1]
            vm.wait_off(60)
            assert SEED in vm.console
        return said


PROVEN, TRIED = "{0}: provision.slot={0}", "{0}: panic=10 systemd.watchdog_sec=60 provision.slot={0}"


@pytest.mark.parametrize("firmware", [Firmware.BIOS, Firmware.SECURE_BOOT])
def test_a_slot_on_trial_is_booted_once(lab: Lab, firmware: Firmware) -> None:
    disk = Slots(lab)
    disk.write(disk.part(SLOT_B).offset, disk.content(SLOT_A))
    disk.remembered(**{"try": "b", "tries": "x"})
    assert disk.boot(firmware) == TRIED.format("b")
    assert disk.remembered() == {"slot": "a", "try": "b", "tries": "", "failed": ""}
    assert disk.boot(firmware) == PROVEN.format("a")
    assert disk.remembered() == {"slot": "a", "try": "", "tries": "", "failed": "b"}


def test_what_cannot_be_booted_is_passed_over(lab: Lab) -> None:
    disk = Slots(lab)
    disk.remembered(**{"try": "b", "tries": "x"})
    assert disk.boot(Firmware.BIOS) == PROVEN.format("a"), "the other slot is empty"
    disk.write(disk.part(SLOT_B).offset, disk.content(SLOT_A))
    disk.remembered(slot="b", **{"try": "", "tries": ""})
    assert disk.boot(Firmware.BIOS) == PROVEN.format("b")
    disk.write(disk.part(SLOT_B).offset, bytes(MIB))
    assert disk.boot(Firmware.BIOS) == TRIED.format("a"), "the default one is damaged"
    disk.forget()
    assert disk.boot(Firmware.BIOS) == PROVEN.format("a")
