"""GRUB's environment block: what the loader of a disk in two slots remembers from start to start.

All variables stand in its first sector, which is written by its place on the disk and in one piece, so that it is the
old one or the new one whenever the power goes. Nobody mounts the file system that it is a file of.
"""

import os
import re

from gpt import SECTOR

MAGIC = b"# GRUB Environment Block\n"
_SLOT = re.compile("[ab]")
_VALUES = {"slot": _SLOT, "try": _SLOT, "tries": re.compile("x{1,9}"), "failed": _SLOT}
NAMES = tuple(_VALUES)
_SEARCHED = 4 << 20
"""It was the first file on that file system, so it stands at its beginning."""


class Missing(Exception):
    """Why there is no environment block that can be believed."""


def find(file, partition):
    """The sector of the disk where the block begins, which is a file on the EFI system partition."""
    content = os.pread(file.fileno(), min(_SEARCHED, partition.size), partition.first * SECTOR)
    places = [at for at in range(0, len(content), SECTOR) if content.startswith(MAGIC, at)]
    if len(places) != 1:
        raise Missing("has no environment block of its boot loader")
    return partition.first + places[0] // SECTOR


def read(file, sector):
    """The variables by name; those that are not set, or not to what they may be, are ""."""
    content = os.pread(file.fileno(), SECTOR, sector * SECTOR)
    if not content.startswith(MAGIC):
        raise Missing("has a damaged environment block of its boot loader")
    lines = content[len(MAGIC) :].rstrip(b"#").decode("ascii", "replace").splitlines()
    found = dict(line.partition("=")[::2] for line in lines)
    return {name: value if _VALUES[name].fullmatch(value := found.get(name, "")) else "" for name in NAMES}


def write(file, sector, variables):
    """Write them, as one sector."""
    text = MAGIC + "".join(f"{name}={variables[name]}\n" for name in NAMES).encode()
    os.pwrite(file.fileno(), text.ljust(SECTOR, b"#"), sector * SECTOR)
    os.fsync(file.fileno())
