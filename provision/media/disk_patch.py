"""A disk patch: what makes one host's disk of its base's, for stations that write many (docs/media-format.md, "Disk
patches"). A header of 4 KiB that a shell can read, then the bytes of each patch, one after the other.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from provision.errors import Invalid
from provision.media.plan import Plan

FORMAT = "provision-disk-patch 1"
HEADER = 4096
_HEADER = re.compile(
    rf"{FORMAT}\nhost ([a-z0-9-]{{1,63}})\nimage ([a-z0-9-]{{1,63}})\nbase ([0-9a-f]{{64}}) ([0-9]{{1,16}})\n"
    r"((?:patch [0-9]{1,16} [0-9]{1,10} [0-9]{1,10} [0-9a-f]{64}\n)*)end\n\n*"
)


@dataclass(frozen=True)
class Described:
    """What a patch says of itself: whose it is, and the image, the hex SHA-256 and the bytes of its base disk."""

    host: str
    image: str
    base_sha256: str
    base_size: int


def encode(host: str, image: str, plan: Plan) -> bytes:
    """The patch that makes the host's disk of the base disk: `plan` is of the raw disk. It is as secret as the disk."""
    lines, at = [FORMAT, f"host {host}", f"image {image}", f"base {plan.base_digest} {plan.size}"], HEADER
    for patch in plan.patches:
        digest = hashlib.sha256(patch.data).hexdigest()
        lines.append(f"patch {patch.offset} {len(patch.data)} {at} {digest}")
        at += len(patch.data)
    head = "\n".join((*lines, "end", "")).encode()
    if len(head) > HEADER:
        raise ValueError("a disk has too many patches for their header")
    return head.ljust(HEADER, b"\n") + b"".join(patch.data for patch in plan.patches)


def describe(data: bytes) -> Described:
    """What the patch that begins with these bytes says; raises Invalid for other bytes."""
    found = _HEADER.fullmatch(data[:HEADER].decode("ascii", "replace"))
    if found is None or len(data) < HEADER:
        raise Invalid("disk patch", "is not one that this program knows", "use the server's version of it")
    return Described(found[1], found[2], found[3], int(found[4]))
