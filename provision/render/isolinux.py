"""The ISOLINUX configuration of a per-host ISO (SYSLINUX 6.04, doc/isolinux.txt)."""

from __future__ import annotations

from provision.render.environment import render
from provision.render.target import BootTarget


def boot_config(target: BootTarget) -> bytes:
    """Boot `target`, whose paths stand on the ISO; raises Invalid for what the guard or the command line refuses."""
    target.require_room(f"BOOT_IMAGE={target.kernel} initrd={','.join(target.all_initrds)}")
    return render("isolinux/boot.cfg.j2", target=target)
