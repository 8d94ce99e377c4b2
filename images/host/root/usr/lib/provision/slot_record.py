"""The last sector of a slot with a signed image: what is in the slot, and whether it is on trial.

It is written after all else, and in one piece, so that it is the old one or the new one whenever the power goes.
"""

import os
import re

from gpt import SECTOR

MAGIC = b"provision-slot 1\n"
_LINES = re.compile(rb"provision-slot 1\nversion ([!-~]{1,100})\ntrial (yes|no)\n\0*")


def read(file, partition):
    """The version in the slot, and whether it is on trial; None and False when it holds nothing whole."""
    found = _LINES.fullmatch(os.pread(file.fileno(), SECTOR, partition.last * SECTOR))
    return (found[1].decode(), found[2] == b"yes") if found else (None, False)


def write(file, partition, version, trial=False):
    """Say that; a `version` of None: the slot holds nothing whole."""
    text = b"" if version is None else MAGIC + f"version {version}\ntrial {'yes' if trial else 'no'}\n".encode()
    os.pwrite(file.fileno(), text.ljust(SECTOR, b"\0"), partition.last * SECTOR)
    os.fsync(file.fileno())
