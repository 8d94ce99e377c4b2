"""The configuration partition: where a host with storage keeps its identity, in two copies, of which one is always
whole. docs/media-format.md, "The configuration partition"; images/common/initramfs/identity is its other reader.

Copy 0 begins at byte 0, and copy 1 in the middle of the partition. Each is a header in one sector, and the content (a
seed's archive) behind the first 4 KiB. The older copy is overwritten, content first; so whatever moment the power goes,
the newest copy whose header and content are whole is the old identity or the new one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from provision.errors import Invalid

TYPE = UUID("7a4ab2a4-0e0e-4f5c-9a8d-6b1c1f7c2d10")
"""The partition's type."""
NAME = "provision-config"
"""The partition's name in the GPT."""
BLOCK, SECTOR = 4096, 512
_MAGIC = "provision-identity 1"
_HEADER = re.compile(
    rb"(" + _MAGIC.encode() + rb"\n(00[0-9]{18})\n([0-9]{20})\n([0-9a-f]{64})\n)([0-9a-f]{64})\n\0*", re.DOTALL
)


@dataclass(frozen=True)
class Copy:
    """One whole copy: its place (0 or 1), its number, which grows with each write, and what it holds."""

    place: int
    sequence: int
    content: bytes = field(repr=False)


def capacity(size: int) -> int:
    """Bytes that a copy can hold in a partition of `size` bytes."""
    return max(0, size // 2 // BLOCK * BLOCK - BLOCK)


def write(size: int, place: int, sequence: int, content: bytes) -> Sequence[tuple[int, bytes]]:
    """What to write into a partition of `size` bytes, at which offsets, in this order and with a flush behind each.

    Raises Invalid when it does not fit.
    """
    if len(content) > capacity(size):
        fact = f"holds {capacity(size)} bytes in each copy, and the host's identity has {len(content)}"
        raise Invalid("configuration partition", fact, "make it larger")
    start = place * (size // 2 // BLOCK * BLOCK)
    padded = content + bytes(-len(content) % BLOCK)
    return (start + BLOCK, padded), (start, _header(sequence, content))


def first(content: bytes) -> bytes:
    """What a partition begins with that has never had another identity than `content`, in its first copy."""
    return _header(1, content).ljust(BLOCK, b"\0") + content


def newest(partition: bytes) -> Copy | None:
    """The newest whole copy, or None when there is none."""
    found = [copy for place in (0, 1) if (copy := _read(partition, place)) is not None]
    return max(found, key=lambda copy: copy.sequence, default=None)


def _header(sequence: int, content: bytes) -> bytes:
    text = f"{_MAGIC}\n{sequence:020d}\n{len(content):020d}\n{hashlib.sha256(content).hexdigest()}\n"
    return (text + hashlib.sha256(text.encode()).hexdigest() + "\n").encode().ljust(SECTOR, b"\0")


def _read(partition: bytes, place: int) -> Copy | None:
    start = place * (len(partition) // 2 // BLOCK * BLOCK)
    match = _HEADER.fullmatch(partition[start : start + SECTOR])
    if match is None or hashlib.sha256(match[1]).hexdigest().encode() != match[5]:
        return None
    length = int(match[3])
    content = partition[start + BLOCK : start + BLOCK + length]
    whole = len(content) == length and length <= capacity(len(partition))
    if not whole or hashlib.sha256(content).hexdigest().encode() != match[4]:
        return None
    return Copy(place, int(match[2]), content)
