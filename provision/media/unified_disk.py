"""A signed unified image as an OEM disk: the same for all hosts, and nothing on it is theirs.

Sector layout: protective MBR, then the partitions. Each of the two slots is an EFI system partition of its own, so that
nothing that is written to one can damage the other: at its beginning a FAT that has one program, and in its last sector
what that is. Firmware that knows nothing of the disk starts what is in the slot that comes first in the table; the
other one is empty, and a boot option may name it by its GUID (UEFI specification 2.10, section 3.1.2). What the host is
to keep of its own has its place as on every disk.
"""

from __future__ import annotations

from pathlib import Path

from provision.media import gpt, identity, slot_record
from provision.media.authoring import Ingredients
from provision.media.image_slots import USUAL, Sizes
from provision.media.unified_medium import build_file_system

_MIB = 1024 * 1024


def build(image: Path, digest: str, base: str, target: Path, sizes: Sizes = USUAL) -> None:
    """Write the raw disk with the image (a PE program with this SHA-256) of the base image with the id `base` to
    `target`, sparse.

    The same image gives the same bytes. Raises Unavailable without mtools.
    """
    made = table(Ingredients(digest, image, (), {}, 0), image.stat().st_size, sizes)
    first, *_, last = made.partitions
    # At the end of its file, a file system is as it is alone.
    build_file_system(image, digest, target, first.offset)
    with target.open("r+b") as file:
        file.truncate(last.offset + last.size + _MIB)
        file.seek(first.last * gpt.SECTOR)
        file.write(slot_record.encode(base))
    gpt.write_table(target, made)


def table(ingredients: Ingredients, size: int, sizes: Sizes) -> gpt.Table:
    """The partitions of a disk whose image has `size` bytes. The last one may be followed by others, so the room for
    entries is there twice, as on every disk."""
    rows = (
        (gpt.EFI_SYSTEM, "provision-esp-a", sizes.slot(size)),
        (gpt.EFI_SYSTEM, "provision-esp-b", sizes.slot(size)),
        (identity.TYPE, identity.NAME, sizes.config_least),
    )
    start, partitions = _MIB // gpt.SECTOR, []
    for kind, name, length in rows:
        last = start + length // gpt.SECTOR - 1
        partitions.append(gpt.Partition(kind, ingredients.uuid(f"unified {name}"), start, last, name))
        start = last + 1
    return gpt.Table(ingredients.uuid("unified disk"), tuple(partitions), gpt.FIRST_USABLE_TWICE)
