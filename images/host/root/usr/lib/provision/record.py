"""A host's envelope on its configuration partition: docs/media-format.md, "A sealed record".

There are two copies, of which one is always whole. A write goes over both, and over all that stood there before.
"""

import hashlib
import os
import re
from pathlib import Path

_MAGIC, _SEALED = b"provision-identity 1", b"provision-sealed 1"
_BLOCK, _SECTOR, _PIECE = 4096, 512, 1 << 20
_HEADER = re.compile(rb"(" + _MAGIC + rb"\n(00[0-9]{18})\n([0-9]{20})\n([0-9a-f]{64})\n)([0-9a-f]{64})\n\0*")
_LAST = 10**18 - 1
"""No number beyond it is read; after it they start over, so that none keeps a host from its next record."""
_LENGTHS = re.compile(rb"([0-9]{1,10}) ([0-9]{1,10})")


def pack(envelope, seed=b""):
    """What is kept: the envelope, and the signed seed of a host that has to fetch one; each as the server gave it."""
    return b"\n".join((_SEALED, b"%d %d" % (len(envelope), len(seed)), envelope + seed))


def unpack(content):
    """Envelope and signed seed (b"" for none) of what is kept; None for anything else, an identity in clear too."""
    magic, _, rest = content.partition(b"\n")
    lengths, _, both = rest.partition(b"\n")
    found = _LENGTHS.fullmatch(lengths)
    if magic != _SEALED or found is None or int(found[1]) + int(found[2]) != len(both):
        return None
    return both[: int(found[1])], both[int(found[1]) :]


class Partition:
    """The configuration partition: a device, or a file."""

    def __init__(self, path):
        self._path = Path(path)

    def kept(self):
        """Envelope and signed seed of the newest whole copy, or None."""
        with self._path.open("rb") as file:
            _, _, content = max(self._copies(file), default=(0, 0, b""))
        return unpack(content)

    def write(self, content):
        """Let both copies have the content and nothing else, the older one first. Raises OSError."""
        with self._path.open("r+b", buffering=0) as file:
            size = os.lseek(file.fileno(), 0, os.SEEK_END)
            room = size // 2 // _BLOCK * _BLOCK
            if len(content) > room - _BLOCK:
                raise OSError("it is too small")
            highest, newest, _ = max(self._copies(file), default=(0, 1, b""))
            if highest + 2 > _LAST:
                highest = 0
            for number, place in enumerate((1 - newest, newest), start=1):
                self._put(file, place * room, size if place else room, highest + number, content)

    def _put(self, file, start, end, sequence, content):
        """Content and zeros up to `end`, then the header, in one sector."""
        file.seek(start + _SECTOR)
        rest = memoryview(bytes(_BLOCK - _SECTOR) + content.ljust(end - start - _BLOCK, b"\0"))
        while rest:
            rest = rest[file.write(rest[:_PIECE]) :]
        os.fsync(file.fileno())
        text = b"%s\n%020d\n%020d\n%s\n" % (_MAGIC, sequence, len(content), _sum(content))
        file.seek(start)
        file.write((text + _sum(text) + b"\n").ljust(_SECTOR, b"\0"))
        os.fsync(file.fileno())

    def _copies(self, file):
        """Number, place and content of each whole copy."""
        room = os.lseek(file.fileno(), 0, os.SEEK_END) // 2 // _BLOCK * _BLOCK
        for place in (0, 1):
            file.seek(place * room)
            head = _HEADER.fullmatch(file.read(_SECTOR))
            if head is None or _sum(head[1]) != head[5] or int(head[3]) > room - _BLOCK:
                continue
            file.seek(place * room + _BLOCK)
            content = file.read(int(head[3]))
            if len(content) == int(head[3]) and _sum(content) == head[4]:
                yield int(head[2]), place, content


def _sum(data):
    return hashlib.sha256(data).hexdigest().encode()
