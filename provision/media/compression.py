"""The compressed formats that the kernel accepts for an initrd, unpacked piece by piece in bounded memory.

Each format says by itself where it ends, because a member may be followed by another. zstd and lz4 are not in
Python's library, nor is LZO: their frames are walked here (RFC 8878 section 3.1.1; lz4's doc/lz4_Frame_format.md,
legacy frame, the one that the kernel reads; lib/decompress_unlzo.c) and handed to the programs zstd, lz4 and lzop,
which run confined: who made an image may be a stranger.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from provision import proc
from provision.errors import Unavailable

CHUNK = 1024 * 1024
_MEMORY = 256 * 1024 * 1024
_LZ4_BLOCK = 8 * 1024 * 1024 + 8 * 1024 * 1024 // 255 + 16
_LZO_BLOCK = 256 * 1024
_LZO_LEVEL = 0x0940  # from this version on the header says level and the high half of the time
_LZO_SUMS, _LZO_PACKED_SUMS, _LZO_FILTER = 0x101, 0x202, 0x800
_UNPACK_TIME = 900.0
_GZIP_TEXT, _GZIP_NAME = 0x01, 0x08

_MAGIC = {
    "gzip": b"\x1f\x8b",
    "bzip2": b"BZh",
    "xz": b"\xfd7zXZ\x00",
    "lzma": b"\x5d\x00\x00",
    "zstd": b"\x28\xb5\x2f\xfd",
    "lz4": b"\x02\x21\x4c\x18",
    "lzo": b"\x89LZO\x00\r",
}
FORMATS = tuple(_MAGIC)
# Confined, zstd could not start the thread that writes.
_PROGRAMS = {
    "zstd": ("zstd", "-q", "-d", "-c", "--no-asyncio"),
    "lz4": ("lz4", "-q", "-d", "-c"),
    "lzo": ("lzop", "-q", "-d", "-c"),
}
# lz4 begins with threads since 1.10, and no option keeps it from that.
_THREADED = {"lz4"}


class Damaged(Exception):
    """A member is not readable to its end; the text goes on from "its archive ..."."""


def detect(head: bytes) -> str | None:
    """The name of the compressed format that begins with these bytes (six suffice)."""
    return next((name for name, magic in _MAGIC.items() if head.startswith(magic)), None)


class Stream(Protocol):
    """Unpacked pieces; `end` is the member's end in the file once all pieces have been taken."""

    end: int

    def __iter__(self) -> Iterator[bytes]: ...


