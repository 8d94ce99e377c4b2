"""A signed unified image as a medium: one file that firmware starts from a CD, and from a stick or a disk that it was
written to. It is the same for all hosts, and nothing on it is theirs."""

from __future__ import annotations

from pathlib import Path

from provision.media.authoring import Ingredients
from provision.media.fat import make_fat
from provision.media.iso import EFI_PATH, author

_EFI_UNIT = 64 * 1024
_SHARE = 32
"""What the tables and directories of a FAT need at most: this part of its size, and some units."""


def build(image: Path, digest: str, target: Path, scratch: Path) -> None:
    """Write the ISO with the image (a PE program with this SHA-256) to `target`; `scratch` is an existing directory.

    The same image gives the same bytes. Raises Unavailable without xorriso or mtools.
    """
    ingredients, efi = Ingredients(digest, image, (), {}, 0), scratch / "efi.img"
    build_file_system(image, digest, efi)
    author(ingredients, {EFI_PATH: efi}, (), {}, target, scratch)


def build_file_system(image: Path, digest: str, target: Path, offset: int = 0) -> None:
    """Write the FAT from which firmware starts the image to `target` from byte `offset` on, as large as it has to be.

    The file ends there. The same image gives the same bytes. Raises Unavailable without mtools.
    """
    ingredients, size = Ingredients(digest, image, (), {}, 0), image.stat().st_size
    size = (-(-(size + size // _SHARE) // _EFI_UNIT) + 4) * _EFI_UNIT
    with target.open("wb") as file:
        file.truncate(offset + size)
    serial = ingredients.uuid("efi.img").int & 0xFFFFFFFF
    make_fat(target, {"EFI/BOOT/BOOTX64.EFI": image}, size=size, serial=serial, label="EFI", offset=offset)
