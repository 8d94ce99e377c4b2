"""PXELINUX configurations (SYSLINUX 6.04, doc/syslinux.txt), served as pxelinux.cfg/01-<mac>."""

from __future__ import annotations

from collections.abc import Iterable

from provision.render.environment import message, render
from provision.render.target import BootTarget

# IPAPPEND 2 adds the boot NIC; the two words before it are SYSLINUX's own.
_BOOTIF = "BOOTIF=01-00-00-00-00-00-00"


def boot_config(target: BootTarget) -> bytes:
    """Boot `target`, whose paths are HTTP URLs; raises Invalid for what the guard or the command line refuses."""
    target.require_room(f"BOOT_IMAGE={target.kernel} initrd={','.join(target.all_initrds)} {_BOOTIF}")
    return render("pxelinux/boot.cfg.j2", target=target)


def refusal(lines: Iterable[str]) -> bytes:
    """Say `lines` (which rule denied, and the remedy) on the console, then go on to the next boot device."""
    return render("pxelinux/refusal.cfg.j2", lines=message(lines))
