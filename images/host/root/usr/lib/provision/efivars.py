"""UEFI variables, as Linux shows them: a file each, which begins with four bytes of attributes (efivarfs)."""

import re
import struct
from pathlib import Path

PLACE = "/sys/firmware/efi/efivars"
GLOBAL, LOADER = "8be4df61-93ca-11d2-aa0d-00e098032b8c", "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
"""Whose variables they are: the specification's, and those by which boot loaders tell the system of themselves."""
_ATTRIBUTES = struct.Struct("<I")
_STAYS = 1 | 2 | 4
"""It is kept, and both boot loaders and the system may read and write it."""
_OPTION = re.compile(f"Boot([0-9A-F]{{4}})-{GLOBAL}")


def read(name, owner=GLOBAL):
    """The content of a variable; None when there is none."""
    try:
        return Path(PLACE, f"{name}-{owner}").read_bytes()[_ATTRIBUTES.size :]
    except FileNotFoundError:
        return None


def write(name, content):
    """Set a variable of the specification; Linux protects others than those of booting. Raises OSError."""
    # All of it is one write: firmware has the old one or the new one.
    with Path(PLACE, f"{name}-{GLOBAL}").open("wb", buffering=0) as file:
        if file.write(_ATTRIBUTES.pack(_STAYS) + content) != _ATTRIBUTES.size + len(content):
            raise OSError(f"the firmware has not taken the variable {name}")


def remove(name):
    """Take a variable of the specification away, if it is there. Raises OSError."""
    Path(PLACE, f"{name}-{GLOBAL}").unlink(missing_ok=True)


def boot_options():
    """The boot options that there are, by their numbers."""
    found = (_OPTION.fullmatch(path.name) for path in sorted(Path(PLACE).iterdir()))
    return {int(one[1], 16): read(f"Boot{one[1]}") for one in found if one}
