"""GRUB 2.06 and 2.12 configurations: over the network (TFTP), on the per-host ISO and disk, and one that refuses."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address

from provision.render.environment import Checked, check, message, render
from provision.render.target import BootTarget

PAUSE = 5
"""Seconds for which a refusal stays readable."""

AGAIN = 10
"""Seconds after which a machine whose refusal passes by itself asks again."""


def network_config(target: BootTarget) -> bytes:
    """Boot `target` over the network: paths such as ``/kernel``, on the server that GRUB itself came from."""
    return _boot("grub/network.cfg.j2", target)


def medium_config(target: BootTarget) -> bytes:
    """Boot `target` from an ISO, in UEFI firmware; `$root` is the medium already."""
    return _boot("grub/medium.cfg.j2", target)


def disk_config(target: BootTarget) -> bytes:
    """Boot `target` from a slot of a disk, in BIOS and in UEFI firmware. What chooses the slot has set `$root`, the
    disk's name `$disk`, and what the kernel is told besides, `$slot_arguments`, for which there is room."""
    target.require_room(f"BOOT_IMAGE={target.kernel} provision.slot=a panic=10")
    return render("grub/disk.cfg.j2", target=target)


def on_disk(partition: int, first: int, count: int) -> str:
    """So many sectors of a partition of that disk, from its sector `first` on, as GRUB names them as a file."""
    return Checked(f"($disk,gpt{partition}){first}+{count}")


def on_server(server: IPv4Address, path: str) -> str:
    """`path` on the TFTP server `server` (port 69), as GRUB names it, for a configuration from another server."""
    return Checked(f"(tftp,{server}){check(path, 'grub')}")


def refusal(lines: Iterable[str], *, identify: bool = False, show_uuid: bool = False, by_mac: bool = False) -> bytes:
    """Say `lines` (which rule denied, and the remedy) for 5 s, then start the local disk's own UEFI loader.

    Where there is none, GRUB exits, and firmware goes on as it sees fit. With `identify` the machine first asks for
    ``uuid/UUID.cfg`` beside its configuration, which tells the server its SMBIOS UUID; with `show_uuid` its console
    shows it, for a loader without a network. With `by_mac` it first tries ``host-MAC.cfg`` there, for a server that
    renders nothing.
    """
    flags = {"identify": identify, "show_uuid": show_uuid, "by_mac": by_mac}
    return render("grub/refusal.cfg.j2", lines=message(lines), pause=PAUSE, **flags)


def try_again(lines: Iterable[str]) -> bytes:
    """Say `lines` for 10 s, then ask the server for the configuration again: what they say passes by itself."""
    return render("grub/again.cfg.j2", lines=message(lines), pause=AGAIN, start_over=False)


def start_over(lines: Iterable[str]) -> bytes:
    """The same for a medium, whose loader has no network: after 10 s the machine starts over."""
    return render("grub/again.cfg.j2", lines=message(lines), pause=AGAIN, start_over=True)


def _boot(template: str, target: BootTarget) -> bytes:
    target.require_room(f"BOOT_IMAGE={target.kernel}")
    return render(template, target=target)
