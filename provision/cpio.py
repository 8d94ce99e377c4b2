"""The `newc` cpio archive, which the Linux kernel unpacks as an initrd.

Layout: Documentation/driver-api/early-userspace/buffer-format.rst of the kernel. The writer fixes everything that the
kernel does not need (owner, link count, inode numbers, times), so that the same entries give the same bytes.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from provision.below import is_relative
from provision.errors import Invalid

BLOCK = 512
"""Archives are padded to this many bytes, so that whatever a boot loader appends stays aligned to 4."""

_MAGIC = b"070701"
_TRAILER = "TRAILER!!!"
_HEADER = len(_MAGIC) + 13 * 8
_LIMIT = 0xFFFFFFFF


@dataclass(frozen=True)
class Entry:
    """One member: `path` without a leading slash, `mode` with its file type, `data` (a symlink's is its target)."""

    path: str
    mode: int
    data: bytes = field(default=b"", repr=False)

    @property
    def is_directory(self) -> bool:
        """Whether the mode says so."""
        return stat.S_ISDIR(self.mode)


@dataclass(frozen=True)
class Member(Entry):
    """An entry as it was read, with what the archive says of it."""

    inode: int = 0
    uid: int = 0
    gid: int = 0
    links: int = 1
    mtime: int = 0


def directory(path: str, permissions: int = 0o755) -> Entry:
    """A directory."""
    return Entry(path, stat.S_IFDIR | permissions)


def file(path: str, data: bytes, permissions: int = 0o644) -> Entry:
    """A regular file."""
    return Entry(path, stat.S_IFREG | permissions, data)


def symlink(path: str, target: str) -> Entry:
    """A symbolic link."""
    return Entry(path, stat.S_IFLNK | 0o777, target.encode())


def tree(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """The entries sorted so that parents come first, with every missing parent directory added (0755)."""
    found = {entry.path: entry for entry in entries}
    for path in tuple(found):
        parent = path.rpartition("/")[0]
        while parent and parent not in found:
            found[parent] = directory(parent)
            parent = parent.rpartition("/")[0]
    return tuple(sorted(found.values(), key=lambda entry: entry.path.split("/")))


def pack(entries: Iterable[Entry], mtime: int = 0) -> bytes:
    """The archive of `entries` in the order given, root:root, padded to 512 bytes; `mtime` in seconds since 1970.

    Raises ValueError for a path that is absolute, not normal or used twice, and for a member before its directory:
    the kernel would drop that one silently.
    """
    parts: list[bytes] = []
    directories = {""}
    seen: set[str] = set()
    for number, entry in enumerate(entries, start=1):
        _check(entry, seen, directories)
        parts.append(_record(number, entry, mtime))
    parts.append(_record(0, Entry(_TRAILER, 0), 0))
    size = sum(map(len, parts))
    return b"".join((*parts, bytes(-size % BLOCK)))


def read(stream: BinaryIO, subject: str = "archive") -> Iterator[Member]:
    """The members of one archive, up to and without its trailer; `stream` is left behind the trailer's padding.

    Raises Invalid, naming `subject`, for bytes that are no newc archive and for an archive that ends early.
    """
    while True:
        header = _exactly(stream, _HEADER, subject)
        if header[:6] != _MAGIC:
            raise Invalid(subject, "is not a newc cpio archive, or is damaged", "build it again with 'cpio -H newc'")
        try:
            numbers = [int(header[i : i + 8], 16) for i in range(6, _HEADER, 8)]
        except ValueError:
            raise Invalid(subject, "has a damaged cpio header", "build it again with 'cpio -H newc'") from None
        inode, mode, uid, gid, links, mtime, size, _, _, _, _, length, _ = numbers
        name = _exactly(stream, length, subject)
        _exactly(stream, -(_HEADER + length) % 4, subject)
        data = _exactly(stream, size, subject)
        _exactly(stream, -size % 4, subject)
        path = name.rstrip(b"\0").decode("utf-8", "surrogateescape")
        if path == _TRAILER:
            return
        if path != "." and not is_relative(path):
            raise Invalid(subject, "has a member whose path is not relative and normal", "build it again")
        yield Member(path, mode, data, inode, uid, gid, links, mtime)


def _check(entry: Entry, seen: set[str], directories: set[str]) -> None:
    parts = entry.path.split("/")
    if "" in parts or ".." in parts or (parts != ["."] and "." in parts) or "\0" in entry.path:
        raise ValueError(f"cpio: the path {entry.path!r} is not relative and normal")
    if entry.path in seen or entry.path in (".", _TRAILER):
        raise ValueError(f"cpio: the path {entry.path!r} comes twice or is reserved")
    if entry.path.rpartition("/")[0] not in directories:
        raise ValueError(f"cpio: {entry.path!r} comes before its directory")
    seen.add(entry.path)
    if entry.is_directory:
        directories.add(entry.path)


def _record(inode: int, entry: Entry, mtime: int) -> bytes:
    name = entry.path.encode() + b"\0"
    if not 0 <= mtime <= _LIMIT or len(entry.data) > _LIMIT:
        raise ValueError(f"cpio: {entry.path!r} has a time or a size that newc cannot hold")
    numbers = (inode, entry.mode, 0, 0, 1, mtime, len(entry.data), 0, 0, 0, 0, len(name), 0)
    header = _MAGIC + b"%08X" * 13 % numbers
    return header + name + bytes(-(_HEADER + len(name)) % 4) + entry.data + bytes(-len(entry.data) % 4)


def _exactly(stream: BinaryIO, size: int, subject: str) -> bytes:
    # A decompressor may return less than asked for; only an empty read is the end.
    parts: list[bytes] = []
    while size > 0:
        part = stream.read(min(size, 1 << 20))
        if not part:
            raise Invalid(subject, "ends before its cpio trailer", "copy or build it again")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
