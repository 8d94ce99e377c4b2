"""PXELINUX configurations (SYSLINUX 6.04, doc/syslinux.txt), served as pxelinux.cfg/01-<mac>."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from provision.render.environment import Checked, check, message, render
from provision.render.target import BootTarget

# IPAPPEND 2 adds the boot NIC; the two words before it are SYSLINUX's own.
_BOOTIF = "BOOTIF=01-00-00-00-00-00-00"
_BOOT = "pxelinux/boot.cfg.j2"
# No value that is rendered has such a character.
_TITLE, _SEED = Checked("\0title\0"), Checked("\0seed\0")


def boot_config(target: BootTarget) -> bytes:
    """Boot `target`, whose paths are HTTP URLs; raises Invalid for what the guard or the command line refuses."""
    target.require_room(f"BOOT_IMAGE={target.kernel} initrd={','.join(target.all_initrds)} {_BOOTIF}")
    own = check(target.title, _BOOT), check(target.seed, _BOOT) if target.seed is not None else ""
    seed = _SEED if target.seed is not None else None
    before, between, after = _around(target.kernel, target.initrds, target.arguments, seed)
    return b"".join((before, own[0].encode(), between, own[1].encode(), after))


@lru_cache(maxsize=256)
def _around(
    kernel: str, initrds: tuple[str, ...], arguments: tuple[str, ...], seed: str | None
) -> tuple[bytes, bytes, bytes]:
    """What stands before, between and after a host's name and the URL of its seed, and is the same for every host with
    the same image and arguments."""
    target = BootTarget(_TITLE, kernel, initrds, seed, arguments)
    before, _, rest = render(_BOOT, target=target).partition(_TITLE.encode())
    between, _, after = rest.partition(_SEED.encode())
    return before, between, after


def refusal(lines: Iterable[str]) -> bytes:
    """Say `lines` (which rule denied, and the remedy) on the console, then go on to the next boot device."""
    return render("pxelinux/refusal.cfg.j2", lines=message(lines))
