"""An image on trial that hangs: the machine's watchdog ends it, and firmware or GRUB starts the one before it."""

from __future__ import annotations

from pathlib import Path

import pytest

from provision.lab.lans import Lab
from provision.lab.vm import VM, Device, Firmware, Machine
from tests.helpers import slot_firmware
from tests.helpers.host_programs import load
from tests.helpers.small_image import small_image
from tests.power_cuts import records
from tests.power_cuts.machines import Monitor, raw
from tests.power_cuts.oem import factory_disk, on_trial
from tests.power_cuts.signed import SIZES, VERSIONS, put_identity, signed_image, told_machine

ON_TRIAL = ("panic=10", "systemd.watchdog_sec=60", "systemd.log_target=kmsg")
HANGS = (*ON_TRIAL, "unknown_nmi_panic", "module_blacklist=efi_pstore")
"""A kernel that panics on a non-maskable interrupt, and does not ask the firmware to keep its last words."""
FOR_EVER = {"/etc/sysctl.d/99-hangs.conf": b"kernel.panic = 0\n"}
"""It does nothing at all after that; the image would have it start again."""
PATIENCE = 300.0


def slots(directory: Path, patched: pytest.MonkeyPatch) -> slot_firmware.Firmware:
    """A disk with a second image on trial, as its host leaves it."""
    image, first = small_image(), directory / "first"
    first.write_bytes(signed_image(image, "a", *ON_TRIAL))
    found = slot_firmware.Firmware(directory, first, VERSIONS["a"], SIZES, patched)
    put_identity(found.path, FOR_EVER)
    found.call("write", found.slot_file(signed_image(image, "b", *HANGS)), f"{VERSIONS['b']}:1:1")
    found.call("try")
    return found


def hang(vm: VM, console: Path) -> None:
    """Let the machine hang once its watchdog is armed, until that has reset it."""
    vm.wait_for(r"systemd\[1\]: (Using hardware watchdog|Watchdog running with)", PATIENCE)
    qemu = Monitor(console)
    qemu("inject-nmi")
    vm.wait_for(r"Kernel panic - not syncing: NMI", PATIENCE)
    assert qemu.wait_for_event("WATCHDOG")["data"] == {"action": "reset"}
    vm.wait_off(PATIENCE)
    qemu.close()


@pytest.mark.long
def test_a_hang_on_trial_is_ended_by_the_watchdog(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, console = slots(tmp_path, monkeypatch), lab.directory / "hangs.qmp"
    own = (*raw(disk.path), "-device", "virtio-blk-pci,drive=own,serial=boot-7,bootindex=1", "-device", "i6300esb")
    monitor = ("-qmp", f"unix:{console},server=on,wait=off")
    machine = Machine("hangs", Firmware.UEFI, order=(Device.DISK,), memory=1024, extra=(*own, *monitor))
    with told_machine(lab, machine, disk.trial) as vm:
        vm.wait_for(r"Command line: .*provision\.image=0b", PATIENCE)
        hang(vm, console)
        vm.start()
        vm.wait_for(r"Command line: .*provision\.image=0a", PATIENCE)
        vm.wait_for(r"^ +seed +complete", PATIENCE)
    disk.starts_without_trial()
    found = disk.state
    assert (found["running"], found["default"], found["trying"], found["tries"]) == ("a", "a", "b", 0)
    versions = {slot: load("slot_report").version(text) for slot, text in found.pop("versions").items()}
    said = load("slot_report").settled(load("slot_report").Slots(**found, versions=versions))
    assert said == f"failed {VERSIONS['b']} 1 it did not prove itself"


@pytest.mark.long
def test_a_hang_of_a_slot_that_grub_tries_is_ended_by_the_watchdog(lab: Lab) -> None:
    """It is the chip set's own here (iTCO)."""
    words = ("loglevel=7", "systemd.log_target=kmsg", "unknown_nmi_panic")
    disk, console = factory_disk(small_image(), lab.directory / "own.img", words, FOR_EVER), lab.directory / "hangs.qmp"
    on_trial(disk)
    own = (*raw(disk), "-device", "virtio-blk-pci,drive=own,serial=boot-7,bootindex=1")
    more = ("-global", "ICH9-LPC.noreboot=off", "-qmp", f"unix:{console},server=on,wait=off")
    machine = Machine("hangs", Firmware.BIOS, order=(Device.DISK,), memory=1024, extra=(*own, *more))
    with VM(lab, machine) as vm:
        vm.wait_for(r"Command line: .*provision\.slot=b", PATIENCE)
        hang(vm, console)
        vm.start()
        vm.wait_for(r"Command line: .*provision\.slot=a", PATIENCE)
        vm.wait_for(r"^ +seed +complete", PATIENCE)
    assert records.environment(disk) == {"slot": "a", "try": "", "tries": "", "failed": "b"}
