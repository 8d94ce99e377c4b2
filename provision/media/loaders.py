"""The boot loaders of a base: found, copied, and made into what the media need."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Mapping
from pathlib import Path

from provision import proc
from provision.errors import Problem
from provision.media.gpt import SECTOR
from provision.media.image_slots import ESP_NUMBER, LOADER

_BIOS_MODULES = Path("/usr/lib/syslinux/modules/bios")
_SIGNED_GRUB = Path("/usr/lib/grub/x86_64-efi-signed")

DEBIAN = {
    "lpxelinux.0": Path("/usr/lib/PXELINUX/lpxelinux.0"),
    "ldlinux.c32": _BIOS_MODULES / "ldlinux.c32",
    "isolinux.bin": Path("/usr/lib/ISOLINUX/isolinux.bin"),
    "isohdpfx.bin": Path("/usr/lib/ISOLINUX/isohdpfx.bin"),
    "shimx64.efi.signed": Path("/usr/lib/shim/shimx64.efi.signed"),
    "grubnetx64.efi.signed": _SIGNED_GRUB / "grubnetx64.efi.signed",
    "gcdx64.efi.signed": _SIGNED_GRUB / "gcdx64.efi.signed",
    "grubx64.efi.signed": _SIGNED_GRUB / "grubx64.efi.signed",
    "i386-pc": Path("/usr/lib/grub/i386-pc"),
}
"""The loader set: name in a directory given with --loaders -> where Debian's packages put it."""

_PACKAGES = {
    "lpxelinux.0": "pxelinux",
    "ldlinux.c32": "syslinux-common",
    "isolinux.bin": "isolinux",
    "isohdpfx.bin": "isolinux",
    "shimx64.efi.signed": "shim-signed",
    "i386-pc": "grub-pc-bin",
}

SERVED = {
    "lpxelinux.0": "lpxelinux.0",
    "ldlinux.c32": "ldlinux.c32",
    "shimx64.efi": "shimx64.efi.signed",
    "grubx64.efi": "grubnetx64.efi.signed",
}
"""What network boot asks for: served file name -> name in the loader set."""

GRUBS = ("grubnetx64.efi.signed", "gcdx64.efi.signed", "grubx64.efi.signed")
BOOT_SECTOR = "boot.img"
CORE = "core.img"

# All that a grub.cfg on the disk may use: no module is loaded at run time, as under Secure Boot none could be.
_CORE_MODULES = (
    "biosdisk part_gpt ext2 fat normal configfile linux echo test true sleep minicmd reboot halt regexp "
    "search search_fs_uuid search_fs_file search_label serial terminal loadenv"
)


def find_loaders(directory: Path | None) -> tuple[dict[str, Path], list[Problem]]:
    """Every loader of the set by name, from `directory` or Debian's places, and a problem for each that is missing."""
    found, problems = {}, []
    for name, default in DEBIAN.items():
        path = default if directory is None else directory / name
        right = (path / "boot.img").is_file() if name == "i386-pc" else path.is_file()
        if right:
            found[name] = path
            continue
        remedy = f"apt-get install {_PACKAGES.get(name, 'grub-efi-amd64-signed')}"
        problems.append(Problem(str(path), 0, "", "is missing", remedy if directory is None else "add it"))
    return found, problems


def copy_loaders(found: Mapping[str, Path], target: Path) -> dict[str, Path]:
    """Copy the set into the directory `target`, with GRUB's BIOS modules made into one core image; paths by name."""
    copies = {name: target / name for name in (*found, BOOT_SECTOR, CORE) if name != "i386-pc"}
    for name, path in found.items():
        if name != "i386-pc":
            shutil.copyfile(path, copies[name])
    shutil.copyfile(found["i386-pc"] / "boot.img", copies[BOOT_SECTOR])
    # A prefix without a disk means the disk that the BIOS booted from.
    prefix = f"(,gpt{ESP_NUMBER})/{LOADER}"
    options: list[str | Path] = ["-O", "i386-pc", "-d", found["i386-pc"], "-p", prefix, "-o", copies[CORE]]
    proc.run(["grub-mkimage", *options, *_CORE_MODULES.split()], package="grub-common")
    return copies


def boot_sector(boot_img: bytes, core_sector: int) -> bytes:
    """GRUB's boot.img as the boot code of an MBR (440 bytes), told in which sector its core image starts.

    The offsets are those of GRUB's ``include/grub/i386/pc/boot.h``: kernel sector at 0x5c, and at 0x66 the drive
    check, replaced by two NOPs as grub-install does, so that the BIOS's drive number is believed.
    """
    code = bytearray(boot_img[:440])
    struct.pack_into("<Q", code, 0x5C, core_sector)
    code[0x66:0x68] = b"\x90\x90"
    return bytes(code)


def core_image(core: bytes, core_sector: int) -> bytes:
    """GRUB's core image with the block list of its own remainder: the last 12 bytes of its first sector.

    One run of sectors (start, count, segment 0x820: right behind the first sector in memory at 0x8000).
    """
    image = bytearray(core)
    rest = -(-len(core) // SECTOR) - 1
    struct.pack_into("<QHH", image, SECTOR - 12, core_sector + 1, rest, 0x820)
    return bytes(image)
