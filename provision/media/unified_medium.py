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
    ingredients = Ingredients(digest, image, (), {}, 0)
    size = image.stat().st_size
    size = (-(-(size + size // _SHARE) // _EFI_UNIT) + 4) * _EFI_UNIT
    efi = scratch / "efi.img"
    with efi.open("wb") as file:
        file.truncate(size)
    make_esp(ingredients, image, efi, size)
    author(ingredients, {EFI_PATH: efi}, (), {}, target, scratch)


def make_esp(ingredients: Ingredients, image: Path, target: Path, size: int, offset: int = 0) -> None:
    """Make a FAT of `size` bytes, from byte `offset` of `target` on, from which firmware starts the image."""
    serial = ingredients.uuid("efi.img").int & 0xFFFFFFFF
    files = {"EFI/BOOT/BOOTX64.EFI": image}
    make_fat(target, files, size=size, serial=serial, label="EFI", offset=offset)
