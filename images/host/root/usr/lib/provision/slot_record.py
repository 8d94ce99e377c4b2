"""The last sector of a slot with a signed image: what is in the slot, and whether it is on trial.

It is written after all else, and in one piece, so that it is the old one or the new one whenever the power goes.
"""

import os
import re

from gpt import SECTOR

MAGIC = b"provision-slot 1\n"
NO, NEXT, YES = "no", "next", "yes"
"""It is on no trial; is about to be, so that it counts only if firmware was told; is or was."""
_LINES = re.compile(rb"provision-slot 1\nversion ([!-~]{1,100})\ntrial (no|yes)\n\0*")
# What is about to be has a zero before its last number. Earlier programs read the same version there, and that it is on
# trial: another word would be an empty slot to them, which nothing runs from.
_NUMBERED = re.compile(r"(.+:)([1-9][0-9]*|0)")
_ABOUT_TO_BE = re.compile(r"(.+:)0([0-9]+)")
_NO_NUMBERS = ":0:0"


def read(file, partition):
    """The version in the slot, and whether it is on trial; None and "no" when it holds nothing whole."""
    found = _LINES.fullmatch(os.pread(file.fileno(), SECTOR, partition.last * SECTOR))
    if found is None:
        return None, NO
    version, trial = found[1].decode(), found[2].decode()
    about = _ABOUT_TO_BE.fullmatch(version)
    if about is None:
        return version, trial
    # An earlier program that has ended the trial left the zero.
    return (about[1] + about[2]).removesuffix(_NO_NUMBERS), NO if trial == NO else NEXT


def write(file, partition, version, trial=NO):
    """Say that; a `version` of None: the slot holds nothing whole."""
    if trial == NEXT and version is not None:
        parts = _NUMBERED.fullmatch(version) or _NUMBERED.fullmatch(version + _NO_NUMBERS)
        version, trial = f"{parts[1]}0{parts[2]}", YES
    text = b"" if version is None else MAGIC + f"version {version}\ntrial {trial}\n".encode()
    os.pwrite(file.fileno(), text.ljust(SECTOR, b"\0"), partition.last * SECTOR)
    os.fsync(file.fileno())