def decompress(file: BinaryIO, format_: str, scratch: Path) -> Stream:
    """Unpack the member that starts at the file's position. Raises Damaged while it is iterated."""
    if format_ in _PROGRAMS:
        return _ByProgram(file, format_, scratch)
    return _ByLibrary(file, format_)


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gzip:
    """zlib's decompressor with the interface of bz2's and lzma's."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(31)
        self._full = False

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def needs_input(self) -> bool:
        return not self._zlib.unconsumed_tail and not self._full

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        out = self._zlib.decompress(self._zlib.unconsumed_tail + data, max_length)
        self._full = len(out) == max_length
        return out


class _ByLibrary:
    def __init__(self, file: BinaryIO, format_: str) -> None:
        self.end = file.tell()
        self._file, self._format = file, format_

    def _decompressor(self) -> _Decompressor:
        if self._format == "gzip":
            return _Gzip()
        if self._format == "bzip2":
            return bz2.BZ2Decompressor()
        kind = lzma.FORMAT_XZ if self._format == "xz" else lzma.FORMAT_ALONE
        return lzma.LZMADecompressor(kind, memlimit=_MEMORY)

    def _check_header(self) -> None:
        """Refuse parts of a gzip header (RFC 1952 section 2.3.1) that the kernel would take for compressed data."""
        head = self._file.read(4)
        self._file.seek(-len(head), 1)
        if self._format == "gzip" and len(head) == 4 and head[3] & ~(_GZIP_TEXT | _GZIP_NAME):
            raise Damaged(
                "has a gzip header with more than a file name, which the kernel cannot read: compress it again"
            )

    def __iter__(self) -> Iterator[bytes]:
        self._check_header()
        unpacker, read = self._decompressor(), 0
        try:
            while not unpacker.eof:
                data = self._file.read(CHUNK) if unpacker.needs_input else b""
                read += len(data)
                if unpacker.needs_input and not data:
                    raise Damaged("is cut short")
                yield unpacker.decompress(data, CHUNK)
                if isinstance(unpacker, lzma.LZMADecompressor) and unpacker.check in (
                    lzma.CHECK_CRC64,
                    lzma.CHECK_SHA256,
                ):
                    raise Damaged("has a check that the kernel cannot verify: compress it with 'xz --check=crc32'")
        except (zlib.error, lzma.LZMAError, OSError, ValueError) as error:
            raise Damaged(f"is damaged ({error})") from None
        self.end += read - len(unpacker.unused_data)


class _ByProgram:
    def __init__(self, file: BinaryIO, format_: str, scratch: Path) -> None:
        self._file, self._format, self._scratch = file, format_, scratch
        self._start = file.tell()
        self.end = {"zstd": _zstd_end, "lz4": _lz4_end, "lzo": _lzo_end}[format_](file)

    def __iter__(self) -> Iterator[bytes]:
        program, *options = _PROGRAMS[self._format]
        # Found first, so that a missing program is told from a damaged member.
        proc.find(program, program)
        # Never unpacked to the disk: a member of some KiB may be one of many GiB.
        packed = self._scratch / "member.packed"
        try:
            self._file.seek(self._start)
            with packed.open("wb") as out:
                for offset in range(self._start, self.end, CHUNK):
                    out.write(self._file.read(min(CHUNK, self.end - offset)))
            with packed.open("rb") as member:
                yield from proc.filtered(
                    [program, *options],
                    member,
                    package=program,
                    threads=self._format in _THREADED,
                    timeout=_UNPACK_TIME,
                )
        except proc.Unconfined:
            raise
        except Unavailable as error:
            raise Damaged(f"is damaged ({error.fact})") from None
        finally:
            packed.unlink(missing_ok=True)


def _exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise Damaged("is cut short")
    return data


def _zstd_end(file: BinaryIO) -> int:
    """Walk one frame's blocks (RFC 8878 section 3.1.1) and return where it ends."""
    descriptor = _exactly(file, 5)[4]
    single = descriptor >> 5 & 1
    content_size = (1 if single else 0, 2, 4, 8)[descriptor >> 6]
    _exactly(file, (0 if single else 1) + (0, 1, 2, 4)[descriptor & 3] + content_size)
    last = False
    while not last:
        header = int.from_bytes(_exactly(file, 3), "little")
        last, kind, size = bool(header & 1), header >> 1 & 3, header >> 3
        if kind == 3:
            raise Damaged("is damaged (a block of a reserved type)")
        _exactly(file, 1 if kind == 1 else size)
    _exactly(file, 4 if descriptor & 4 else 0)
    return file.tell()


def _lz4_end(file: BinaryIO) -> int:
    """Walk the blocks of a legacy frame, which ends where no block can follow: at four zeros or at the file's end. What
    an import puts behind the file has four zeros at least."""
    _exactly(file, 4)
    while True:
        head = file.read(4)
        size = struct.unpack("<I", head)[0] if len(head) == 4 else 0
        if not size:
            return file.tell() - len(head)
        if size > _LZ4_BLOCK:
            raise Damaged("is damaged, or is not followed by four zeros")
        _exactly(file, size)


def _lzo_end(file: BinaryIO) -> int:
    """Walk the blocks of an lzop file as the kernel does, which takes one checksum for each block, whatever the flags
    say; a block of no bytes ends it."""
    head = _exactly(file, 25)
    version, flags_at = int.from_bytes(head[9:11], "big"), 16 + (int.from_bytes(head[9:11], "big") >= _LZO_LEVEL)
    flags = int.from_bytes(head[flags_at : flags_at + 4], "big")
    if bin(flags & _LZO_SUMS).count("1") != 1 or flags & _LZO_PACKED_SUMS:
        raise Damaged("has other checksums than the kernel expects: compress it without 'lzop -F'")
    filters, times = 4 if flags & _LZO_FILTER else 0, 12 if version >= _LZO_LEVEL else 8
    file.seek(flags_at + 4 + filters + times - len(head), 1)
    _exactly(file, _exactly(file, 1)[0] + 4)
    while size := int.from_bytes(_exactly(file, 4), "big"):
        packed = int.from_bytes(_exactly(file, 8)[:4], "big")
        if size > _LZO_BLOCK or not 0 < packed <= size:
            raise Damaged("is damaged (a block of an impossible size)")
        _exactly(file, packed)
    return file.tell()
