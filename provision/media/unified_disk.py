"""A signed unified image as an OEM disk: the same for all hosts, and nothing on it is theirs.

Sector layout: protective MBR, then the partitions. Each of the two slots is an EFI system partition with room for a
FAT that has one program. Firmware that knows nothing of the disk starts what is in the first one; the second is empty,
and a boot option may name it by its GUID (UEFI specification 2.10, section 3.1.2). What the host is to keep of its own
has its place as on every disk.
"""

from __future__ import annotations

from pathlib import Path

from provision.media import gpt, identity
from provision.media.authoring import Ingredients
from provision.media.image_slots import USUAL, Sizes
from provision.media.unified_medium import make_esp

_MIB = 1024 * 1024


def build(image: Path, digest: str, target: Path, sizes: Sizes = USUAL) -> None:
    """Write the raw disk with the image (a PE program with this SHA-256) to `target`, sparse.

    The same image gives the same bytes. Raises Unavailable without mtools.
    """
    ingredients = Ingredients(digest, image, (), {}, 0)
    made = table(ingredients, image.stat().st_size, sizes)
    first, *_, last = made.partitions
    with target.open("wb") as file:
        file.truncate(last.offset + last.size + _MIB)
    gpt.write_table(target, made)
    make_esp(ingredients, image, target, first.size, first.offset)


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
