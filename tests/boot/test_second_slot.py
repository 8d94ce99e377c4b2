"""The host image on its own disk: it grows there, keeps what persists, and goes on from its second slot."""

from __future__ import annotations

import json
import os

from provision.demo.show import wait_up
from provision.demo.site import INVENTORY, MAC
from provision.lab.lans import Lab
from provision.lab.vm import VM, Device, Firmware, Machine, Nic
from provision.media import gpt
from provision.media.image_slots import USUAL
from tests.boot.test_host_image_media import HostSite

OURS = INVENTORY.replace("    labels:", "    install: oem\n    persist: [ssh-host-keys, journal, libvirt]\n    labels:")
GROWTH = 64 << 20
SLOTS = "/usr/lib/provision/slots"
KEY = "/etc/ssh/ssh_host_ed25519_key.pub"
# The running slot's own files, with another argument.
WRITE = f"""\
mount -o ro /dev/vda4 /mnt && cp /mnt/boot/vmlinuz /mnt/boot/initrd0.img /run && umount /mnt &&
sed 's/^BOOT_IMAGE=[^ ]* //; s/ provision.slot=a/ provision.test=2/' /proc/cmdline >/run/arguments &&
{SLOTS} write /run/vmlinuz /run/initrd0.img /run/arguments v2 && rm /run/vmlinuz /run/initrd0.img && {SLOTS} try"""


def test_a_host_goes_on_from_its_second_slot_with_what_persists(lab: Lab) -> None:
    """That a slot on trial is booted once only is GRUB's to know (test_slots.py)."""
    site = HostSite(lab, OURS)
    site.serve()
    disk, nics = lab.directory / "disk.img", (Nic(site.mgmt, MAC),)
    site.call("disk", "node1", "-o", disk)
    os.truncate(disk, disk.stat().st_size + GROWTH)
    drive = "-drive", f"if=none,id=own,format=raw,cache=writethrough,file={disk}"
    own = (*drive, "-device", "virtio-blk-pci,drive=own,bootindex=1")
    with VM(lab, Machine("own", Firmware.SECURE_BOOT, nics, (Device.DISK,), 768, extra=own)) as vm:
        vm.wait_for(r"^ +system +running$", 400)
        wait_up(site, "disk")
        key, _, running = site.ssh(f"sha256sum {KEY} && {SLOTS} running").split()
        assert running == "a"
        site.ssh(WRITE)
        vm.stop()
        assert gpt.read_table(disk).partitions[-1].size == USUAL.data + GROWTH
        vm.start()
        vm.wait_for(r"^ +system +running$", 400)
        arguments, found, *boots = site.ssh(
            f"cat /proc/cmdline && sha256sum {KEY} && journalctl --list-boots -q"
        ).splitlines()
        assert arguments.split()[-3:] == ["provision.test=2", "panic=10", "provision.slot=b"]
        assert found.split()[0] == key and len(boots) == 2, "keys and journal persist"
        state = json.loads(site.ssh(f"{SLOTS} commit && {SLOTS} state"))
    assert (state["running"], state["default"], state["trying"]) == ("b", "b", None)
    assert state["versions"]["b"] == "v2" and state["versions"]["a"]
