"""The ustar archive of POSIX.1-1988, as far as a tree of plain files needs it; read as if a stranger had written it.

Layout: pax(1), "ustar Interchange Format". A writer and a reader of regular files with a path of at most 100 bytes.
There are no links, devices, extended headers, sparse files or sizes in binary; what else is met is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from provision.below import is_relative
from provision.errors import Invalid

BLOCK = 512
_RECORD = 20 * BLOCK
_MAX_PATH = 100
_MAX_SIZE = 0o77777777777
_OCTAL = re.compile(rb"[0-7]{1,11}[\0 ]*")
_MAGIC = b"ustar\x0000"


@dataclass(frozen=True)
class Member:
    """A regular file: its path, relative and normal, and its size in bytes."""

    path: str
    size: int


def header(member: Member) -> bytes:
    """The header of a regular file, mode 0644, of root, without a time; raises ValueError for a path or size that does
    not fit."""
    name = member.path.encode("ascii")
    if not is_relative(member.path) or len(name) > _MAX_PATH or not 0 <= member.size <= _MAX_SIZE:
        raise ValueError("does not fit into a ustar header")
    block = bytearray(BLOCK)
    block[: len(name)] = name
    block[100:136] = b"0000644\0" + b"0000000\0" * 2 + b"%011o\0" % member.size
    block[136:148] = b"00000000000\0"
    block[156:157] = b"0"
    block[257:265] = _MAGIC
    block[148:156] = b"%06o\0 " % _checksum(block)
    return bytes(block)


def padding(size: int) -> bytes:
    """What stands behind `size` bytes of a file."""
    return bytes(-size % BLOCK)


END = bytes(2 * BLOCK)
"""What stands behind the last file."""


class Reader:
    """Reads an archive from pieces of any size, in bounded memory."""

    def __init__(self, pieces: Iterable[bytes], subject: str) -> None:
        self._pieces, self._subject = iter(pieces), subject
        self._ready = memoryview(b"")

    def members(self) -> Iterator[tuple[Member, Iterator[bytes]]]:
        """Each file with its bytes, which have to be read before the next one.

        Raises Invalid, naming the subject, for anything that is not a plain file, and for an archive that ends early.
        """
        while any(block := self._exactly(BLOCK)):
            member = self._member(block)
            yield member, self._data(member.size)
            if any(self._exactly(-member.size % BLOCK)):
                raise self._damaged()
        if any(self._exactly(BLOCK)):
            raise self._damaged()
        # Whole records: other writers fill the last one up.
        rest = 0
        for piece in chain((bytes(self._ready),), self._pieces):
            rest += len(piece)
            if any(piece) or rest > 2 * _RECORD:
                raise self._damaged()

    def _member(self, block: bytes) -> Member:
        name, rest = block[:_MAX_PATH].partition(b"\0")[::2]
        size = _OCTAL.fullmatch(block[124:136])
        total = _OCTAL.fullmatch(block[148:156])
        plain = block[156:157] == b"0" and block[257:265] == _MAGIC and not any(block[345:500]) and not any(rest)
        if not plain or size is None or total is None or int(total[0].rstrip(b"\0 "), 8) != _checksum(block):
            raise self._damaged()
        try:
            path = name.decode("ascii")
        except UnicodeDecodeError:
            raise self._damaged() from None
        if not is_relative(path):
            raise self._damaged()
        return Member(path, int(size[0].rstrip(b"\0 "), 8))

    def _data(self, size: int) -> Iterator[bytes]:
        while size:
            piece = self._some(size)
            size -= len(piece)
            yield piece

    def _some(self, most: int) -> bytes:
        while not self._ready:
            try:
                self._ready = memoryview(next(self._pieces))
            except StopIteration:
                raise Invalid(self._subject, "ends early", "try again") from None
        part, self._ready = self._ready[:most], self._ready[most:]
        return bytes(part)

    def _exactly(self, size: int) -> bytes:
        parts = bytearray()
        while len(parts) < size:
            parts += self._some(size - len(parts))
        return bytes(parts)

    def _damaged(self) -> Invalid:
        return Invalid(self._subject, "is not an archive of plain files", "look at the service, which should give one")


def _checksum(block: bytes | bytearray) -> int:
    """The sum of a header's bytes, with spaces where the sum itself stands."""
    return sum(block) - sum(block[148:156]) + 8 * 0x20
