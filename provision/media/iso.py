"""The base ISO: one file that boots as CD and as USB stick, in BIOS and UEFI firmware, with Secure Boot too.

xorriso authors it, because only xorriso makes it boot as CD and, by isolinux's code in the MBR, as stick; pycdlib reads
back where the slots are, and a GPT is written around them (ECMA-119, El Torito 1.0, UEFI 2.10 section 13.3.2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import pycdlib
from pycdlib.pycdlibexception import PyCdlibException

from provision import proc
from provision.errors import Unavailable
from provision.media import gpt
from provision.media.authoring import (
    GRUB_PATH,
    INFO_PATH,
    ISOLINUX_PATH,
    KERNEL_PATH,
    SEED_PATH,
    Ingredients,
    claim,
    reserve,
)
from provision.media.fat import CLOCK, make_fat
from provision.media.layout import CONFIG_SIZE, GRUB, ISOLINUX, SEED
from provision.media.plan import Slot

_BLOCK = 2048
EFI_PATH = "boot/efi.img"
"""The FAT from which firmware starts what is in it, within an ISO."""
_EFI_UNIT = 64 * 1024
_STAMP = "2020010100000000"
_TIMEOUT = 1800.0


def build_iso(ingredients: Ingredients, target: Path, scratch: Path) -> dict[str, Slot]:
    """Write the base ISO to `target` and return its slots; `scratch` is an existing directory for parts."""
    loaders = ingredients.loaders
    files = common_files(ingredients, scratch) | ingredients.boot_files()
    files |= {
        "isolinux/isolinux.bin": loaders["isolinux.bin"],
        "isolinux/ldlinux.c32": loaders["ldlinux.c32"],
        SEED_PATH: reserve(scratch / SEED_PATH, SEED, ingredients.seed_size),
        ISOLINUX_PATH: reserve(scratch / ISOLINUX_PATH, ISOLINUX, CONFIG_SIZE),
    }
    bios = ["-b", "isolinux/isolinux.bin", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table"]
    bios += ["-isohybrid-mbr", str(loaders["isohdpfx.bin"])]
    slots = {SEED: SEED_PATH, ISOLINUX: ISOLINUX_PATH, GRUB: GRUB_PATH}
    return author(ingredients, files, bios, slots, target, scratch)


def common_files(ingredients: Ingredients, scratch: Path) -> dict[str, Path]:
    """What every ISO with GRUB needs, by path; makes it in `scratch`."""
    info = scratch / INFO_PATH
    info.parent.mkdir(parents=True, exist_ok=True)
    info.write_text(f"provision {ingredients.id}\n")
    loaders = {
        "EFI/BOOT/BOOTX64.EFI": ingredients.loaders["shimx64.efi.signed"],
        "EFI/BOOT/grubx64.efi": ingredients.loaders["gcdx64.efi.signed"],
    }
    # Two units more than the files have are enough for the FATs and the directories.
    size = sum(path.stat().st_size for path in loaders.values())
    size = (-(-size // _EFI_UNIT) + 2) * _EFI_UNIT
    efi = scratch / "efi.img"
    with efi.open("wb") as file:
        file.truncate(size)
    make_fat(efi, loaders, size=size, serial=ingredients.uuid("efi.img").int & 0xFFFFFFFF, label="EFI")
    return {INFO_PATH: info, GRUB_PATH: reserve(scratch / GRUB_PATH, GRUB, CONFIG_SIZE), EFI_PATH: efi}


def author(
    ingredients: Ingredients,
    files: Mapping[str, Path],
    bios: Sequence[str],
    slots: Mapping[str, str],
    target: Path,
    scratch: Path,
) -> dict[str, Slot]:
    """Write an ISO of `files` with its EFI image as EFI system partition, and claim its slots (name -> path)."""
    fixed = [f"--modification-date={_STAMP}", "--set_all_file_dates", _STAMP]
    efi = [*(["-eltorito-alt-boot"] if bios else []), "-e", EFI_PATH, "-no-emul-boot"]
    grafts = [f"/{path}={source}" for path, source in sorted(files.items())]
    options = [
        "-quiet",
        "-r",
        "-J",
        "-V",
        "PROVISION",
        *fixed,
        *bios,
        *efi,
        "-o",
        str(target),
        "-graft-points",
        *grafts,
    ]
    env = {"SOURCE_DATE_EPOCH": str(CLOCK)}
    # -no_rc: a user's own start-up file must not change the bytes.
    proc.run(["xorriso", "-no_rc", "-as", "mkisofs", *options], package="xorriso", env=env, timeout=_TIMEOUT)
    found = locate(target, files, {**slots, EFI_PATH: EFI_PATH})
    esp = found.pop(EFI_PATH)
    _partition(ingredients, target, esp)
    claim(target, found)
    return found


def _partition(ingredients: Ingredients, target: Path, esp: Slot) -> None:
    """Say in a partition table where the EFI image is: one copy serves as file, for CDs and for sticks.

    xorriso has a way to do that, but not together with isolinux's code for sticks.
    """
    first = esp.offset // gpt.SECTOR
    last = first + esp.size // gpt.SECTOR - 1
    if target.stat().st_size < (last + 1 + gpt.TAIL) * gpt.SECTOR:
        raise Unavailable(target.name, "has no room for a partition table behind its files")
    part = gpt.Partition(gpt.EFI_SYSTEM, ingredients.uuid("esp.iso"), first, last, "esp")
    gpt.write_table(target, gpt.Table(ingredients.uuid(target.name), (part,)))


def locate(image: Path, files: Mapping[str, Path], slots: Mapping[str, str]) -> dict[str, Slot]:
    """Read the ISO back: its boot record and every file's length; returns the slots' places.

    Raises Unavailable when anything is not as it was asked for.
    """
    found: dict[str, Slot] = {}
    iso = pycdlib.PyCdlib()
    try:
        iso.open(str(image))
        try:
            if iso.eltorito_boot_catalog is None:
                raise Unavailable(image.name, "has no boot record")
            for path, source in files.items():
                record = iso.get_record(rr_path=f"/{path}")
                if record.get_data_length() != source.stat().st_size:
                    raise Unavailable(image.name, f"holds {path} with the wrong length")
            for name, path in slots.items():
                record = iso.get_record(rr_path=f"/{path}")
                found[name] = Slot(record.extent_location() * _BLOCK, record.get_data_length())
        finally:
            iso.close()
    except PyCdlibException as error:
        raise Unavailable(image.name, f"is not readable as an ISO ({error})") from None
    return found


@lru_cache(maxsize=16)
def boot_files(image: Path) -> Mapping[str, tuple[range, ...]]:
    """The bytes of "kernel", "initrd" (one range for each) and "seed" on a base ISO, and of the "image" on one that has
    a signed image; neither ever changes.

    Raises Unavailable when it cannot be read.
    """
    disc = pycdlib.PyCdlib()
    try:
        disc.open(str(image))
        try:
            names = [
                child.rock_ridge.name().decode() for child in disc.list_children(rr_path="/boot") if child.rock_ridge
            ]
            initrds = tuple(f"boot/{name}" for name in sorted(names) if name.startswith("initrd"))
            if Path(KERNEL_PATH).name not in names:
                return {"image": (_bytes(disc, EFI_PATH),)}
            paths = {"kernel": (KERNEL_PATH,), "initrd": initrds, "seed": (SEED_PATH,)}
            return {part: tuple(_bytes(disc, path) for path in of) for part, of in paths.items()}
        finally:
            disc.close()
    except (OSError, PyCdlibException) as error:
        raise Unavailable(image.name, f"is not readable as an ISO ({error})") from None


def _bytes(disc: pycdlib.PyCdlib, path: str) -> range:
    record = disc.get_record(rr_path=f"/{path}")
    start = record.extent_location() * _BLOCK
    return range(start, start + record.get_data_length())
