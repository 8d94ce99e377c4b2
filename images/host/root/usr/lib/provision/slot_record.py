"""The last sector of a slot with a signed image: what is in the slot, and whether it is on trial.

It is written after all else, and in one piece, so that it is the old one or the new one whenever the power goes.
"""

import os
import re

from gpt import SECTOR

MAGIC = b"provision-slot 1\n"
NO, NEXT, YES = "no", "next", "yes"
"""It is on no trial; is about to be, so that it counts only if firmware was told; is or was."""
_LINES = re.compile(rb"provision-slot 1\nversion ([!-~]{1,100})\ntrial (no|next|yes)\n\0*")


def read(file, partition):
    """The version in the slot, and whether it is on trial; None and "no" when it holds nothing whole."""
    found = _LINES.fullmatch(os.pread(file.fileno(), SECTOR, partition.last * SECTOR))
    return (found[1].decode(), found[2].decode()) if found else (None, NO)


def write(file, partition, version, trial=NO):
    """Say that; a `version` of None: the slot holds nothing whole."""
    text = b"" if version is None else MAGIC + f"version {version}\ntrial {trial}\n".encode()
    os.pwrite(file.fileno(), text.ljust(SECTOR, b"\0"), partition.last * SECTOR)
    os.fsync(file.fileno())
